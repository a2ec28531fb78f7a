"""Axes: from a value to a place between 0 and 1, and the round numbers to write beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from stillroom.report.formats import minus

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """An axis from ``low`` to ``high``, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """0 at ``low``, 1 at ``high``; values outside stay outside."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def clipped(self, value: float) -> float:
        """``place`` held between 0 and 1."""
        return min(1.0, max(0.0, self.place(value)))

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """About ``count`` round values inside the axis (linear axes only)."""
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / count))
        steps = [step * power for step in STEPS] + [20.0 * power]
        return min((self._multiples(step) for step in steps), key=lambda found: abs(len(found) - count))

    def _multiples(self, step: float) -> tuple[float, ...]:
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(round(index * step, 12) + 0.0 for index in range(first, last + 1))


def nice_step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least ``raw``."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in STEPS if step * power >= raw * (1 - 1e-9))


def linear(values: Iterable[float], *, include: float | None = None) -> Scale:
    """A linear scale around the finite values whose ends are round numbers; ``include`` must be on the axis."""
    found = [value for value in values if math.isfinite(value)]
    if include is not None:
        found.append(include)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if high - low < 1e-12:
        high += abs(high) * 0.1 or 0.1
    step = nice_step((high - low) / 5)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


def tight(values: Iterable[float], *, zero: bool = False) -> Scale:
    """A linear scale that the finite values fill but for a little air; ``zero`` starts it at 0."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = (0.0 if zero else min(found)), max(found)
    air = 0.05 * (high - low) or abs(high) * 0.1 or 0.1
    bottom = max(0.0, low - air) if low >= 0 else low - air
    return Scale(0.0 if zero else bottom, high + air)


def tick_text(value: float, step: float) -> str:
    """A tick's label with as many decimals as its step needs and a true minus sign."""
    decimals = 0 if step <= 0 else max(0, -math.floor(math.log10(step) + 1e-9))
    if step > 0 and abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    return minus(f"{value:.{decimals}f}")
