"""Evaluates a model folder suite by suite; a suite that is done is not done again."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from transformers import PreTrainedModel

from stillroom.analysis import check_heads, head_scores
from stillroom.config import EvaluationConfig, SourceConfig, StudyConfig, parse
from stillroom.console import Terminal, line
from stillroom.corpora import Corpus, load_tokenizer, open_corpus
from stillroom.evaluation import (
    Heldout,
    contamination,
    copying_tokens,
    evaluate,
    item_tokens,
    longest_items,
    sample,
    token_bytes,
)
from stillroom.evaluation.sampling.draw import Sampler
from stillroom.files import fingerprint, read_json, write_json, write_text
from stillroom.results.compare import write_comparison
from stillroom.results.json_form import as_json
from stillroom.results.statistics import NotFiniteError, require_finite_parts
from stillroom.study.external import External, evaluate_external, measuring
from stillroom.study.folders import parts
from stillroom.study.measurable import fewest_positions, refuse_too_long
from stillroom.study.progress import StageDisplay
from stillroom.study.teacherfolders import check_measured, teacher_folder, teacher_hash
from stillroom.study.train_stage import load_here
from stillroom.types import UserError
from stillroom.worlds.base import Counterfactual, Problem
from stillroom.worlds.facts import chance, counterfactuals
from stillroom.worlds.problems import problems

Progress = Callable[[int, int], None]
Sources = dict[str, SourceConfig]


def evaluate_into(
    folder: Path,
    model_folder: Path,
    config: EvaluationConfig,
    sources: Sources,
    corpus: Corpus | None,
    progress: Progress,
    external: External | None = None,
) -> None:
    """Writes ``evaluation.json`` and ``samples.jsonl`` into ``folder``; finished suites there are kept.

    Without a corpus only what is ``external`` is measured, with the model's own tokenizer.
    """
    model = load_here(model_folder)
    folder.mkdir(parents=True, exist_ok=True)  # now that the model is known to be one
    with _naming(model_folder):
        _evaluate_into(folder, model_folder, model, config, sources, corpus, progress, external)


@contextlib.contextmanager
def _naming(model_folder: Path) -> Iterator[None]:
    """Says whose scores are not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise UserError(f"{model_folder}: {error}") from error


def _evaluate_into(
    folder: Path,
    model_folder: Path,
    model: PreTrainedModel,
    config: EvaluationConfig,
    sources: Sources,
    corpus: Corpus | None,
    progress: Progress,
    external: External | None,
) -> None:
    parts: dict[str, Any] = {}
    if corpus is not None:
        if "heads" in config.suites:
            check_heads(model)  # before any suite is measured
        for suite in config.suites:
            cached = folder / f"suite-{suite}.json"
            if not cached.exists():
                sampler = sample if external is None else external.sampler(model_folder)
                with measuring(f"suite {suite}"):
                    part, samples = _suite(suite, model, config, sources, corpus, progress, sampler)
                    require_finite_parts(part)
                if samples:
                    write_text(folder / "samples.jsonl", "".join(_line(sample) for sample in samples))
                write_json(cached, part)
            parts |= read_json(cached)
        parts |= _cached_contamination(folder, config, sources, corpus, progress)
    if external is not None:
        tokenizer = load_tokenizer(model_folder) if corpus is None else corpus.tokenizer
        parts |= evaluate_external(folder, model_folder, model, tokenizer, config, external, progress)
    write_json(folder / "evaluation.json", parts)
    if not (folder / "samples.jsonl").exists():
        write_text(folder / "samples.jsonl", "")


def keep_evaluated(folder: Path, damaged: list[str]) -> bool:
    """Takes the partners of damaged files out of an evaluation, so that ``evaluate_into`` measures those suites again.

    A suite's samples are written as it is measured; ``evaluation.json`` is put together from what is there.
    """
    for name in damaged:
        kind, _, rest = Path(name).stem.partition("-")
        if kind == "samples":
            pattern = f"suite-*-{rest}.json" if rest else "suite-tts.json"
        else:
            pattern = "samples.jsonl" if rest == "tts" else f"samples-{rest.partition('-')[2]}.jsonl"
        for partner in folder.glob(pattern):
            partner.unlink()
    return True


