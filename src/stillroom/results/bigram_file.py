"""``sandbox.json`` of a bigram sandbox, typed: arms measured over seeds, and theory beside them.

A class of rows is ``high`` or ``low`` entropy; ``tv`` is total variation, ``kl`` a divergence in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stillroom.results.json_form import Estimate
from stillroom.results.schema import Numbers, StageRecord

ByClass = Mapping[str, tuple[Estimate, ...]]
"""Class of rows → a mean over seeds for every size of the sample."""


@dataclass(frozen=True, kw_only=True)
class BigramWorldFacts:
    """What the world is: rows and mean entropy (nats) by class, and the lowest losses possible (nats)."""

    source: str
    states: int
    visits: str
    rows: Mapping[str, int]
    entropy_nats: Mapping[str, float]
    optimal_loss_nats: float
    walk_loss_nats: float


@dataclass(frozen=True, kw_only=True)
class BigramArm:
    """One arm of the sweep with what was measured, what theory predicts at the largest sample, and what is left."""

    name: str
    alpha: float
    kind: str
    leak: float
    routing: str
    share: float
    drawn: bool
    tv: ByClass
    kl: ByClass
    predicted: Mapping[str, float]
    floor: Mapping[str, float]
    uniform_floor: float | None

    def measured(self, metric: str) -> ByClass:
        """``tv`` or ``kl``."""
        return self.tv if metric == "tv" else self.kl


@dataclass(frozen=True, kw_only=True)
class BigramTheory:
    """Sizes of the sample, and arm → metric → class → the expected value at each."""

    samples: Numbers
    arms: Mapping[str, Mapping[str, Mapping[str, Numbers]]]


@dataclass(frozen=True, kw_only=True)
class RatioPoint:
    """Samples that hard labels need over those that soft labels need, for rows of ``support`` next tokens."""

    support: int
    tolerance: float
    expected: float
    standard: Estimate
    distilled: Estimate
    ratio: Estimate
    theory: float


@dataclass(frozen=True, kw_only=True)
class BigramPasses:
    """pass@k: arm → class → size → k; and what the best, the true and the greedy policy reach: policy → class → k."""

    ks: tuple[int, ...]
    arms: Mapping[str, Mapping[str, tuple[tuple[Estimate, ...], ...]]]
    references: Mapping[str, Mapping[str, Numbers]]


@dataclass(frozen=True, kw_only=True)
class LearntArms:
    """Arms learnt by gradient: samples at the checkpoints, and arm → metric → class → the value at each."""

    samples: tuple[int, ...]
    arms: Mapping[str, Mapping[str, ByClass]]
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far measured points lie from theory: median and largest part, and the share of intervals that hold it."""

    median: float
    largest: float
    covered: float
    num: int


@dataclass(frozen=True, kw_only=True)
class RatioSlope:
    """The power of p/ε² with which the sample ratio grows."""

    measured: float | None
    theory: float | None


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """Figure by figure."""

    tv: Deviation | None
    kl: Deviation | None
    all_arms: Deviation | None
    ratio: Deviation | None
    ratio_slope: RatioSlope


@dataclass(frozen=True, kw_only=True)
class BigramResults:
    """``sandbox.json``; ``passes`` is called ``pass`` there."""

    fingerprint: str
    world: BigramWorldFacts
    samples: tuple[int, ...]
    seeds: int
    arms: tuple[BigramArm, ...]
    theory: BigramTheory
    ratio: tuple[RatioPoint, ...]
    passes: BigramPasses
    gradient: LearntArms | None
    transformer: LearntArms | None
    deviation: Deviations
    stages: tuple[StageRecord, ...]
    total_seconds: float
