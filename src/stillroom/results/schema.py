"""Every file that a run leaves, as frozen dataclasses: a number keeps its type from where it is measured to the page.

A field that is no estimate says its unit; an ``Estimate`` has that of its measure (``stillroom.results.measures``).
Fields stand in the order of the file. Parts of an evaluation that were not measured are None, and so are files that a
run does not have. Read and written by ``stillroom.results.json_form``; imports no torch and no numpy.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from stillroom import types
from stillroom.results.json_form import Estimate, sometimes

Numbers = tuple[float, ...]
PerItem = Mapping[str, tuple[float | None, ...]]
"""Measure → a number for every item, in the order of the items, for paired tests."""
ByK = Mapping[int, Estimate]
"""k → pass@k: share of problems with at least one right answer among k samples."""


# ---------------------------------------------------------------- models/<name>/evaluation.json


@dataclass(frozen=True, kw_only=True)
class SourceCodes:
    """The source of every document of held-out text: ``names[codes[i]]``."""

    names: tuple[str, ...]
    codes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LikelihoodResult:
    """Suite ``lm``: held-out text. ``by_source`` has the same measures for each source of text."""

    bits_per_byte: Estimate
    nats_per_token: Estimate | None = None
    text_bits_per_byte: Estimate | None = sometimes()
    """Of the sources that hold text of people; of all where none does. Evaluations of older versions lack it."""
    per_item: PerItem = sometimes(dict)
    """Of every document; 0 where it has no text."""
    per_item_weights: PerItem = sometimes(dict)
    """Bytes and targets of every document."""
    per_item_sources: SourceCodes | None = sometimes()
    by_source: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CopyingResult:
    """Suite ``icl``, repeated random tokens; losses in nats per token."""

    icl_score: Estimate
    """Loss late in the sequence minus loss early: negative means that the context helped."""
    loss_first: Estimate | None = None
    loss_repeat: Estimate | None = None
    accuracy_repeat: Estimate | None = None
    order_repeat: Estimate | None = None
    """Share of the period's other tokens that are less likely than the right one."""
    loss_by_position: Numbers = ()
    period: int = 0
    """Tokens until the sequence repeats."""
    repeats: int = 0
    per_item: PerItem = sometimes(dict)


@dataclass(frozen=True, kw_only=True)
class RecallResult:
    """Suite ``icl``, outputs of triggers that have come before; losses in nats per token."""

    accuracy: Estimate
    loss_repeat: Estimate | None = None
    loss_first: Estimate | None = None
    by_occurrence: ByK = field(default_factory=dict)
    """Accuracy at the second, third, ... time of a trigger."""
    per_item: PerItem = sometimes(dict)
    per_item_weights: PerItem = sometimes(dict)
    """Outputs of every sequence."""


@dataclass(frozen=True, kw_only=True)
class ChoiceResult:
    """How often the right one of several answers is the likeliest, and how often greedy decoding writes it."""

    accuracy: Estimate
    written: Estimate | None = sometimes()
    exact: Estimate | None = sometimes()
    margin_nats: Estimate | None = sometimes()
    """Log-probability of the right answer minus that of the best wrong one, nats."""
    chance: float | None = None
    """What a guess reaches."""


@dataclass(frozen=True, kw_only=True)
class InductionResult(ChoiceResult):
    """Suite ``icl``, rules to be induced from a few shots."""

    by_kind: Mapping[str, ChoiceResult] = field(default_factory=dict)
    by_shots: Mapping[int, ChoiceResult] = field(default_factory=dict)
    per_item: PerItem = sometimes(dict)
    skipped_shots: tuple[int, ...] = sometimes(())
    """Numbers of shots that do not fit into the model's positions."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualResult:
    """Suite ``icl``, facts that the context contradicts: shares of items, and log-odds in nats."""

    follows_context: Estimate
    follows_memory: Estimate | None = None
    neither: Estimate | None = None
    log_odds: Estimate | None = None
    memory_accuracy: Estimate | None = None
    chance: float | None = None
    missing: Mapping[str, str] = sometimes(dict)
    """Why something is null."""
    per_item: PerItem = sometimes(dict)


@dataclass(frozen=True, kw_only=True)
class CounterfactualRecord:
    """One fact that the context contradicts: a line of ``samples-counterfactual_file.jsonl``."""

    prompt: str
    context_answer: str
    memory_answer: str
    follows: str
    """``context``, ``memory`` or ``neither``."""
    log_odds: float
    """Log-probability of the context's answer minus that of memory's, nats."""
    knows: bool
    """Whether greedy decoding writes memory's answer where there is no context."""


