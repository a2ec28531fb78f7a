"""A finished run, loaded: its models with all that was measured of them, as dataclasses and as tables of pandas.

A file that is missing or damaged ends in one sentence that names it. What was not measured is None or empty. Imports
no torch and no numpy; pandas only where tables are asked for.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stillroom.checksums import check
from stillroom.files import read_text, write_text
from stillroom.results.json_form import read, read_lines
from stillroom.results.measures import Measure, as_estimate, registered_measures
from stillroom.results.schema import (
    Comparison,
    EntropyProfile,
    Environment,
    Evaluation,
    MeasuredOn,
    MetricsLine,
    ModelRecord,
    SampledProblem,
    StudyForecast,
    StudyRecord,
    WorthTable,
    arm_and_seed,
)
from stillroom.types import Estimate, UserError
from stillroom.yamlfiles import parse_yaml

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-not-found]

STEPS = "steps"
"""In a model's folder: what its kept checkpoints are, and what was measured of them, by step."""
PROFILE = "profile.json"
"""How uncertain the teacher was at the labelled positions."""


FORECAST = "forecast.json"


@dataclass(frozen=True)
class Curve:
    """A quantity (``values``, nats per token) after so many training tokens."""

    tokens: tuple[float, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class ModelRun:
    """A model with everything that was measured of it."""

    record: ModelRecord
    evaluation: Evaluation
    metrics: tuple[MetricsLine, ...] = ()
    """In the order of training; empty for a teacher that was not trained here."""
    validation: Curve = Curve()
    """Cross-entropy on held-out text."""
    forward_kl: Curve = Curve()
    """KL from the teacher's labels on the training stream."""
    samples: tuple[SampledProblem, ...] = ()
    over_training: tuple[tuple[int, Evaluation], ...] = ()
    """What was measured of its kept checkpoints, by step."""


@dataclass(frozen=True)
class MeasuredNumber:
    """One number of one model with its 95 % interval over ``num`` items; ``unit`` is empty where none is registered."""

    model: str
    arm: str
    seed: int | None
    place: str
    """Where it stands in the evaluation, such as ``lm bits_per_byte``."""
    title: str
    unit: str
    better: Literal["lower", "higher"] | None
    value: float
    low: float
    high: float
    num: int


@dataclass(frozen=True)
class CurvePoint:
    """One logged number: ``name`` of a ``kind`` of line (``train``, ``validation``) at a step, after so many tokens."""

    model: str
    kind: str
    step: int
    tokens: int | None
    name: str
    value: float


@dataclass(frozen=True)
class SampleRow:
    """One completion of one problem; ``answer`` is its normal form where it is right."""

    model: str
    family: str
    prompt: str
    temperature: float
    completion: str
    answer: str | None
    right: bool


@dataclass(frozen=True)
class HeadRow:
    """The scores of one attention head; ``copying`` is None where the layout of the model is not known."""

    model: str
    layer: int
    head: int
    previous_token: float
    prefix_matching: float
    copying: float | None


@dataclass(frozen=True)
class WorthRow:
    """How many times its own text, or FLOPs, an arm's soft labels were worth on one ability, with a 95 % interval.

    ``value`` is None where there is no number to give, which ``why`` says; an end of the interval is None where it lies
    outside the ladder, which reaches from ``least`` to ``most``. ``formed`` is the number of the arm's seeds past the
    jump in which the ability forms, if it does.
    """

    arm: str
    ability: str
    title: str
    amount: Literal["tokens", "flops"]
    value: float | None
    low: float | None
    high: float | None
    least: float
    most: float
    num: int
    over: Literal["seeds", "items"]
    why: str
    formed: int | None


@dataclass(frozen=True)
class Frames:
    """The tables of a run, one for each kind of row."""

    models: DataFrame
    measures: DataFrame
    curves: DataFrame
    samples: DataFrame
    heads: DataFrame
    worths: DataFrame


Row = MeasuredNumber | CurvePoint | SampleRow | HeadRow | WorthRow | ModelRecord


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    study: StudyRecord
    models: tuple[ModelRun, ...]
    config_yaml: str
    environment: Environment
    profile: EntropyProfile | None = None
    comparison: Comparison | None = None
    worth: WorthTable | None = None
    forecast: StudyForecast | None = None
    """What a law expected of its students, where one was asked."""

    def model(self, name: str) -> ModelRun:
        """The model of this name, such as ``dpt90``; ``UserError`` where there is none."""
        for one in self.models:
            if one.record.name == name:
                return one
        raise UserError(f"{self.folder}: has no model {name}; it has {', '.join(m.record.name for m in self.models)}.")

    @property
    def measured_on(self) -> MeasuredOn | None:
        """The text and tokenizer that its models were measured on; None in runs of older versions."""
        return next((one.evaluation.measured_on for one in self.models if one.evaluation.measured_on), None)

    @property
    def measures(self) -> tuple[MeasuredNumber, ...]:
        """Every number of every model."""
        return tuple(row for model in self.models for row in _measured(model))

    @property
    def curves(self) -> tuple[CurvePoint, ...]:
        """Every number that was logged while a model was trained."""
        return tuple(point for model in self.models for point in _points(model))

    @property
    def samples(self) -> tuple[SampleRow, ...]:
        """Every completion of every model."""
        return tuple(row for model in self.models for one in model.samples for row in _completions(model, one))

    @property
    def heads(self) -> tuple[HeadRow, ...]:
        """The scores of every attention head of every model."""
        return tuple(row for model in self.models for row in _heads(model))

    @property
    def worths(self) -> tuple[WorthRow, ...]:
        """What soft labels were worth, two rows for every arm and ability; none where the run has no ladder."""
        return () if self.worth is None else tuple(_worths(self.worth))

    def to_pandas(self) -> Frames:
        """The same rows as tables; ``UserError`` where pandas is not installed."""
        records = [model.record for model in self.models]
        frames = (_frame(kind, rows) for kind, rows in (
            (ModelRecord, records), (MeasuredNumber, self.measures), (CurvePoint, self.curves),
            (SampleRow, self.samples), (HeadRow, self.heads), (WorthRow, self.worths),
        ))  # fmt: skip
        return Frames(*frames)


def load(folder: str | Path) -> Run:
    """Everything that a run folder says: a study's, that of one training, or evaluations side by side.

    Raises:
        UserError: a file is missing or damaged; the sentence names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; give the folder of a finished run, such as runs/quickstart-1a2b3c4d."
        )
    for damage in check(folder):
        raise damage.error()
    if not (folder / "study.json").is_file():
        from stillroom.results.other_folders import load_other  # which makes what stands here of other files

        return load_other(folder)
    study = read(StudyRecord, folder / "study.json")
    if not study.models:
        raise UserError(f"{folder / 'study.json'}: lists no models; run the study again.")
    profile, comparison, worth = (folder / name for name in (PROFILE, "comparison.json", "worth.json"))
    if not profile.exists():  # in folders of earlier versions it lies elsewhere
        profile = folder / "labels" / PROFILE
    return Run(
        folder=folder,
        study=study,
        models=tuple(_load_model(folder, record) for record in study.models),
        config_yaml=read_text(folder / "config.yaml", "the configuration of the run"),
        environment=read(Environment, folder / "environment.json"),
        profile=read(EntropyProfile, profile) if study.labels is not None or profile.exists() else None,
        comparison=read(Comparison, comparison) if comparison.exists() else None,
        worth=read(WorthTable, worth) if worth.exists() else None,
        forecast=read(StudyForecast, folder / FORECAST) if (folder / FORECAST).exists() else None,
    )


def measured_texts(runs: Sequence[Run]) -> tuple[str, ...]:
    """A name for each run of what it was measured on: alike where numbers of two runs may be compared.

    Where a run of an older version does not say, all go by the corpora of their configurations.
    """
    known = [run.measured_on for run in runs]
    if None not in known:
        return tuple(f"{on.text} in {on.tokenizer}" for on in known if on is not None)
    return tuple(_corpus_of(run) for run in runs)


def _corpus_of(run: Run) -> str:
    """The configuration of a run's corpus, without the length of its training part."""
    values = parse_yaml(run.config_yaml, str(run.folder / "config.yaml"), "the run's configuration")
    corpus = values.get("corpus") if isinstance(values, dict) else None
    if not isinstance(corpus, dict):
        return ""
    return json.dumps({name: value for name, value in corpus.items() if name != "train_tokens"}, sort_keys=True)


def _load_model(folder: Path, record: ModelRecord) -> ModelRun:
    home = folder / record.folder
    evaluation = read(Evaluation, home / "evaluation.json")
    path = home / "metrics.jsonl"
    trained = record.role == "student" or path.exists()  # a pretrained teacher has no metrics
    loaded = loaded_model(home, record, evaluation, read_lines(MetricsLine, path) if trained else ())
    kept = {int(file.parent.name): file for file in home.glob(f"{STEPS}/*/evaluation.json")}
    return replace(loaded, over_training=tuple((step, read(Evaluation, kept[step])) for step in sorted(kept)))


def checkpoint_of(name: str) -> tuple[str, int | None]:
    """The model and the step that a name such as ``dpt90@500`` is of; other names are models."""
    model, sign, step = name.rpartition("@")
    return (model, int(step)) if sign and model and step.isdecimal() else (name, None)


def loaded_model(
    home: Path, record: ModelRecord, evaluation: Evaluation, metrics: tuple[MetricsLine, ...] = ()
) -> ModelRun:
    """A model with the curves of its metrics, and its samples where problems were sampled."""
    path = home / "metrics.jsonl"
    return ModelRun(
        record=record,
        evaluation=evaluation,
        metrics=metrics,
        validation=_curve(metrics, "validation", "ce", path),
        forward_kl=_curve(metrics, "train", "forward_kl", path),
        samples=read_lines(SampledProblem, home / "samples.jsonl") if evaluation.tts is not None else (),
    )


def _curve(metrics: Sequence[MetricsLine], kind: str, key: str, path: Path) -> Curve:
    """The finite values of one quantity in the order of the file."""
    rows = [row for row in metrics if row.kind == kind and row.others.get(key) is not None]
    try:
        pairs = [(float(row.tokens), float(row.others[key])) for row in rows]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"{path}: holds a {kind} record whose tokens or {key} is not a number; run again.") from None
    finite = [pair for pair in pairs if math.isfinite(pair[1])]
    return Curve(tuple(tokens for tokens, _ in finite), tuple(value for _, value in finite))


