"""Evaluates a model folder suite by suite; a suite that is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from stillroom.analysis import head_scores
from stillroom.config import EvaluationConfig, SourceConfig, parse
from stillroom.corpora import Corpus, open_corpus
from stillroom.evaluation import Heldout, copying_tokens, evaluate, token_bytes
from stillroom.files import fingerprint, read_json, write_json, write_text
from stillroom.models import load_model
from stillroom.study.labels import teacher_folder, teacher_hash
from stillroom.study.progress import StageDisplay
from stillroom.worlds.facts import chance, counterfactuals
from stillroom.worlds.problems import problems

Progress = Callable[[int, int], None]
Sources = dict[str, SourceConfig]


def evaluate_into(
    folder: Path, model_folder: Path, config: EvaluationConfig, sources: Sources, corpus: Corpus, progress: Progress
) -> None:
    """Writes ``evaluation.json`` and ``samples.jsonl`` into ``folder``; finished suites there are kept."""
    model = load_model(model_folder)
    parts: dict[str, Any] = {}
    for suite in config.suites:
        cached = folder / f"suite-{suite}.json"
        if not cached.exists():
            part, samples = _suite(suite, model, config, sources, corpus, progress)
            if samples:
                write_text(folder / "samples.jsonl", "".join(_line(sample) for sample in samples))
            write_json(cached, part)
        parts |= read_json(cached)
    write_json(folder / "evaluation.json", parts)
    if not (folder / "samples.jsonl").exists():
        write_text(folder / "samples.jsonl", "")


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _suite(
    suite: str,
    model: PreTrainedModel,
    config: EvaluationConfig,
    sources: Sources,
    corpus: Corpus,
    progress: Progress,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config, tokenizer = config.model_copy(update={"suites": (suite,)}), corpus.tokenizer
    heldout = Heldout(
        sequences=corpus.heldout,
        byte_lengths_V=token_bytes(tokenizer),
        source_names=corpus.source_names,
        source_codes=corpus.heldout.source,
        documents=corpus.heldout.source.astype(np.int64) << 32 | corpus.heldout.document,
        isolate=corpus.isolate,
    )
    if suite == "heads":
        tokens_BT = copying_tokens(tokenizer, config, corpus.heldout)
        scores = head_scores(model, tokens_BT, period=config.copying_period, progress=progress)
        return {"heads": scores.as_dict()}, []
    return evaluate(
        model,
        tokenizer,
        config,
        heldout=heldout,
        problems=problems(config.problems, config.seed, options=_options(sources, "problems"))
        if suite == "tts"
        else (),
        counterfactuals=(
            counterfactuals(config.counterfactual_items, config.seed, options=_options(sources, "facts"))
            if suite == "icl" and any(source.kind == "facts" for source in sources.values())
            else ()
        ),
        counterfactual_chance=chance(_options(sources, "facts")),
        progress=lambda part, done, total: progress(done, total),
    )


def _options(sources: Sources, kind: str) -> dict[str, Any]:
    """The options of the study's own world of a kind, so that items come from the world that was trained on."""
    return next((dict(source.options) for source in sources.values() if source.kind == kind), {})


def evaluate_models(
    models: list[Path], corpus_folder: Path, suites: list[str], out: Path, values: dict[str, Any], display: StageDisplay
) -> None:
    """Evaluates model folders side by side into ``out/<name>`` and prints one table."""
    config = parse(EvaluationConfig, {"suites": suites, **values}, "evaluate")
    corpus = open_corpus(corpus_folder)
    sources = {name: parse(SourceConfig, value, name) for name, value in corpus.manifest["source_configs"].items()}
    results: dict[str, dict[str, Any]] = {}
    for given in models:
        model = Path(teacher_folder(str(given)))
        name = model.parent.name if model.name == "model" else model.name
        key = fingerprint([teacher_hash(str(model)), corpus.identity, config.canonical()], 8)
        folder = out / f"{name}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        with display.stage(f"evaluate {name}", "items") as update:
            evaluate_into(folder, model, config, sources, corpus, update)
        results[folder.name if name in results else name] = read_json(folder / "evaluation.json")
        display.console.print(f"{folder / 'evaluation.json'}", soft_wrap=True, style="dim")
    Console().print(estimates_table(results))


def estimates_table(results: dict[str, dict[str, Any]]) -> Table:
    """Every estimate of several evaluations, a row each, a column per model, with 95 % intervals."""
    table = Table(title="95 % intervals in brackets", title_justify="left")
    table.add_column("measure")
    columns = {name: dict(_estimates(result)) for name, result in results.items()}
    for name in columns:
        table.add_column(name, justify="right")
    for measure in dict.fromkeys(measure for column in columns.values() for measure in column):
        table.add_row(measure, *(column.get(measure, "") for column in columns.values()))
    return table


def _estimates(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    if {"value", "low", "high"} <= value.keys():
        yield prefix, f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        return
    for name, inner in value.items():
        yield from _estimates(inner, f"{prefix} {name}".strip())