@dataclass(frozen=True, kw_only=True)
class CoverageFit:
    """coverage(k) = exp(a·k^b) through pass@k; ``residual`` is the root mean square in log(-log coverage)."""

    a: float
    b: float
    residual: float


@dataclass(frozen=True, kw_only=True)
class TemperatureResult:
    """Suite ``tts`` at one temperature. Diversity is over the samples of a problem, in words."""

    pass_at: ByK
    majority: Estimate | None = sometimes()
    coverage_law: CoverageFit | None = None
    missing: Mapping[str, str] = sometimes(dict)
    unique_correct: Estimate | None = None
    """Different right answers per problem."""
    answer_entropy_nats: Estimate | None = None
    distinct_2: Estimate | None = sometimes()
    vendi_score: Estimate | None = sometimes()
    self_bleu: Estimate | None = sometimes()
    by_family: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Family of problems → k → pass@k."""


@dataclass(frozen=True, kw_only=True)
class ScalingResult:
    """Suite ``tts``, or a benchmark: samples of problems whose answers are verified."""

    num_problems: int
    num_samples: int
    """Of each problem at each temperature."""
    temperatures: Mapping[float, TemperatureResult]
    skipped_ks: tuple[int, ...] = sometimes(())
    """k above the number of samples."""
    skipped: int | None = sometimes()
    """Records of a benchmark that could not be judged."""
    too_long: int | None = sometimes()
    """Problems of a benchmark that the model's positions cannot hold."""


@dataclass(frozen=True, kw_only=True)
class NeedleResult(ChoiceResult):
    """Suite ``retrieval``: a stated fact in long text; the grid of accuracies has a row for each length, in tokens."""

    lengths: tuple[int, ...]
    depths: Numbers
    """Where the fact stands: 0 first, 1 last."""
    grid: tuple[tuple[Estimate, ...], ...]
    per_item: PerItem = sometimes(dict)

    def __post_init__(self) -> None:
        if [len(row) for row in self.grid] != [len(self.depths)] * len(self.lengths) or not self.grid:
            raise ValueError(f"grid is not {len(self.lengths)} lengths of {len(self.depths)} depths")


@dataclass(frozen=True, kw_only=True)
class ContextResult(ChoiceResult):
    """Suite ``retrieval``: questions about what the context states, by the number of stated facts."""

    by_notes: Mapping[int, ChoiceResult] = field(default_factory=dict)
    per_item: PerItem = sometimes(dict)


@dataclass(frozen=True)
class InductionHead:
    """The head that is highest on both scores: layer and head count from 0."""

    layer: int
    """Its place among the layers that have attention."""
    head: int
    prefix_matching: float
    copying: float


