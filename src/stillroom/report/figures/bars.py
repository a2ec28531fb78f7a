"""Bars from zero with their intervals, and the figure of in-context learning."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, missing_models, panel_width, span
from stillroom.report.charts.scales import Scale, linear
from stillroom.report.charts.svg import (
    Frame,
    drawing,
    joined,
    letter,
    marker,
    segment,
    shortened,
    tag,
    text,
    ticks,
    whisker,
)
from stillroom.report.figures import captions
from stillroom.report.formats import fixed, with_interval
from stillroom.report.headline import measured
from stillroom.report.view import Entry, View
from stillroom.results.measures import COPY_ORDER, FOLLOWS_CONTEXT, ICL_SCORE, LOG_ODDS, Measure
from stillroom.types import Estimate

ROW = 38.0
"""Height of a bar with the words above it."""
TOP = 6.0


def bars(
    measure: Measure,
    rows: list[tuple[Entry, Estimate]],
    width: float,
    chance: float | None = None,
    dots: Sequence[Sequence[float]] = (),
) -> Markup:
    """A bar from zero for each model, its name and value above it and its 95 % interval across its end.

    ``dots`` are, for each row, the numbers that its value is the mean of.
    """
    ends = [end for _, est in rows for end in (est.low, est.high, est.value)]
    ends += [value for values in dots for value in values]
    scale = linear([*ends, *([] if chance is None else [chance])], include=0.0)
    height = TOP + ROW * len(rows) + 46
    frame = Frame(width, height, scale, Scale(0, 1), left=16, right=18, top=TOP)
    parts = [segment(frame.px(value), TOP, frame.px(value), frame.floor, "grid") for value, _ in ticks(scale)]
    parts += [text(frame.px(value), frame.floor + 19, words, "middle", "tick") for value, words in ticks(scale)]
    unit = measure.unit if chance is None else f"{measure.unit}, chance dashed"
    parts.append(text(width - frame.right, height - 5, unit, "end", "name"))
    parts.append(segment(frame.px(0), TOP, frame.px(0), frame.floor, "axis"))
    if chance is not None:
        parts.append(segment(frame.px(chance), TOP, frame.px(chance), frame.floor, "guide strong"))
    parts += [_bar(frame, measure, entry, est, TOP + ROW * place) for place, (entry, est) in enumerate(rows)]
    parts += [
        tag("circle", cx=frame.px(value), cy=TOP + ROW * place + 26, r=2.4, class_=f"dot-of {rows[place][0].colour}")
        for place, values in enumerate(dots)
        for value in values
    ]
    names = "; ".join(f"{entry.label} {fixed(est.value, measure.decimals)}" for entry, est in rows)
    return drawing(width, height, measure.title, f"{measure.title} in {measure.unit}: {names}.", *parts)


def _bar(frame: Frame, measure: Measure, entry: Entry, est: Estimate, top: float) -> Markup:
    zero, end, middle = frame.px(0), frame.px(est.value), top + 26
    value = fixed(est.value, measure.decimals)
    hint = f"{entry.label}: {with_interval(est, measure.decimals)}"
    room = frame.width - frame.left - frame.right - 14 - len(value) * letter(frame.width)
    box = {"x": min(zero, end), "y": middle - 5, "width": abs(end - zero), "height": 10.0}
    return joined(
        [
            tag("rect", class_=f"fill {entry.colour}", **box),
            whisker(frame.px(est.low), middle, frame.px(est.high), middle, f"error {entry.colour}"),
            marker(entry.marker, end, middle, f"mark {entry.colour}", hint),
            text(frame.left + 4, top + 15, shortened(entry.label, room, frame.width), class_="halo"),
            text(frame.width - frame.right - 4, top + 15, value, "end", "halo"),
        ]
    )


def in_context(view: View) -> Figure:
    """ICL score, copying in order, counterfactual facts: what a model takes from its context."""
    measures = (ICL_SCORE, COPY_ORDER, FOLLOWS_CONTEXT, LOG_ODDS)
    found = [(measure, rows) for measure in measures if (rows := measured(view, measure))]
    title = "In-context learning"
    if not found:
        return Figure("fig-icl", title)
    width = panel_width(len(found))
    panels = tuple(Panel(measure.title, bars(measure, rows, width, _chance(measure, rows))) for measure, rows in found)
    counts = "; ".join(f"{measure.title}: n = {span([est.num for _, est in rows])}" for measure, rows in found)
    shown = tuple(entry for entry in view.entries if any(entry is other for _, rows in found for other, _ in rows))
    cells = (
        (entry.label, *(with_interval(entry.read(measure), measure.decimals) for measure, _ in found))
        for entry in shown
    )
    return Figure(
        "fig-icl",
        title,
        captions.IN_CONTEXT.format(counts=counts) + missing_models(view.entries, shown),
        panels,
        table=Table(("model", *(measure.title for measure, _ in found)), tuple(cells)),
    )


def _chance(measure: Measure, rows: list[tuple[Entry, Estimate]]) -> float | None:
    """What a model gets that takes nothing from its context's order."""
    if measure is COPY_ORDER:
        return 0.5
    if measure is not FOLLOWS_CONTEXT:
        return None
    suites = [entry.model.evaluation.counterfactual for entry, _ in rows]
    return next((suite.chance for suite in suites if suite and suite.chance is not None), None)
