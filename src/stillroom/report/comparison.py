"""``comparison.json`` of a run folder: every student against the first, on the same items."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator

from stillroom.report.metric_lines import Record
from stillroom.types import Estimate

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number as JSON holds it: null where there is none."""


class Difference(Record):
    """A model minus the baseline, with its 95 % interval over items and the p-value of a sign-flip test.

    ``p_holm`` is the p-value corrected for the number of differences that were tested together.
    """

    value: Number
    low: Number
    high: Number
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