def estimates(
    value: object, place: tuple[str, ...] = (), *, missing: bool = False
) -> Iterator[tuple[tuple[str, ...], Estimate]]:
    """Every estimate inside an evaluation, or a part of one, with its place: the names and keys that lead to it.

    With ``missing`` also those that have no number, as NaN.
    """
    found = as_estimate(value)
    if found is not None:
        if missing or not math.isnan(found.value):
            yield place, found
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            key = f"{name:g}" if isinstance(name, float) else str(name)
            yield from estimates(inner, (*place, key), missing=missing)
    elif is_dataclass(value):
        for one in fields(value):
            inner = getattr(value, one.name)
            yield from estimates(inner, place if one.name == "others" else (*place, one.name), missing=missing)


def _measured(model: ModelRun) -> Iterator[MeasuredNumber]:
    name = model.record.name
    known = {tuple(map(str, one.place)): one for one in registered_measures()}
    for place, found in estimates(model.evaluation):
        measure = known.get(place, Measure(place[-1].replace("_", " "), "", None))
        yield MeasuredNumber(
            name, *arm_and_seed(name), " ".join(place), measure.title, measure.unit, measure.better,
            found.value, found.low, found.high, found.num,
        )  # fmt: skip


def _points(model: ModelRun) -> Iterator[CurvePoint]:
    for line in model.metrics:
        for name, value in line.others.items():
            if isinstance(value, int | float):
                yield CurvePoint(model.record.name, line.kind, line.step, line.tokens, name, float(value))


