"""Evaluates a model folder suite by suite; a suite that is done is not done again."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from stillroom.config import EvaluationConfig, SourceConfig, StudyConfig, parse
from stillroom.console import Terminal, line
from stillroom.corpora import Corpus, open_corpus
from stillroom.evaluation import Material, Suite, contamination, find_suite, sample
from stillroom.evaluation.sampling.draw import Sampler
from stillroom.files import fingerprint, read_json, write_json, write_text
from stillroom.places import RunPart, find_part, find_parts
from stillroom.results.compare import write_comparison
from stillroom.results.json_form import Json, as_json, read
from stillroom.results.schema import Evaluation, StudyRecord
from stillroom.results.statistics import NotFiniteError, require_finite_parts
from stillroom.results_versions import results_version
from stillroom.study.evaluation_tables import (
    comparison_table,
    estimates_table,
    headline_rows,
    multipliers_table,
    needle_table,
    seed_means_table,
)
from stillroom.study.external import External, evaluate_external, measuring
from stillroom.study.folders import parts
from stillroom.study.ladder import write_worth
from stillroom.study.measurable import fewest_positions, refuse_too_long
from stillroom.study.measured_text import MeasuredText, Sources, material_of, text_for
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.teacherfolders import teacher_hash
from stillroom.study.train_stage import load_here
from stillroom.types import OnProgress, UserError


def evaluate_into(
    folder: Path,
    model_folder: Path,
    config: EvaluationConfig,
    text: MeasuredText,
    progress: OnProgress,
    external: External | None = None,
) -> None:
    """Writes ``evaluation.json`` and files of samples into ``folder``; finished suites there are kept.

    Without a corpus, suites that need one are left out.
    """
    model = load_here(model_folder)
    folder.mkdir(parents=True, exist_ok=True)  # now that the model is known to be one
    material, corpus = text.material, text.corpus
    sampler = sample if external is None else external.sampler(model_folder)
    suites = _measurable(config, corpus)
    found: dict[str, Json] = {} if text.measured_on is None else {"measured_on": as_json(text.measured_on)}
    with _naming(model_folder):
        for suite in suites:
            suite.check(model)
        for suite in suites:
            found |= _suite(folder, suite, model, config, material, sampler, progress)
        if corpus is not None and text.material_of_corpus is not None and config.contamination_ngram:
            found |= _contamination(folder, suites, config, text.material_of_corpus, corpus, progress)
        if external is not None:
            found |= evaluate_external(folder, model_folder, model, material.tokenizer, config, external, progress)
    write_json(folder / "evaluation.json", found)
    if not (folder / "samples.jsonl").exists():
        write_text(folder / "samples.jsonl", "")


@contextlib.contextmanager
def _naming(model_folder: Path) -> Iterator[None]:
    """Says whose scores are not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise UserError(f"{model_folder}: {error}") from error


def _measurable(config: EvaluationConfig, corpus: Corpus | None) -> list[Suite[Any]]:
    """The suites asked for, those left out that need a corpus where there is none."""
    suites = [find_suite(name) for name in config.suites]
    return [suite for suite in suites if corpus is not None or not suite.needs_corpus]


def _suite(
    folder: Path,
    suite: Suite[Any],
    model: PreTrainedModel,
    config: EvaluationConfig,
    material: Material,
    sampler: Sampler,
    progress: OnProgress,
) -> dict[str, Json]:
    """The parts of a suite, measured or found in the folder."""
    cached = folder / f"suite-{suite.name}.json"
    if not cached.exists():
        with measuring(f"suite {suite.name}"):
            measured = suite.measure(model, suite.config_in(config), material, sampler, progress)
            part = as_json(measured.parts)
            require_finite_parts(part)
        if measured.samples:
            lines = (json.dumps(as_json(record), ensure_ascii=False) + "\n" for record in measured.samples)
            write_text(folder / suite.samples_file, "".join(lines))
        write_json(cached, part)
    return read_json(cached)


def _contamination(
    folder: Path,
    suites: Sequence[Suite[Any]],
    config: EvaluationConfig,
    material: Material,
    corpus: Corpus,
    progress: OnProgress,
) -> dict[str, Json]:
    """How much of the items of the suites asked for the training text holds."""
    cached = folder / "suite-contamination.json"
    if not cached.exists():
        items = {
            kind: tokens
            for suite in suites
            for kind, tokens in suite.item_tokens(suite.config_in(config), material).items()
        }
        most = config.contamination_sequences
        found = contamination(items, corpus.train, n=config.contamination_ngram, max_sequences=most, progress=progress)
        write_json(cached, {"contamination": as_json(found)})
    return read_json(cached)


def keep_evaluated(folder: Path, damaged: list[str]) -> bool:
    """Takes the partners of damaged files out of an evaluation, so that ``evaluate_into`` measures those suites again.

    A suite's samples are written as it is measured; ``evaluation.json`` is put together from what is there.
    """
    for name in damaged:
        kind, _, rest = Path(name).stem.partition("-")
        if kind == "samples":
            patterns = [f"suite-{rest}.json", f"suite-*-{rest}.json"] if rest else ["suite-tts.json"]
        else:
            patterns = ["samples.jsonl" if rest == "tts" else f"samples-{rest}.jsonl"]
            patterns += [f"samples-{rest.partition('-')[2]}.jsonl"] if "-" in rest else []
        for partner in (found for pattern in patterns for found in folder.glob(pattern)):
            partner.unlink()
    return True


