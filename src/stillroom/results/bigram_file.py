"""``sandbox.json`` of a bigram sandbox and ``cell.json`` of its parts, typed: arms measured over seeds, beside theory.

A class of rows is ``high`` or ``low`` entropy; ``tv`` is total variation, ``kl`` a divergence in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from stillroom.results.json_form import PASS, Estimate, sometimes
from stillroom.results.schema import Numbers, StageRecord

KIND = "sandbox-bigram"
"""What ``sandbox.json`` says that it is of, and what artifacts of the sandbox are called."""
ByClass = Mapping[str, tuple[Estimate, ...]]
"""Class of rows → a mean over seeds for every size of the sample."""


Distances = Mapping[str, float]
"""Class of rows → the mean distance from the true ones."""


@dataclass(frozen=True, kw_only=True)
class LearntCurve:
    """Distances from the true rows at every size of the sample, or at every checkpoint."""

    tv: tuple[Distances, ...]
    kl: tuple[Distances, ...]


@dataclass(frozen=True, kw_only=True)
class ArmCell(LearntCurve):
    """One arm on one seed's samples; for an arm that is drawn pass@k as well: size → class → k."""

    pass_: Annotated[tuple[Mapping[str, Numbers], ...], PASS]
    floor: Distances
    predicted: Distances | None = sometimes()
    """At the largest sample; of the first seed alone where the teacher is the same for all."""


@dataclass(frozen=True, kw_only=True)
class RatioCell:
    """Samples that hard labels need, by seed and tolerance, and until every row was visited; and what is expected."""

    standard: tuple[Numbers, ...]
    distilled: tuple[int, ...]
    standard_theory: Numbers
    distilled_theory: float


@dataclass(frozen=True, kw_only=True)
class GradientCell:
    """Arms that one seed learns by gradient, at the checkpoints."""

    samples: tuple[int, ...]
    arms: Mapping[str, LearntCurve]


@dataclass(frozen=True, kw_only=True)
class TransformerCell(LearntCurve):
    """One arm that a transformer learns from one seed, at the checkpoints."""

    samples: tuple[int, ...]


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
    teacher: str
    kind: str
    leak: float
    temperature: float
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

    samples: tuple[int, ...]
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
    floor: Deviation | None = None
    """Of what teachers that leak evenly leave on low-entropy rows."""
    ratio: Deviation | None
    ratio_slope: RatioSlope


@dataclass(frozen=True, kw_only=True)
class BigramResults:
    """``sandbox.json``."""

    kind: str
    fingerprint: str
    world: BigramWorldFacts
    samples: tuple[int, ...]
    seeds: int
    arms: tuple[BigramArm, ...]
    theory: BigramTheory
    ratio: tuple[RatioPoint, ...]
    pass_: Annotated[BigramPasses, PASS]
    gradient: LearntArms | None
    transformer: LearntArms | None
    deviation: Deviations
    stages: tuple[StageRecord, ...] = ()
    total_seconds: float = 0.0
    places: Mapping[str, tuple[str, ...]] = sometimes(dict)