def _completions(model: ModelRun, one: SampledProblem) -> Iterator[SampleRow]:
    for text, answer in zip(one.completions, one.answers, strict=False):
        yield SampleRow(
            model.record.name, one.family, one.prompt, one.temperature, text, answer, answer is not None
        )  # fmt: skip


def _heads(model: ModelRun) -> Iterator[HeadRow]:
    heads = model.evaluation.heads
    if heads is None:
        return
    for place in range(heads.num_layers):
        for head in range(heads.num_heads):
            yield HeadRow(
                model.record.name, heads.layer(place), head, heads.previous_token[place][head],
                heads.prefix_matching[place][head], None if heads.copying is None else heads.copying[place][head],
            )  # fmt: skip


def _worths(table: WorthTable) -> Iterator[WorthRow]:
    amounts: tuple[Literal["tokens", "flops"], ...] = ("tokens", "flops")
    for ability in table.abilities:
        for arm, multipliers in ability.arms.items():
            formed = None if ability.formed is None else ability.formed.get(arm)
            for amount, found in zip(amounts, (multipliers.data, multipliers.compute), strict=True):
                yield WorthRow(
                    arm=arm, ability=ability.key, title=ability.title, amount=amount, value=found.value,
                    low=found.low or None, high=found.high if math.isfinite(found.high) else None,
                    least=found.least, most=found.most, num=found.num, over=table.over, why=found.why, formed=formed,
                )  # fmt: skip


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Rows of one table of a run, such as ``run.worths``, as a CSV file with a line of names; None is an empty cell.

    Raises ``UserError`` without rows, whose names nothing would tell, and where the file cannot be written.
    """
    if not rows:
        raise UserError(f"{path}: there is no row to write; give a table of the run that has some.")
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(one.name for one in fields(rows[0]))
    lines.writerows(asdict(row).values() for row in rows)
    write_text(path, text.getvalue())


def _frame(kind: type, rows: Sequence[object]) -> DataFrame:
    try:
        import pandas  # type: ignore[import-not-found]
    except ImportError:
        raise UserError(
            "tables of a run need pandas, which is not installed; pip install 'stillroom[pandas]'."
        ) from None
    return pandas.DataFrame([asdict(row) for row in rows], columns=[one.name for one in fields(kind)])  # type: ignore[call-overload]