@dataclass(frozen=True, kw_only=True)
class HeadsResult:
    """Suite ``heads``: a score for every attention head, as rows of layers."""

    num_layers: int
    num_heads: int
    layers: tuple[int, ...] | None = sometimes()
    """Which layers of the model these are where not all have attention."""
    previous_token: tuple[Numbers, ...]
    prefix_matching: tuple[Numbers, ...]
    copying: tuple[Numbers, ...] | None = None
    """None where the layout of the model is not known."""
    missing: Mapping[str, str] = sometimes(dict)

    def layer(self, place: int) -> int:
        """The number in the model of the layer in this place."""
        return place if self.layers is None else self.layers[place]

    @property
    def induction_head(self) -> InductionHead | None:
        """The head whose smaller score of prefix matching and copying is largest (Olsson et al. 2022: high on both)."""
        if self.copying is None:
            return None
        places = [
            InductionHead(layer, head, prefix, copying)
            for layer, rows in enumerate(zip(self.prefix_matching, self.copying, strict=True))
            for head, (prefix, copying) in enumerate(zip(*rows, strict=True))
        ]
        return max(places, key=lambda place: min(place.prefix_matching, place.copying), default=None)

    def __post_init__(self) -> None:
        for name in ("previous_token", "prefix_matching", "copying"):
            rows = getattr(self, name)
            if rows is None:
                continue
            if len(rows) != self.num_layers or any(len(row) != self.num_heads for row in rows):
                raise ValueError(f"{name} is not {self.num_layers} layers of {self.num_heads} heads")


@dataclass(frozen=True, kw_only=True)
class SetContamination:
    """Of a set of items: mean share of n-grams in the training text, and shares of items with one of them, and all."""

    num: int
    overlap: float
    any: float
    whole: float


@dataclass(frozen=True, kw_only=True)
class ContaminationResult:
    """How much of the items the training text holds, in n-grams of tokens."""

    n: int
    training_tokens: int
    sets: Mapping[str, SetContamination]


@dataclass(frozen=True, kw_only=True)
class HarnessNumber:
    """A metric of lm-evaluation-harness with 95 % by its standard error; ``missing`` says why an end or it is None."""

    value: float | None
    low: float | None
    high: float | None
    num: int
    missing: Mapping[str, str] = sometimes(dict)


@dataclass(frozen=True)
class CalibrationBin:
    """Positions of like confidence: its mean, the share of right first choices, and how many they are."""

    confidence: float
    accuracy: float
    num: int


@dataclass(frozen=True)
class CalibrationResult:
    """Expected calibration error, 0 to 1, and the bins that it is the sum of; empty ones are left out."""

    ece: Estimate
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredOn:
    """What an evaluation's numbers are of: hashes of the held-out text (empty: of none) and of the tokenizer."""

    text: str = ""
    tokenizer: str = ""

    def differs(self, other: MeasuredOn) -> str:
        """What two evaluations do not share, in words; empty where their numbers compare."""
        text = "held-out text" if self.text != other.text else ""
        tokenizer = "tokenizer" if self.tokenizer != other.tokenizer else ""
        return " and ".join(part for part in (text, tokenizer) if part)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """``evaluation.json``: a field for each part; ``others`` has what suites from outside this package measured."""

    measured_on: MeasuredOn | None = sometimes()
    """None in evaluations of older versions."""
    lm: LikelihoodResult | None = sometimes()
    copying: CopyingResult | None = sometimes()
    recall: RecallResult | None = sometimes()
    induction: InductionResult | None = sometimes()
    counterfactual: CounterfactualResult | None = sometimes()
    tts: ScalingResult | None = sometimes()
    heads: HeadsResult | None = sometimes()
    needle: NeedleResult | None = sometimes()
    context: ContextResult | None = sometimes()
    contamination: ContaminationResult | None = sometimes()
    benchmarks: Mapping[str, ScalingResult] = sometimes(dict)
    counterfactual_file: CounterfactualResult | None = sometimes()
    lm_eval: Mapping[str, Any] = sometimes(dict)
    """Task of lm-evaluation-harness → subtask → metric → estimate."""
    others: Mapping[str, Any] = sometimes(dict)


# ---------------------------------------------------------------- models/<name>/samples.jsonl and metrics.jsonl


