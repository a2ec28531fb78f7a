"""Typed numbers of a run, from where they are made to the page that shows them. Imports the standard library alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Worth:
    """A multiplier with its 95 % interval; 1 says that a soft label does what a hard one does.

    ``value`` is None where there is no number to give: ``why`` then says so. ``low`` is 0 and ``high`` infinite where
    that end lies outside the ladder, whose own reach is ``least`` to ``most``.
    """

    value: float | None
    low: float
    high: float
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
