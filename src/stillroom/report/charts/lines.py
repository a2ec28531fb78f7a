"""A chart of a sandbox: measured points with whiskers, and theory as lines through them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from stillroom.report.charts.keys import line_key
from stillroom.report.charts.scales import Scale, tight
from stillroom.report.charts.svg import WIDE, Frame, drawing, marker, ticks, whisker
from stillroom.report.formats import MISSING, fixed, si
from stillroom.types import Estimate

HEIGHT = 320.0


@dataclass(frozen=True)
class Series:
    """One thing's points and line: either may be empty."""

    name: str
    colour: str
    marker: str = "circle"
    xs: Sequence[float] = ()
    points: Sequence[Estimate] = ()
    line_xs: Sequence[float] = ()
    line_ys: Sequence[float] = ()
    line: str = ""
    """What the line is beside the points, such as theory; empty where it joins them or stands alone."""
    dashed: bool = False
    guide: bool = False
    """Whether the line is a reference and not of one of the things compared."""


@dataclass(frozen=True)
class Axis:
    """Title with its unit, and the range; logarithmic axes leave out what lies below ``low``."""

    title: str
    scale: Scale
    labels: list[tuple[float, str]] = field(default_factory=list)


def chart(label: str, x: Axis, y: Axis, series: Sequence[Series], width: float = WIDE) -> Markup:
    """The picture: lines first, then whiskers, then marks, so that no mark is hidden by a line."""
    frame = Frame(width, HEIGHT if width >= WIDE else 250.0, x.scale, y.scale)
    parts = [frame.axes(x.title, y.title, x.labels or ticks(x.scale), y.labels or None)]
    parts += [_line(frame, each) for each in series]
    parts += [part for each in series for part in _marks(frame, each)]
    names = ", ".join(dict.fromkeys(each.name for each in series))
    return drawing(width, frame.height, label, f"{label}: {y.title} against {x.title} for {names}.", *parts)


def _line(frame: Frame, series: Series) -> Markup:
    kept = [(x, y) for x, y in zip(series.line_xs, series.line_ys, strict=True) if _inside(frame, x, y)]
    classes = "guide strong" if series.guide else f"curve thin {series.colour}{' dashed' if series.dashed else ''}"
    name = f"{series.name}, {series.line}" if series.line else series.name
    return frame.curve([x for x, _ in kept], [y for _, y in kept], classes, name)


def _inside(frame: Frame, x: float, y: float) -> bool:
    """Whether a point can be shown where it is: on a logarithmic axis nothing below its end."""
    return all(
        math.isfinite(value) and (not scale.log or value >= scale.low * (1 - 1e-9))
        for value, scale in ((x, frame.x), (y, frame.y))
    )


def _marks(frame: Frame, series: Series) -> list[Markup]:
    parts, marks = [], []
    for x, est in zip(series.xs, series.points, strict=True):
        if not _inside(frame, x, est.value):
            continue
        at = frame.px(x)
        if est.high > est.low:
            low = max(est.low, frame.y.low) if frame.y.log else est.low
            parts.append(whisker(at, frame.py(low), at, frame.py(est.high), f"error {series.colour}"))
        hint = f"{series.name} at {si(x)}: {brief_with_interval(est)}"
        marks.append(marker(series.marker, at, frame.py(est.value), f"mark {series.colour}", hint))
    return parts + marks


def brief(value: float) -> str:
    """A value with three significant digits; 0 where it is no more than rounding."""
    if not math.isfinite(value):
        return MISSING
    if abs(value) < 1e-9:
        return "0"
    if abs(value) >= 1000:
        return si(value)
    decimals = min(7, max(0, 2 - math.floor(math.log10(abs(value)))))
    return fixed(value, decimals)


def brief_interval(point: Estimate) -> str:
    """``low to high`` with three significant digits; a dash where the two are alike."""
    low, high = brief(point.low), brief(point.high)
    return MISSING if low == high else f"{low} to {high}"


def brief_with_interval(point: Estimate) -> str:
    """``0.31 (0.25 to 0.37)`` with three significant digits, without an interval that has no width in them."""
    ends = brief_interval(point)
    return brief(point.value) if ends == MISSING else f"{brief(point.value)} ({ends})"


def sizes_axis(title: str, sizes: Sequence[float]) -> Axis:
    """A logarithmic axis over some sizes with a little air, labelled at powers of ten."""
    return log_axis(title, min(sizes) / 1.2, max(sizes) * 1.2)


def log_axis(title: str, low: float, high: float) -> Axis:
    """A logarithmic axis labelled at powers of ten, and at 2 and 5 times those where fewer than two are on it."""
    scale = Scale(low, max(high, low * 10), log=True)
    powers = range(math.floor(math.log10(scale.low)), math.floor(math.log10(scale.high) + 1e-9) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [(factor, power) for power in powers for factor in factors]
        found = [one for one in found if scale.low * (1 - 1e-9) <= one[0] * 10.0 ** one[1] <= scale.high * (1 + 1e-9)]
        if len(found) > 1:
            break
    return Axis(title, scale, [(factor * 10.0**power, _round_number(factor, power)) for factor, power in found])


def _round_number(factor: int, power: int) -> str:
    return si(factor * 10.0**power) if power >= 0 else f"{factor * 10.0**power:.{-power}f}"


def linear_axis(title: str, values: Sequence[float]) -> Axis:
    """A linear axis from 0."""
    return Axis(title, tight(values, zero=True))


def legend_sign(colour: str, shape: str, *, guide: bool = False, dashed: bool = False) -> Markup:
    """The sign of a legend: a line with its mark, or a reference line alone."""
    classes = "guide strong" if guide else f"curve thin {colour}{' dashed' if dashed else ''}"
    return line_key(classes, shape, colour)