def check_items(config: StudyConfig, corpus: Corpus) -> None:
    """Refuses a study whose models cannot hold the items that they will be measured on, before they are trained."""
    material, asked = material_of(corpus, config.corpus.sources), config.evaluation
    suites = _measurable(asked, corpus)
    needs = (need for suite in suites for need in suite.longest(suite.config_in(asked), material))
    refuse_too_long(needs, *fewest_positions(config))


def evaluate_models(
    models: list[Path],
    corpus_folder: str | Path | None,
    suites: list[str],
    out: Path,
    values: Mapping[str, object],
    display: StageDisplay,
    external: External | None = None,
    *,
    everything: bool = False,
) -> None:
    """Evaluates models side by side into ``out/<name>``, compares them, and prints the headline, or ``everything``.

    Models are folders or those of runs (``RUN``, ``RUN:dpt90``, ``RUN:dpt90@all``), whose corpus is taken where none is
    named.
    """
    config = parse(EvaluationConfig, {"suites": suites, **values}, "evaluate")
    if external is not None:
        external.check(config)
    elif not suites:
        raise UserError("evaluate: --suite names none and no benchmark is given; name something to measure.")
    named = [part for given in models for part in find_parts("model", given)]
    if corpus_folder is None and external is None:
        corpus_folder = _own_corpus(named)
    corpus, sources = _opened(corpus_folder, config, external)
    folders: dict[str, Path] = {}
    for part in named:
        model = Path(part.path)
        text = text_for(model, corpus, sources)
        if text.note:
            display.console.print(text.note, style="yellow", markup=False, soft_wrap=True)
        name = part.name
        owner = [teacher_hash(str(model)), None if corpus is None else corpus.identity, config.canonical()]
        owner += results_version("evaluation").values()
        if text.measured_on is not None and (corpus is None or text.material is not text.material_of_corpus):
            owner.append(text.measured_on.tokenizer)
        key = fingerprint(owner if external is None else [*owner, external.identity()], 8)
        folder = out / f"{name}-{key}"
        title = f"evaluate {name}"
        with (
            parts(folder, keep_evaluated, functools.partial(display.damaged, title)),
            display.stage(title, "items") as update,
        ):
            evaluate_into(folder, model, config, text, update, external)
        folders[folder.name if name in folders else name] = folder
        display.console.print(line((folder / "evaluation.json", "dim")), soft_wrap=True)
    _show(folders, out / "comparison.json", config, display, everything)
    _show_worth(named, folders, out / "worth.json")


def _own_corpus(named: Sequence[RunPart]) -> str | None:
    """The corpus of the run that all models are of; None where they are of several, or of none."""
    found = {find_part("corpus", part.run).path if part.run is not None else None for part in named}
    return found.pop() if len(found) == 1 else None


def _show_worth(named: Sequence[RunPart], folders: Mapping[str, Path], target: Path) -> None:
    """What soft labels were worth where all models are of one run that has a ladder; written into ``target``."""
    runs = {part.run for part in named}
    run = runs.pop() if len(runs) == 1 else None
    if run is None or len(folders) < len(named) or not (run / "study.json").is_file():
        target.unlink(missing_ok=True)
        return
    config, records = resolve_recipe(str(run / "config.yaml")), read(StudyRecord, run / "study.json").models
    found = write_worth(target, config, records, folders) if isinstance(config, StudyConfig) else None
    if found is not None:
        Terminal().print(multipliers_table(found))


def _show(
    folders: Mapping[str, Path], target: Path, config: EvaluationConfig, display: StageDisplay, everything: bool
) -> None:
    """Tables of what was measured; several models are compared into ``target``."""
    results = {name: read(Evaluation, folder / "evaluation.json") for name, folder in folders.items()}
    console, shown = Terminal(), None if everything else headline_rows(results)
    console.print(estimates_table(results, shown))
    if any(result.needle for result in results.values()):
        console.print(needle_table(results))
    if len(folders) > 1:
        comparison = write_comparison(target, folders, config.ks, seed=config.seed)
        console.print(comparison_table(comparison, shown))
        if comparison.by_seed.arms:
            console.print(seed_means_table(comparison.by_seed, shown))
        display.console.print(line((target, "dim")), soft_wrap=True)


def _opened(
    folder: str | Path | None, config: EvaluationConfig, external: External | None
) -> tuple[Corpus | None, Sources]:
    """The corpus, and the sources that it was made of."""
    if folder is None:
        if external is None and not _measurable(config, None):
            raise UserError("evaluate: --corpus is missing; give a run folder or a built corpus, or --lm-eval TASKS.")
        return None, {}
    corpus = open_corpus(folder)
    return corpus, {name: parse(SourceConfig, value, name) for name, value in corpus.manifest["source_configs"].items()}
