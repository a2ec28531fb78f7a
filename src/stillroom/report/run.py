"""What a run folder says, as frozen records: the only place of the report that reads files.

A file that is missing or damaged ends in one sentence that names it. A suite that was not run is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import ValidationError, model_validator

from stillroom.checksums import check
from stillroom.files import read_json, read_json_lines, read_json_object, read_text
from stillroom.report.comparison import Comparison
from stillroom.report.metric_lines import Estimate, Record
from stillroom.report.worth_rows import Worths
from stillroom.types import UserError

Numbers = tuple[float, ...]
R = TypeVar("R", bound=Record)


class Likelihood(Record):
    """Suite ``lm``: held-out text."""

    bits_per_byte: Estimate
    nats_per_token: Estimate | None = None
    by_source: dict[str, dict[str, Estimate]] = {}


class Copying(Record):
    """Suite ``icl``, repeated random tokens; losses in nats per token."""

    icl_score: Estimate
    """Loss late in the sequence minus loss early: negative means that the context helped."""
    loss_first: Estimate | None = None
    loss_repeat: Estimate | None = None
    accuracy_repeat: Estimate | None = None
    order_repeat: Estimate | None = None
    loss_by_position: Numbers = ()
    period: int = 0
    repeats: int = 0


class Counterfactual(Record):
    """Suite ``icl``, facts that the context contradicts."""

    follows_context: Estimate
    follows_memory: Estimate | None = None
    neither: Estimate | None = None
    log_odds: Estimate | None = None
    memory_accuracy: Estimate | None = None
    chance: float | None = None


class Draws(Record):
    """Suite ``tts`` at one temperature."""

    pass_at: dict[int, Estimate]
    unique_correct: Estimate | None = None
    answer_entropy_nats: Estimate | None = None
    by_family: dict[str, dict[int, float]] = {}


class Sampling(Record):
    """Suite ``tts``: samples of verifiable problems."""

    num_problems: int
    num_samples: int
    temperatures: dict[float, Draws]


class Accuracy(Record):
    """Suites ``icl`` and ``retrieval``: how often the right answer is the likeliest."""

    accuracy: Estimate
    chance: float | None = None


class Needle(Accuracy):
    """Suite ``retrieval``: a stated fact in long text; the grid has a row for each length, in tokens."""

    lengths: tuple[int, ...]
    depths: Numbers
    grid: tuple[tuple[Estimate, ...], ...]

    @model_validator(mode="after")
    def _one_cell_per_length_and_depth(self) -> Self:
        if [len(row) for row in self.grid] != [len(self.depths)] * len(self.lengths) or not self.grid:
            raise ValueError(f"grid is not {len(self.lengths)} lengths of {len(self.depths)} depths")
        return self


class Heads(Record):
    """Suite ``heads``: a score for every attention head, as rows of layers."""

    num_layers: int
    num_heads: int
    previous_token: tuple[Numbers, ...]
    prefix_matching: tuple[Numbers, ...]
    copying: tuple[Numbers, ...] | None = None
    """None where the layout of the model is not known."""
    layers: tuple[int, ...] | None = None
    """Which layers of the model these are where not all have attention."""

    def layer(self, place: int) -> int:
        """The number in the model of the layer in this place."""
        return place if self.layers is None else self.layers[place]

    @model_validator(mode="after")
    def _one_score_per_head(self) -> Self:
        for name in ("previous_token", "prefix_matching", "copying"):
            rows = getattr(self, name)
            if rows is None:
                continue
            if len(rows) != self.num_layers or any(len(row) != self.num_heads for row in rows):
                raise ValueError(f"{name} is not {self.num_layers} layers of {self.num_heads} heads")
        return self


class Evaluation(Record):
    """``evaluation.json``: one field for each suite, None where it was not run."""

    lm: Likelihood | None = None
    copying: Copying | None = None
    counterfactual: Counterfactual | None = None
    recall: Accuracy | None = None
    needle: Needle | None = None
    context: Accuracy | None = None
    tts: Sampling | None = None
    heads: Heads | None = None


class Sample(Record):
    """Completions of one problem; an answer that is not None is right."""

    family: str
    prompt: str
    temperature: float
    completions: tuple[str, ...]
    answers: tuple[str | None, ...]


class Routing(Record):
    """Which positions lost their distillation term."""

    rule: str
    share: float | None = None


class ModelRecord(Record):
    """One model of ``study.json``; FLOPs are floating-point operations."""

    name: str
    role: Literal["teacher", "student"]
    label: str
    folder: str
    parameters: int
    distinct_tokens: int = 0
    epochs: float = 0.0
    tokens: int = 0
    alpha: float = 0.0
    routing: Routing | None = None
    student_flops: float = 0.0
    teacher_flops: float = 0.0
    """The teacher's part: making the labels that this student used."""
    seconds: float = 0.0

    @property
    def flops(self) -> float:
        """Training plus the teacher's part."""
        return self.student_flops + self.teacher_flops