@dataclass(frozen=True, kw_only=True)
class SampledProblem:
    """A line of ``samples.jsonl``: completions of one problem; an answer that is not None is right."""

    family: str
    prompt: str
    temperature: float
    completions: tuple[str, ...]
    answers: tuple[str | None, ...]

    @property
    def num_right(self) -> int:
        """How many samples are right."""
        return sum(answer is not None for answer in self.answers)

    @property
    def num_different(self) -> int:
        """How many different right answers there are."""
        return len({answer for answer in self.answers if answer is not None})

    @property
    def votes(self) -> tuple[tuple[str, str], ...]:
        """Every sample's answer: (right, answer), or (wrong, text), since only its text tells a wrong one's apart."""
        return tuple(
            ("wrong", text.strip()) if answer is None else ("right", answer)
            for text, answer in zip(self.completions, self.answers, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class MetricsLine:
    """A line of ``metrics.jsonl``: what was logged at a step; ``others`` has the numbers by name.

    ``train`` lines have losses in nats per token (``ce``, ``forward_kl``, ``teacher_ce``, ``teacher_entropy``),
    ``tokens_per_second`` and the like; ``validation`` lines have ``ce`` of held-out text. None: not finite.
    """

    kind: str
    step: int = 0
    tokens: int | None = None
    """Training tokens seen, repeats counted."""
    others: Mapping[str, Any] = sometimes(dict)


# ---------------------------------------------------------------- study.json

_ARM_AND_SEED = re.compile(r"(.+)[-_.](?:s|seed)[-_]?(\d+)")


def arm_and_seed(name: str) -> tuple[str, int | None]:
    """A model's arm and training seed: ``dpt90-s3`` is ``dpt90`` and 3; a name without a seed at its end is an arm."""
    match = _ARM_AND_SEED.fullmatch(name)
    return (name, None) if match is None else (match[1], int(match[2]))


@dataclass(frozen=True, kw_only=True)
class RoutingRecord:
    """Which positions lost their distillation term."""

    rule: str
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """One model of ``study.json``; FLOPs are floating-point operations."""

    name: str
    role: Literal["teacher", "student"]
    label: str
    folder: str
    """Its folder in the run's."""
    alpha: float = 0.0
    """Highest weight of the teacher's distribution in the loss."""
    routing: RoutingRecord | None = None
    teacher_flops: float = 0.0
    """The teacher's part: making the labels that this student used."""
    parameters: int
    distinct_tokens: int = 0
    epochs: float = 0.0
    tokens: int = 0
    """Tokens seen, repeats counted."""
    student_flops: float = 0.0
    seconds: float = 0.0

    @property
    def flops(self) -> float:
        """Training plus the teacher's part."""
        return self.student_flops + self.teacher_flops


def baseline_of(records: Sequence[ModelRecord]) -> ModelRecord | None:
    """The student that others are compared with: of hard labels, with the text that most students of soft labels had.

    With the least text where that leaves a choice; the first student where all have soft labels, None without any.
    """
    students = [record for record in records if record.role == "student"]
    plain = [record for record in students if record.alpha == 0]
    texts = Counter(record.distinct_tokens for record in students if record.alpha > 0)
    fewest = min(plain, key=lambda record: (-texts[record.distinct_tokens], record.tokens), default=None)
    return fewest or next(iter(students), None)


@dataclass(frozen=True, kw_only=True)
class LabelsRecord:
    """The label store of a study."""

    codec: str
    tokens: int
    bytes_per_token: float | None = None
    mean_kl_nats: float | None = None
    """KL of the stored labels from the teacher's own distribution, nats per token."""
    teacher_entropy_nats: float | None = None


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A stage of a study and how long it took."""

    name: str
    seconds: float
    reused: bool = False
    damaged: tuple[str, ...] = sometimes(())
    """Files that were found damaged and made again."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where everything that the run was made of lies, from the run folder."""

    corpus: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    labels: str | None = None
    evaluations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """``study.json``."""

    name: str
    fingerprint: str
    models: tuple[ModelRecord, ...]
    labels: LabelsRecord | None = None
    stages: tuple[StageRecord, ...] = ()
    total_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    places: Places | None = sometimes()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """``environment.json``: what the numbers were made with; ``others`` has what else the file says."""

    stillroom: str = sometimes("")
    torch: str = sometimes("")
    python: str = sometimes("")
    processor: str = sometimes("")
    cores: int | None = sometimes()
    precision: str = sometimes("")
    date: str = sometimes("")
    others: Mapping[str, Any] = sometimes(dict)


# ---------------------------------------------------------------- profile.json


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of positions by teacher entropy."""

    edges_nats: Numbers
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SourceProfile:
    """Counts of one source over the same edges."""

    counts: tuple[int, ...]
    mean_nats: float


@dataclass(frozen=True, kw_only=True)
class EntropyProfile:
    """``profile.json``: how uncertain the teacher was at the labelled positions."""

    entropy_histogram: Histogram
    by_source: Mapping[str, SourceProfile] = field(default_factory=dict)
    routing_threshold_nats: float | None = None
    """Mean over sequences of the entropy below which the first low-entropy rule routes."""
    mean_entropy_nats: float | None = None

    def __post_init__(self) -> None:
        bins = len(self.entropy_histogram.edges_nats) - 1
        counted = {"entropy_histogram": self.entropy_histogram, **self.by_source}
        for name, part in counted.items():
            if bins < 1 or len(part.counts) != bins:
                raise ValueError(f"{name} has {len(part.counts)} counts for {bins} bins")


# ---------------------------------------------------------------- comparison.json


def _number(value: object) -> object:
    return math.nan if value is None else value


_Number = Annotated[float, BeforeValidator(_number)]


@dataclass(frozen=True)
class Difference:
    """One thing minus another on the same items or seeds: its 95 % interval and the p-value that it is 0.

    ``p_holm`` is the p-value corrected for the number of differences that were tested together (Holm 1979);
    ``entropy_nats`` the answer entropy at which samples were compared.
    """

    value: _Number
    low: _Number
    high: _Number
    num: int
    p_value: float | None = None
    p_holm: float | None = None
    entropy_nats: float | None = None

    @classmethod
    def of(cls, estimate: types.Estimate, p_value: float | None = None) -> Difference:
        """An estimate of a difference, with the p-value that it is 0 where it was tested."""
        return cls(estimate.value, estimate.low, estimate.high, estimate.num, p_value)

    @property
    def estimate(self) -> types.Estimate:
        """The difference without its p-value."""
        return types.Estimate(self.value, self.low, self.high, self.num)

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON; what does not apply is left out."""
        tested = {"p_value": self.p_value, "p_holm": self.p_holm, "entropy_nats": self.entropy_nats}
        return self.estimate.as_dict() | {name: value for name, value in tested.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class SampleDifferences:
    """Differences of pass@k: temperature → k, and k at one mean answer entropy of both."""

    temperature_matched: Mapping[float, Mapping[int, Difference]] = field(default_factory=dict)
    entropy_matched: Mapping[int, Difference | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Against:
    """One model minus the baseline; ``items`` is part of the evaluation → measure."""

    items: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    samples: SampleDifferences | None = sometimes()


@dataclass(frozen=True, kw_only=True)
class MeanAndDifference:
    """An arm's mean over seeds, and its difference from the baseline's arm where it is another."""

    mean: Estimate
    difference: Difference | None = sometimes()


@dataclass(frozen=True, kw_only=True)
class ArmBySeed:
    """An arm's measures over its seeds; a measure is the place of its estimate, such as ``lm bits_per_byte``."""

    seeds: tuple[int, ...]
    measures: Mapping[str, MeanAndDifference]


@dataclass(frozen=True, kw_only=True)
class BySeed:
    """Arms of two seeds or more against the first of them, seed by seed, with intervals of Student's t."""

    baseline: str = sometimes("")
    arms: Mapping[str, ArmBySeed] = sometimes(dict)


@dataclass(frozen=True, kw_only=True)
class ArmSamples:
    """pass@k of an arm: temperature → k, with seeds and problems both drawn anew."""

    num_seeds: int
    temperatures: Mapping[float, Mapping[int, MeanAndDifference]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``comparison.json``: all models of a run against its baseline, by name."""

    baseline: str
    against: Mapping[str, Against]
    frontier: Mapping[str, tuple[Mapping[str, float], ...]] = field(default_factory=dict)
    """Model → by temperature: ``temperature``, ``answer_entropy_nats``, ``pass_at_1``, ..."""
    over_seeds: Mapping[str, ArmSamples] = field(default_factory=dict)
    by_seed: BySeed = field(default_factory=BySeed)


# ---------------------------------------------------------------- worth.json


def _no_lower_end(value: object) -> object:
    return 0.0 if value is None else value


def _no_upper_end(value: object) -> object:
    return math.inf if value is None else value


@dataclass(frozen=True)
class Worth:
    """A multiplier with its 95 % interval; 1 says that a soft label does what a hard one does.

    ``value`` is None where there is no number to give: ``why`` then says so. ``low`` is 0 and ``high`` infinite where
    that end lies outside the ladder, whose own reach is ``least`` to ``most``.
    """

    value: float | None
    low: Annotated[float, BeforeValidator(_no_lower_end)]
    high: Annotated[float, BeforeValidator(_no_upper_end)]
    least: float
    most: float
    num: int
    why: Literal["", "above", "below", "flat"] = ""

    def __str__(self) -> str:
        if self.why == "flat":
            return "no exchange rate: more text does not change this measure"
        if self.why:
            return f"> {self.most:.2g}" if self.why == "above" else f"< {self.least:.2g}"
        return f"{self.value:.2f} ({self._end(self.low)} to {self._end(self.high)})"

    def _end(self, end: float) -> str:
        if end <= 0:
            return f"< {self.least:.2g}"
        return f"{end:.2f}" if math.isfinite(end) else f"> {self.most:.2g}"

    def as_dict(self) -> dict[str, float | int | str | None]:
        """For JSON, which has no infinity: an end outside the ladder is None."""
        ends = {"low": self.low or None, "high": self.high if math.isfinite(self.high) else None}
        return {"value": self.value} | ends | {"least": self.least, "most": self.most, "num": self.num, "why": self.why}


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """An arm's multipliers on one ability: of text, and of FLOPs with the teacher's labelling counted."""

    data: Worth
    compute: Worth


@dataclass(frozen=True, kw_only=True)
class AbilityWorth:
    """One ability. ``formed`` is for each arm the number of its seeds past a jump, where the ability forms in one, and
    ``formed_at`` the tokens at which each of them was first seen past it, where checkpoints were measured.
    """

    key: str
    title: str
    arms: Mapping[str, Multipliers]
    formed: Mapping[str, int] | None = sometimes()
    formed_at: Mapping[str, tuple[float, ...]] | None = sometimes()


@dataclass(frozen=True, kw_only=True)
class Rung:
    """An arm of the ladder and its distinct tokens."""

    arm: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class ArmForecast:
    """An arm's forecast loss in nats per token, or why there is none; its measured loss once it is there."""

    arm: str
    forecast: Estimate | None = None
    why: str = ""
    outcome: float | None = None

    @property
    def is_outside(self) -> bool:
        """Whether the measured loss is outside the forecast's interval."""
        known = self.forecast is not None and self.outcome is not None
        return known and not self.forecast.low <= self.outcome <= self.forecast.high  # type: ignore[union-attr, operator]

    def cells(self) -> tuple[str, str, str]:
        """A row for people: arm, forecast, outcome."""
        told = self.why
        if self.forecast is not None:
            told = f"{self.forecast.value:.3f} ({self.forecast.low:.3f} to {self.forecast.high:.3f})"
        after = "" if self.outcome is None else f"{self.outcome:.3f}{' (outside)' if self.is_outside else ''}"
        return self.arm, told, after


@dataclass(frozen=True, kw_only=True)
class StudyForecast:
    """``forecast.json``: what a law expected of every arm of a study, and what came out."""

    law: str
    arms: tuple[ArmForecast, ...]


@dataclass(frozen=True, kw_only=True)
class WorthTable:
    """``worth.json``: what a soft label was worth on each ability, over seeds or over the items of one seed."""

    over: Literal["seeds", "items"]
    ladder: tuple[Rung, ...]
    abilities: tuple[AbilityWorth, ...]
