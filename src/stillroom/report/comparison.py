"""``comparison.json`` of a run folder: every student against the first, on the same items."""

from __future__ import annotations

from stillroom.report.record import Record
from stillroom.types import Estimate


class Difference(Record):
    """A model minus the baseline, with its 95 % interval over items and the p-value of a sign-flip test.

    ``p_holm`` is the p-value corrected for the number of differences that were tested together.
    """

    value: float
    low: float
    high: float
    num: int
    p_value: float | None = None
    p_holm: float | None = None

    @property
    def estimate(self) -> Estimate:
        """The difference without its p-value."""
        return Estimate(self.value, self.low, self.high, self.num)


class Samples(Record):
    """Differences of pass@k: temperature → k, and k at one mean answer entropy of both."""

    temperature_matched: dict[float, dict[int, Difference]] = {}
    entropy_matched: dict[int, Difference | None] = {}


class Against(Record):
    """One model against the baseline; ``items`` is part → measure."""

    items: dict[str, dict[str, Difference]] = {}
    samples: Samples = Samples()


class Comparison(Record):
    """All models of a run against its baseline, by name."""

    baseline: str
    against: dict[str, Against]
