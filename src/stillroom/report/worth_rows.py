"""``worth.json`` of a run folder: what a soft label was worth on each ability (see ``stillroom.results.worth``)."""

from __future__ import annotations

import math
from typing import Literal

from stillroom import results
from stillroom.report.metric_lines import Record


class Worth(Record):
    """A multiplier; an end of the interval that lies outside the ladder is None."""

    value: float | None
    low: float | None
    high: float | None
    least: float
    most: float
    num: int
    why: Literal["", "above", "below", "flat"] = ""

    @property
    def read(self) -> results.Worth:
        """The same with its ends as numbers: 0 and infinity where they are outside the ladder."""
        high = math.inf if self.high is None else self.high
        return results.Worth(self.value, self.low or 0.0, high, self.least, self.most, self.num, self.why)


class Multipliers(Record):
    """An arm's multipliers on one ability: of text, and of FLOPs with the teacher's labelling counted."""

    data: Worth
    compute: Worth


class Ability(Record):
    """One ability. ``formed`` is for each arm the number of its seeds past a jump, where the ability forms in one."""

    key: str
    title: str
    arms: dict[str, Multipliers]
    formed: dict[str, int] | None = None


class Rung(Record):
    """An arm of the ladder and its distinct tokens."""

    arm: str
    tokens: int


class Worths(Record):
    """``worth.json``."""

    over: Literal["seeds", "items"]
    ladder: tuple[Rung, ...]
    abilities: tuple[Ability, ...]
