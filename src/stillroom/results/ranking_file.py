"""``ranking.json`` of candidate teachers and the parts in their folders, typed; see ``docs/teachers.md``.

Losses, entropies and divergences are in nats per token. Fields stand in the order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import JsonValue

from stillroom import types
from stillroom.results.json_form import BREAK, Estimate
from stillroom.results.schema import ByK, CalibrationResult, CopyingResult, Numbers


@dataclass(frozen=True)
class NoPositions:
    """Instead of an estimate where no position was of its kind: an empty object in the file."""


@dataclass(frozen=True, kw_only=True)
class EntropyDistribution:
    """Entropy over all positions: mean, level → quantile, and a histogram."""

    mean: Estimate
    quantiles: Mapping[float, float]
    edges_nats: Numbers
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CopyableMeasures:
    """Positions whose gold token can be copied: their share, and the gold token's probability and loss there."""

    share: float
    gold_probability: Estimate | NoPositions
    ce: Estimate | NoPositions


@dataclass(frozen=True, kw_only=True)
class LeakMeasures:
    """Mean 1 - p(gold) at the surest positions: those of all candidates together, and the candidate's own."""

    shared: Estimate | NoPositions
    own: Estimate | NoPositions


@dataclass(frozen=True)
class Capacity(types.Estimate):
    """Teacher loss over student loss, and on which side of the law's break it is."""

    break_: Annotated[float, BREAK]
    side: str
    """``below``, ``above`` or ``at the break``."""


@dataclass(frozen=True, kw_only=True)
class BestHead:
    """The head with the highest prefix matching; ``copying`` is None where the layout of the model is not known."""

    layer: int
    head: int
    prefix_matching: float
    copying: float | None


@dataclass(frozen=True, kw_only=True)
class LookingBack:
    """``looking-back.json``: copying of repeated random tokens, and prefix matching of every head, rows of layers."""

    copying: CopyingResult
    induction: str
    """``finished``, ``begun`` or ``not begun``."""
    best_head: BestHead
    prefix_matching: tuple[Numbers, ...]


@dataclass(frozen=True, kw_only=True)
class SolvedProblems:
    """``problems.json``: right samples of every problem, and what they come to."""

    temperature: float
    num_samples: int
    num_correct: tuple[int, ...]
    pass_at: ByK
    unique_correct: Estimate | None


@dataclass(frozen=True, kw_only=True)
class LabellingCost:
    """What labelling ``tokens`` tokens takes, at the default codec and the speed just measured."""

    tokens: int
    flops: float
    bytes: float
    bytes_per_token: float
    hours: float | None


@dataclass(frozen=True, kw_only=True)
class TeacherRecord:
    """Everything that was measured of one candidate."""

    name: str
    path: str
    key: str
    """A hash of its weights."""
    parameters: int
    ce: Estimate
    ce_by_source: Mapping[str, Estimate]
    entropy: EntropyDistribution
    overconfidence_nats: Estimate
    """Loss minus own entropy."""
    calibration: CalibrationResult
    copyable: CopyableMeasures
    leak: LeakMeasures
    capacity: Capacity | None
    looking_back: LookingBack
    problems: SolvedProblems | None
    cost: LabellingCost


@dataclass(frozen=True, kw_only=True)
class FromFirst:
    """Paired difference of a candidate from the first one."""

    name: str
    nats: Estimate
    tie: bool


@dataclass(frozen=True, kw_only=True)
class LossOrder:
    """Names from the lowest loss up, and the difference of each from the first, at one level of confidence."""

    order: tuple[str, ...]
    against: str
    level: float
    differences: tuple[FromFirst, ...]


@dataclass(frozen=True, kw_only=True)
class ProxyOrder(LossOrder):
    """The order of proxy students, with their losses by seed and their differences from proxies of hard labels."""

    tokens: int
    seeds: int
    alpha: float
    flops_each: float
    ce: Mapping[str, Numbers]
    hard_labels_ce: Numbers
    against_hard_labels: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class CandidateAgreement:
    """Of every pair of candidates: share of the same first choice, and mean Jensen-Shannon divergence."""

    names: tuple[str, ...]
    same_first_choice: tuple[Numbers, ...]
    jensen_shannon_nats: tuple[Numbers, ...]
    num_positions: int
    num_distributions: int


@dataclass(frozen=True, kw_only=True)
class SolverDifference:
    """pass@k of one candidate minus that of another, over the same problems."""

    name: str
    against: str
    k: int
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class ReferenceStudent:
    """The supervised student; ``path`` is None where the proxies of hard labels stand for it."""

    name: str
    path: str | None
    ce: float


@dataclass(frozen=True, kw_only=True)
class RankingCorpus:
    """The corpus that students will be trained on."""

    identity: str
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RankingText:
    """How much held-out text was read."""

    sequences: int
    documents: int
    positions: int


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The first teacher or all that are tied with it, by which measure, and what there is to say."""

    teachers: tuple[str, ...]
    basis: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RankingNumbers:
    """All numbers of a ranking, before it is advised on."""

    corpus: RankingCorpus
    heldout: RankingText
    settings: Mapping[str, JsonValue]
    student: ReferenceStudent | None
    teachers: tuple[TeacherRecord, ...]
    teacher_loss: LossOrder
    proxies: ProxyOrder | None
    agreement: CandidateAgreement
    solvers: tuple[SolverDifference, ...]


@dataclass(frozen=True, kw_only=True)
class Ranking(RankingNumbers):
    """``ranking.json``."""

    recommendation: Advice
