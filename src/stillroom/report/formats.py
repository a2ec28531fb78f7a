"""Numbers as a reader meets them: units, intervals, and whether two intervals overlap."""

from __future__ import annotations

import math

from stillroom.results.ranking_file import NoPositions
from stillroom.types import Estimate

MISSING = "–"
PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def minus(text: str) -> str:
    """The text with a true minus sign."""
    return text.replace("-", "−")


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals; a dash where it is not finite."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    return minus(text if float(text) else text.lstrip("-"))


def interval(estimate: Estimate, decimals: int) -> str:
    """The 95 % interval as ``low to high``; empty where it is not known or has no width in so many decimals."""
    low, high = fixed(estimate.low, decimals), fixed(estimate.high, decimals)
    return "" if low == high or not math.isfinite(estimate.low) else f"{low} to {high}"


def with_interval(estimate: Estimate | NoPositions | None, decimals: int) -> str:
    """``0.31 (0.25 to 0.37)``, without the interval where there is none; a dash where nothing was measured."""
    if not isinstance(estimate, Estimate):
        return MISSING
    value = fixed(estimate.value, decimals)
    ends = interval(estimate, decimals)
    return f"{value} ({ends})" if ends else value


def si(value: float, unit: str = "") -> str:
    """Three significant digits with an SI prefix: ``1.25 M``, ``310 TFLOP``."""
    for size, prefix in PREFIXES:
        if abs(value) >= size * 0.9995:
            return f"{_significant(value / size)} {prefix}{unit}"
    return f"{_significant(value)} {unit}".rstrip()


def _significant(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else MISSING
    decimals = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """A share as whole percent: ``38 %``."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else MISSING


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 10 s`` or ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def has_width(estimate: Estimate) -> bool:
    """Whether the interval says anything: resampling items that are all alike gives one of width 0."""
    return math.isfinite(estimate.low) and math.isfinite(estimate.high) and estimate.high > estimate.low


def overlap(first: Estimate, second: Estimate) -> bool:
    """Whether two intervals share a value."""
    return first.low <= second.high and second.low <= first.high


def apart(first: Estimate, second: Estimate) -> bool:
    """Whether both intervals have a width and share no value: only then is one called better than the other."""
    return has_width(first) and has_width(second) and not overlap(first, second)


def kept_together(text: str) -> str:
    """The text with spaces that do not break before a percent sign and around an equals sign."""
    return text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")


def listing(names: list[str]) -> str:
    """``a``, ``a and b`` or ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
