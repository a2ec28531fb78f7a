"""Figures of test-time scaling: pass@k, its two ends against each other, and different right answers."""

from __future__ import annotations

from markupsafe import Markup

from stillroom.report.charts.figure import (
    Figure,
    Panel,
    Table,
    curve_class,
    legend,
    missing_models,
    names,
    panel_width,
    span,
)
from stillroom.report.charts.scales import Scale, tight
from stillroom.report.charts.svg import (
    WIDE,
    Box,
    Frame,
    band,
    drawing,
    joined,
    marker,
    path,
    place_label,
    ticks,
    whisker,
)
from stillroom.report.figures import captions
from stillroom.report.figures.bars import bars
from stillroom.report.formats import fixed, with_interval
from stillroom.report.headline import all_ks, draws, measured, temperatures
from stillroom.report.view import Entry, View
from stillroom.results.measures import unique_answers
from stillroom.results.schema import TemperatureResult
from stillroom.types import Estimate


def pass_curves(view: View) -> Figure:
    """pass@k against k, one panel for each temperature, with 95 % bands."""
    shown = _sampled(view)
    if not shown:
        return Figure("fig-passk", "pass@k")
    heats = temperatures(view)
    width = panel_width(len(heats))
    highest = tight([est.high for _, _, drawn in _all_draws(shown) for est in drawn.pass_at.values()], zero=True)
    scale = Scale(0.0, min(1.0, highest.high))
    panels = tuple(Panel(f"temperature {heat:g}", _pass_panel(view, shown, heat, scale, width)) for heat in heats)
    return Figure(
        "fig-passk",
        "pass@k",
        captions.PASS_AT_K.format(samples=_sample_counts(shown)) + missing_models(view.entries, shown),
        panels,
        legend(shown),
        _pass_table(shown, all_ks(view)),
    )


def _pass_panel(view: View, shown: tuple[Entry, ...], heat: float, scale: Scale, width: float) -> Markup:
    ks = all_ks(view)
    height = 320.0 if width >= WIDE else 250.0
    frame = Frame(width, height, Scale(ks[0], max(ks[-1], ks[0] + 1), log=True), scale)
    found = [(entry, drawn) for entry in shown if (drawn := draws(entry.model, heat))]
    parts = [frame.axes("k, draws per problem", "pass@k", [(k, str(k)) for k in _log_ticks(ks)])]
    parts += [_pass_band(frame, entry, drawn) for entry, drawn in found]
    parts += [_pass_line(frame, entry, drawn) for entry, drawn in found]
    label = f"pass@k at temperature {heat:g}"
    return drawing(width, height, label, f"{label} against k for {names(shown)}.", *parts)


def _pass_band(frame: Frame, entry: Entry, drawn: TemperatureResult) -> Markup:
    at = sorted(drawn.pass_at.items())
    upper = frame.points([k for k, _ in at], [est.high for _, est in at])
    lower = frame.points([k for k, _ in at], [est.low for _, est in at])
    return band(upper, lower, f"band {entry.colour}")


def _pass_line(frame: Frame, entry: Entry, drawn: TemperatureResult) -> Markup:
    at = sorted(drawn.pass_at.items())
    points = frame.points([k for k, _ in at], [est.value for _, est in at])
    parts = [path(points, curve_class(entry))]
    for (k, est), (x, y) in zip(at, points, strict=False):
        hint = f"{entry.label}: pass@{k} {with_interval(est, 3)}"
        parts.append(marker(entry.marker, x, y, f"mark {entry.colour}", hint))
    return joined(parts)


def _log_ticks(ks: tuple[int, ...]) -> tuple[int, ...]:
    """The ks that have room for a label on a logarithmic axis."""
    kept = [ks[0]]
    for k in ks[1:]:
        if k >= 1.6 * kept[-1]:
            kept.append(k)
    return tuple(kept)


def _sampled(view: View) -> tuple[Entry, ...]:
    return tuple(entry for entry in view.entries if entry.model.evaluation.tts)


def _all_draws(entries: tuple[Entry, ...]) -> list[tuple[Entry, float, TemperatureResult]]:
    """Every model at every temperature, temperatures rising."""
    return [
        (entry, heat, drawn)
        for entry in entries
        if (suite := entry.model.evaluation.tts)
        for heat, drawn in sorted(suite.temperatures.items())
    ]


def _sample_counts(entries: tuple[Entry, ...]) -> str:
    """``32 samples of each of 100 problems``."""
    suites = [suite for entry in entries if (suite := entry.model.evaluation.tts)]
    samples, problems = [suite.num_samples for suite in suites], [suite.num_problems for suite in suites]
    return f"{span(samples)} samples of each of {span(problems)} problems"