class Labels(Record):
    """The label store of a study."""

    codec: str
    tokens: int
    bytes_per_token: float | None = None
    mean_kl_nats: float | None = None
    teacher_entropy_nats: float | None = None


class Stage(Record):
    """A stage of a study and how long it took."""

    name: str
    seconds: float
    reused: bool = False


class Study(Record):
    """``study.json``."""

    name: str
    fingerprint: str
    models: tuple[ModelRecord, ...]
    labels: Labels | None = None
    stages: tuple[Stage, ...] = ()
    total_seconds: float = 0.0
    notes: tuple[str, ...] = ()


class Histogram(Record):
    """Counts of positions by teacher entropy."""

    edges_nats: Numbers
    counts: tuple[int, ...]


class SourceProfile(Record):
    """Counts of one source over the same edges."""

    counts: tuple[int, ...]
    mean_nats: float


class Profile(Record):
    """``labels/profile.json``: how uncertain the teacher was."""

    entropy_histogram: Histogram
    by_source: dict[str, SourceProfile] = {}
    routing_threshold_nats: float | None = None
    mean_entropy_nats: float | None = None

    @model_validator(mode="after")
    def _one_count_per_bin(self) -> Self:
        bins = len(self.entropy_histogram.edges_nats) - 1
        counted = {"entropy_histogram": self.entropy_histogram, **self.by_source}
        for name, part in counted.items():
            if bins < 1 or len(part.counts) != bins:
                raise ValueError(f"{name} has {len(part.counts)} counts for {bins} bins")
        return self


@dataclass(frozen=True)
class Curve:
    """A quantity (``values``, nats per token) after so many training tokens."""

    tokens: Numbers = ()
    values: Numbers = ()


@dataclass(frozen=True)
class ModelRun:
    """A model with everything that was measured of it."""

    record: ModelRecord
    evaluation: Evaluation
    validation: Curve = Curve()
    forward_kl: Curve = Curve()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    study: Study
    models: tuple[ModelRun, ...]
    config_yaml: str
    environment: dict[str, Any] = field(default_factory=dict)
    profile: Profile | None = None
    comparison: Comparison | None = None
    worth: Worths | None = None


def load_run(folder: Path) -> Run:
    """Everything the report shows of a run folder.

    Raises:
        UserError: a file is missing or damaged; the sentence names it.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; give the folder of a finished run, such as runs/quickstart-1a2b3c4d."
        )
    for damage in check(folder):
        raise damage.error()
    study = _record(Study, folder / "study.json")
    if not study.models:
        raise UserError(f"{folder / 'study.json'}: lists no models; run the study again.")
    comparison_path = folder / "comparison.json"
    worth_path = folder / "worth.json"
    profile_path = folder / "labels" / "profile.json"
    expects_profile = study.labels is not None or profile_path.exists()
    return Run(
        folder=folder,
        study=study,
        models=tuple(_load_model(folder, record) for record in study.models),
        config_yaml=read_text(folder / "config.yaml", "the configuration of the run"),
        environment=read_json_object(folder / "environment.json"),
        profile=_record(Profile, profile_path) if expects_profile else None,
        comparison=_record(Comparison, comparison_path) if comparison_path.exists() else None,
        worth=_record(Worths, worth_path) if worth_path.exists() else None,
    )


def _load_model(folder: Path, record: ModelRecord) -> ModelRun:
    home = folder / record.folder
    evaluation = _record(Evaluation, home / "evaluation.json")
    metrics_path = home / "metrics.jsonl"
    trained = record.role == "student" or metrics_path.exists()  # a pretrained teacher has no metrics
    metrics = read_json_lines(metrics_path) if trained else []
    samples_path = home / "samples.jsonl"
    samples = read_json_lines(samples_path) if evaluation.tts is not None else []
    return ModelRun(
        record=record,
        evaluation=evaluation,
        validation=_curve(metrics, "validation", "ce", metrics_path),
        forward_kl=_curve(metrics, "train", "forward_kl", metrics_path),
        samples=tuple(_parse(Sample, values, samples_path) for values in samples),
    )


def _curve(metrics: list[dict[str, Any]], kind: str, key: str, path: Path) -> Curve:
    """The finite values of one quantity in the order of the file."""
    points = [(row.get("tokens"), row[key]) for row in metrics if row.get("kind") == kind and row.get(key) is not None]
    try:
        pairs = [(float(tokens), float(value)) for tokens, value in points]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"{path}: holds a {kind} record whose tokens or {key} is not a number; run again.") from None
    finite = [pair for pair in pairs if math.isfinite(pair[1])]
    return Curve(tuple(tokens for tokens, _ in finite), tuple(value for _, value in finite))


def _record(kind: type[R], path: Path) -> R:
    return _parse(kind, read_json(path), path)


def _parse(kind: type[R], values: Any, path: Path) -> R:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the whole file"
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise UserError(f"{path}: {name} does not fit ({message}); run the command that made it again.") from None