def _cached_contamination(
    folder: Path, config: EvaluationConfig, sources: Sources, corpus: Corpus, progress: Progress
) -> dict[str, Any]:
    if not config.contamination_ngram:
        return {}
    cached = folder / "suite-contamination.json"
    if not cached.exists():
        write_json(cached, {"contamination": _contamination(config, sources, corpus, progress)})
    return read_json(cached)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _suite(
    suite: str,
    model: PreTrainedModel,
    config: EvaluationConfig,
    sources: Sources,
    corpus: Corpus,
    progress: Progress,
    sampler: Sampler,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config = config.model_copy(update={"suites": (suite,)})
    if suite == "heads":
        tokens_BT = copying_tokens(corpus.tokenizer, config, corpus.heldout)
        scores = head_scores(model, tokens_BT, period=config.copying_period, progress=progress)
        return {"heads": scores.as_dict()}, []
    return evaluate(
        model,
        corpus.tokenizer,
        config,
        heldout=_heldout(corpus),
        problems=_problems(config, sources),
        counterfactuals=_counterfactuals(config, sources),
        counterfactual_chance=chance(_options(sources, "facts")),
        sampler=sampler,
        progress=lambda part, done, total: progress(done, total),
    )


def _contamination(config: EvaluationConfig, sources: Sources, corpus: Corpus, progress: Progress) -> dict[str, Any]:
    """How much of the items of the suites asked for the training text holds."""
    items = item_tokens(
        corpus.tokenizer,
        config,
        heldout=_heldout(corpus),
        problems=_problems(config, sources),
        counterfactuals=_counterfactuals(config, sources),
    )
    return contamination(
        items,
        corpus.train,
        n=config.contamination_ngram,
        max_sequences=config.contamination_sequences,
        progress=progress,
    )


def _heldout(corpus: Corpus) -> Heldout:
    corpus.check_bytes()
    return Heldout(
        sequences=corpus.heldout,
        byte_lengths_V=token_bytes(corpus.tokenizer),
        source_names=corpus.source_names,
        source_codes=corpus.heldout.source,
        documents=corpus.heldout.source.astype(np.int64) << 32 | corpus.heldout.document,
        bytes_of=corpus.heldout.token_bytes,
        isolate=corpus.isolate,
    )


def _problems(config: EvaluationConfig, sources: Sources) -> list[Problem]:
    if "tts" not in config.suites:
        return []
    return problems(config.problems, config.seed, options=_options(sources, "problems"))


def _counterfactuals(config: EvaluationConfig, sources: Sources) -> list[Counterfactual]:
    if "icl" not in config.suites or all(source.kind != "facts" for source in sources.values()):
        return []
    return counterfactuals(config.counterfactual_items, config.seed, options=_options(sources, "facts"))


def check_items(config: StudyConfig, corpus: Corpus) -> None:
    """Refuses a study whose models cannot hold the items that they will be measured on, before they are trained."""
    asked, sources = config.evaluation, config.corpus.sources
    longest = longest_items(
        corpus.tokenizer,
        asked,
        heldout=_heldout(corpus),
        problems=_problems(asked, sources),
        counterfactuals=_counterfactuals(asked, sources),
    )
    needs = ((field, tokens, "shorten or leave out what needs it") for field, tokens in longest.items())
    refuse_too_long(needs, *fewest_positions(config))


def _options(sources: Sources, kind: str) -> dict[str, Any]:
    """The options of the study's own world of a kind, so that items come from the world that was trained on."""
    return next((dict(source.options) for source in sources.values() if source.kind == kind), {})


def evaluate_models(
    models: list[Path],
    corpus_folder: Path | None,
    suites: list[str],
    out: Path,
    values: dict[str, Any],
    display: StageDisplay,
    external: External | None = None,
) -> None:
    """Evaluates model folders side by side into ``out/<name>``, compares them, and prints one table."""
    config = parse(EvaluationConfig, {"suites": suites, **values}, "evaluate")
    if external is not None:
        external.check(config)
    elif not suites:
        raise UserError("evaluate: --suite names none and no benchmark is given; name something to measure.")
    corpus, sources = _opened(corpus_folder, external)
    folders: dict[str, Path] = {}
    for given in models:
        model = Path(teacher_folder(str(given)))
        if corpus is not None and (note := check_measured(str(model), corpus)):
            display.console.print(note, style="yellow", markup=False, soft_wrap=True)
        name = model.parent.name if model.name == "model" else model.name
        owner = [teacher_hash(str(model)), None if corpus is None else corpus.identity, config.canonical()]
        key = fingerprint(owner if external is None else [*owner, external.identity()], 8)
        folder = out / f"{name}-{key}"
        title = f"evaluate {name}"
        with (
            parts(folder, keep_evaluated, functools.partial(display.damaged, title)),
            display.stage(title, "items") as update,
        ):
            evaluate_into(folder, model, config, sources, corpus, update, external)
        folders[folder.name if name in folders else name] = folder
        display.console.print(line((folder / "evaluation.json", "dim")), soft_wrap=True)
    results = {name: read_json(folder / "evaluation.json") for name, folder in folders.items()}
    console = Terminal()
    console.print(estimates_table(results))
    if any("needle" in result for result in results.values()):
        console.print(needle_table(results))
    if len(folders) > 1:
        comparison = as_json(write_comparison(out / "comparison.json", folders, config.ks, seed=config.seed))
        console.print(comparison_table(comparison))
        if comparison["by_seed"]:
            console.print(seeds_table(comparison["by_seed"]))
        display.console.print(line((out / "comparison.json", "dim")), soft_wrap=True)


def _opened(folder: Path | None, external: External | None) -> tuple[Corpus | None, Sources]:
    """The corpus, and the sources that it was made of."""
    if folder is None:
        if external is None:
            raise UserError("evaluate: --corpus is missing; give the folder of a built corpus, or --lm-eval TASKS.")
        return None, {}
    corpus = open_corpus(folder)
    return corpus, {name: parse(SourceConfig, value, name) for name, value in corpus.manifest["source_configs"].items()}


def comparison_table(comparison: dict[str, Any]) -> Table:
    """Every paired difference from the baseline, a row each, a column per model, with corrected p-values."""
    title = f"Difference from {comparison['baseline']}, paired by item; p-values corrected for their number (Holm)"
    return _by_measure(title, {name: dict(_differences(part)) for name, part in comparison["against"].items()})


def _differences(part: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(part, dict):
        return
    if {"value", "low", "high"} <= part.keys():
        test = f" p={_number(part['p_holm'])}" if "p_holm" in part else ""
        yield prefix, f"{_with_interval(part, '+')}{test}"
        return
    for name, inner in part.items():
        yield from _differences(inner, f"{prefix} {name.replace('_', ' ')}".strip())


def seeds_table(found: dict[str, Any]) -> Table:
    """Means over seeds and differences from the baseline's arm, a row for each measure, two columns for each arm."""
    columns: dict[str, dict[str, str]] = {}
    for name, arm in found["arms"].items():
        seeds = f"{name}, {len(arm['seeds'])} seeds"
        columns[seeds] = {measure: _with_interval(cell["mean"]) for measure, cell in arm["measures"].items()}
        if name != found["baseline"]:
            differences = {measure: cell.get("difference") for measure, cell in arm["measures"].items()}
            columns[f"{name} minus {found['baseline']}"] = {
                measure: f"{_with_interval(one, '+')} p={_number(one['p_holm'])}"
                for measure, one in differences.items()
                if one is not None
            }
    return _by_measure("Over seeds: 95 % intervals of Student's t, p-values corrected for their number (Holm)", columns)


def _with_interval(estimate: dict[str, Any], sign: str = "") -> str:
    value, low, high = (_number(estimate[name], sign) for name in ("value", "low", "high"))
    return value if estimate["low"] is None and estimate["high"] is None else f"{value} [{low}, {high}]"


def _number(value: float | None, sign: str = "") -> str:
    """A number for a table, and a dash where there is none."""
    return "–" if value is None else f"{value:{sign}.3f}"


def estimates_table(results: dict[str, dict[str, Any]]) -> Table:
    """Every estimate of several evaluations, a row each, a column per model, with 95 % intervals."""
    return _by_measure(
        "95 % intervals in brackets", {name: dict(_estimates(result)) for name, result in results.items()}
    )


def needle_table(results: dict[str, dict[str, Any]]) -> Table:
    """Share of needles found, a row for each model and length of the text, a column for each depth of the fact."""
    found = {name: result["needle"] for name, result in results.items() if "needle" in result}
    depths = next(iter(found.values()))["depths"]
    table = Table(title="Needle in a haystack: found, by tokens and depth (0 first, 1 last)", title_justify="left")
    for heading in ("model", "tokens", *(f"depth {depth:g}" for depth in depths)):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, needle in found.items():
        for length, row in zip(needle["lengths"], needle["grid"], strict=True):
            table.add_row(
                name, str(length), *("–" if cell["value"] is None else f"{cell['value']:.2f}" for cell in row)
            )
    return table


def _by_measure(title: str, columns: dict[str, dict[str, str]]) -> Table:
    """A row for every measure that any column has, in the order in which they first appear."""
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for name in columns:
        table.add_column(name, justify="right")
    for measure in dict.fromkeys(measure for column in columns.values() for measure in column):
        table.add_row(measure, *(column.get(measure, "") for column in columns.values()))
    return table


def _estimates(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    if {"value", "low", "high"} <= value.keys():
        yield prefix, _with_interval(value)
        return
    for name, inner in value.items():
        yield from _estimates(inner, f"{prefix} {name}".strip())