def _pass_table(shown: tuple[Entry, ...], ks: tuple[int, ...]) -> Table:
    rows = [
        (entry.label, f"{heat:g}", *(with_interval(drawn.pass_at.get(k), 3) for k in ks))
        for entry, heat, drawn in _all_draws(shown)
    ]
    return Table(("model", "temperature", *(f"pass@{k}" for k in ks)), tuple(rows))


def frontier(view: View) -> Figure:
    """The largest k against the smallest (pass@16 against pass@1): one trajectory per model over the temperatures."""
    shown, ks, title = _sampled(view), all_ks(view), "One draw against many"
    ends = [
        (entry, heat, drawn.pass_at[ks[0]], drawn.pass_at[ks[-1]])
        for entry, heat, drawn in _all_draws(shown)
        if ks[0] in drawn.pass_at and ks[-1] in drawn.pass_at
    ]
    if not ends or len(ks) < 2:
        return Figure("fig-frontier", title)
    first, last = ks[0], ks[-1]
    frame = Frame(
        WIDE,
        380,
        tight([end for _, _, one, _ in ends for end in (one.low, one.high)]),
        tight([end for _, _, _, many in ends for end in (many.low, many.high)]),
    )
    parts = [frame.axes(f"pass@{first}", f"pass@{last}", ticks(frame.x))]
    parts += [_cross(frame, entry, one, many) for entry, _, one, many in ends]
    parts += _trajectories(frame, ends, (first, last))
    label = f"pass@{last} against pass@{first} over temperatures"
    caption = captions.FRONTIER.format(first=first, last=last, samples=_sample_counts(shown))
    return Figure(
        "fig-frontier",
        title,
        caption + missing_models(view.entries, shown),
        (Panel("", drawing(WIDE, 380, label, f"{label} for {names(shown)}.", *parts)),),
        legend(shown),
        _pass_table(shown, (first, last)),
    )


def _cross(frame: Frame, entry: Entry, one: Estimate, many: Estimate) -> Markup:
    """The intervals of both ends through one point."""
    x, y = frame.px(one.value), frame.py(many.value)
    return joined(
        [
            whisker(frame.px(one.low), y, frame.px(one.high), y, f"error faint {entry.colour}", 0),
            whisker(x, frame.py(many.low), x, frame.py(many.high), f"error faint {entry.colour}", 0),
        ]
    )


def _trajectories(
    frame: Frame, ends: list[tuple[Entry, float, Estimate, Estimate]], ks: tuple[int, int]
) -> list[Markup]:
    """A line through each model's points, their marks, and the temperature beside each where there is room."""
    lines, marks, labels = [], [], []
    places = [(frame.px(one.value), frame.py(many.value)) for _, _, one, many in ends]
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for entry in dict.fromkeys(entry for entry, _, _, _ in ends):
        own = [place for place, (other, *_) in zip(places, ends, strict=True) if other is entry]
        lines.append(path(own, curve_class(entry)))
    for (entry, heat, one, many), (x, y) in zip(ends, places, strict=True):
        values = f"pass@{ks[0]} {fixed(one.value, 3)}, pass@{ks[1]} {fixed(many.value, 3)}"
        hint = f"{entry.label}, temperature {heat:g}: {values}"
        marks.append(marker(entry.marker, x, y, f"mark {entry.colour}", hint, 4.4))
        labels.append(place_label(frame, (x, y), f"{heat:g}", f"ink halo {entry.colour}", taken))
    return lines + marks + labels


def unique_right(view: View) -> Figure:
    """Different right answers per problem, one panel for each temperature."""
    found = [(heat, rows) for heat in temperatures(view) if (rows := measured(view, unique_answers(heat)))]
    title = "Different right answers"
    if not found:
        return Figure("fig-unique", title)
    width = panel_width(len(found))
    panels = tuple(Panel(f"temperature {heat:g}", bars(unique_answers(heat), rows, width)) for heat, rows in found)
    shown = tuple(dict.fromkeys(entry for _, rows in found for entry, _ in rows))
    count = span([est.num for _, rows in found for _, est in rows])
    rows = [
        (entry.label, f"{heat:g}", with_interval(drawn.unique_correct, 2), with_interval(drawn.answer_entropy_nats, 2))
        for entry, heat, drawn in _all_draws(shown)
    ]
    return Figure(
        "fig-unique",
        title,
        captions.UNIQUE.format(count=count) + missing_models(view.entries, shown),
        panels,
        table=Table(("model", "temperature", "different right answers", "answer entropy (nats)"), tuple(rows)),
    )
