"""Figures made of lines over tokens or positions: learning, and copying by position."""

from __future__ import annotations

from itertools import pairwise

from markupsafe import Markup

from stillroom.report.charts.figure import (
    Figure,
    Panel,
    Table,
    curve_class,
    legend,
    missing_models,
    names,
    span,
)
from stillroom.report.charts.scales import Scale, tight
from stillroom.report.charts.svg import WIDE, Frame, drawing, marker, segment, ticks
from stillroom.report.figures import captions
from stillroom.report.formats import fixed, si, with_interval
from stillroom.report.view import Entry, View
from stillroom.results.runs import Curve
from stillroom.results.schema import CopyingResult, Numbers

HEIGHT = 320.0
EARLY = 0.08
"""Share of the longest run that may lie above the top of a learning curve: the first fall says nothing of the arms."""
BINS = 40
"""Points kept of a per-step curve; each is the mean of a bin of steps."""
TOKEN_UNITS = ((1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)"))


def learning_curves(view: View) -> Figure:
    """Validation cross-entropy, and the distance to the teacher where a student has one, against tokens."""
    shown = tuple(entry for entry in view.entries if entry.model.validation.tokens)
    if not shown:
        return Figure("fig-learning", "Learning curves")
    curves = [(entry, entry.model.validation) for entry in shown]
    panels = [Panel("Held-out loss", _curves(curves, "cross-entropy (nats per token)"))]
    distilled = [(entry, _binned(entry.model.forward_kl)) for entry in shown if entry.model.forward_kl.tokens]
    if distilled:
        picture = _curves(distilled, "forward KL (nats per token)", zero=True)
        panels.append(Panel("Distance to the teacher", picture))
    rows = tuple((entry.label, si(curve.tokens[-1]), fixed(curve.values[-1], 4)) for entry, curve in curves)
    return Figure(
        "fig-learning",
        "Learning curves",
        captions.LEARNING + (captions.DISTANCE if distilled else "") + missing_models(view.entries, shown),
        tuple(panels),
        legend(shown),
        Table(("model", "tokens", "last held-out loss (nats per token)"), rows),
    )


def _curves(curves: list[tuple[Entry, Curve]], y_title: str, zero: bool = False) -> Markup:
    longest = max(curve.tokens[-1] for _, curve in curves)
    late = [
        value
        for _, curve in curves
        for tokens, value in zip(curve.tokens, curve.values, strict=True)
        if tokens >= EARLY * longest or tokens == curve.tokens[-1]
    ]
    frame = Frame(WIDE, HEIGHT, Scale(0.0, 1.02 * longest), tight(late, zero=zero))
    parts = [_token_axes(frame, y_title)]
    for entry, curve in curves:
        shown = _from_top(curve, frame.y.high)
        points = frame.points(*shown)
        parts.append(frame.curve(*shown, curve_class(entry), entry.label))
        hint = f"{entry.label}: {fixed(curve.values[-1], 3)} nats after {si(curve.tokens[-1])} tokens"
        parts += [marker(entry.marker, x, y, f"mark {entry.colour}", hint) for x, y in points[-1:]]
    models = names(tuple(entry for entry, _ in curves))
    return drawing(WIDE, HEIGHT, y_title, f"Lines of {y_title} against training tokens for {models}.", *parts)


def _from_top(curve: Curve, top: float) -> tuple[Numbers, Numbers]:
    """The curve from where it first comes below the top of the frame, beginning on the top itself."""
    first = next((place for place, value in enumerate(curve.values) if value <= top), 0)
    tokens, values = curve.tokens[first:], curve.values[first:]
    if not first:
        return tokens, values
    share = (curve.values[first - 1] - top) / (curve.values[first - 1] - values[0])
    start = curve.tokens[first - 1] + share * (tokens[0] - curve.tokens[first - 1])
    return (start, *tokens), (top, *values)


def _binned(curve: Curve) -> Curve:
    """Means of equal bins of steps; the curve as it is where it is short."""
    count = len(curve.tokens)
    if count <= BINS:
        return curve
    pairs = list(pairwise(round(place * count / BINS) for place in range(BINS + 1)))
    return Curve(
        tuple(sum(curve.tokens[low:high]) / (high - low) for low, high in pairs),
        tuple(sum(curve.values[low:high]) / (high - low) for low, high in pairs),
    )


def _token_axes(frame: Frame, y_title: str) -> Markup:
    """Axes whose token counts share one unit, named in the title."""
    size, word = next((pair for pair in TOKEN_UNITS if frame.x.high >= pair[0]), (1.0, ""))
    scaled = [(value * size, words) for value, words in ticks(Scale(0.0, frame.x.high / size))]
    return frame.axes(f"training tokens{word}", y_title, scaled)


def copying_curve(view: View) -> Figure:
    """Loss at each position of a random sequence that repeats."""
    curves = [(entry, found) for entry in view.entries if (found := entry.model.evaluation.copying)]
    curves = [(entry, found) for entry, found in curves if found.loss_by_position]
    title = "Copying by position"
    if not curves:
        return Figure("fig-copying", title)
    shown = tuple(entry for entry, _ in curves)
    periods = sorted({found.period for _, found in curves})
    counts = [found.icl_score.num for _, found in curves]
    caption = captions.COPYING.format(period=" or ".join(map(str, periods)), count=span(counts))
    return Figure(
        "fig-copying",
        title,
        caption + missing_models(view.entries, shown),
        (Panel("", _positions(curves, periods[0])),),
        legend(shown),
        Table(
            ("model", "loss, first pass (nats)", "loss, repeats (nats)"),
            tuple(
                (entry.label, with_interval(found.loss_first, 2), with_interval(found.loss_repeat, 2))
                for entry, found in curves
            ),
        ),
    )


def _positions(curves: list[tuple[Entry, CopyingResult]], period: int) -> Markup:
    length = max(max(found.period * found.repeats, len(found.loss_by_position)) for _, found in curves)
    values = [value for _, found in curves for value in found.loss_by_position]
    frame = Frame(WIDE, HEIGHT, Scale(0.0, float(length)), tight(values))
    parts = [frame.axes("position (tokens)", "loss (nats per token)", ticks(frame.x, 6))]
    for start in range(period, length, period) if period else ():
        parts.append(segment(frame.px(start), frame.top, frame.px(start), frame.floor, "guide"))
    for entry, found in curves:
        start = max(0, found.period * found.repeats - len(found.loss_by_position))  # what nothing precedes has no loss
        places = range(start, start + len(found.loss_by_position))
        parts.append(frame.curve(places, found.loss_by_position, curve_class(entry, "thin"), entry.label))
    label = "Loss by position on repeated random tokens"
    return drawing(WIDE, HEIGHT, label, f"{label} for {names(tuple(entry for entry, _ in curves))}.", *parts)
