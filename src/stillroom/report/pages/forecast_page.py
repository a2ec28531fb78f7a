"""The page of a fitted law: curves, crossings, isoFLOP valleys and residuals, from ``law.json`` alone; no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup

from stillroom.files import write_text
from stillroom.laws.bills import forward_flops
from stillroom.laws.fits import log_errors
from stillroom.laws.forms import Floats
from stillroom.laws.law_file import Law, load_law
from stillroom.laws.points import Points
from stillroom.report.charts.figure import Figure, Panel, Table, panel_width
from stillroom.report.charts.lines import Axis, Series, chart, legend_sign, log_axis
from stillroom.report.charts.scales import tight
from stillroom.report.formats import fixed, si
from stillroom.report.html import Lead, fill
from stillroom.types import Estimate

_HARD, _TAUGHT = ("s0", "circle"), ("s1", "square")
_GRID = 80
_COEFFICIENTS = (
    "95 % intervals of the law made linear about its fit; a prime marks the distillation law’s own. A wide one says "
    "that other coefficients can take this one’s place: forecast losses are known much better. N is parameters beside "
    "embeddings, D tokens, losses are in nats per token."
)


def build_forecast_page(folder: Path) -> Path:
    """Writes ``forecast.html`` beside ``law.json`` and returns its path; the same file gives the same bytes."""
    write_text(folder / "forecast.html", render(load_law(str(folder))))
    return folder / "forecast.html"


def render(law: Law) -> str:
    """The page as text."""
    rows = tuple(
        (name, f"{one.value:.4g}", f"{one.low:.4g} to {one.high:.4g}") for name, one in law.intervals().items()
    )
    compared = tuple(f"{one.form} form: {one.fitted:.2%} fitted, {one.held_out:.2%} held out" for one in law.errors)
    return fill(
        "forecast.html.j2",
        kind="stillroom forecast",
        title="A scaling law of distillation",
        lead=Lead(
            (tuple(law.sentences[:1]), (_what_was_fitted(law),)),
            (*law.sentences[1:], *([f"Mean relative errors: {'; '.join(compared)}."] if compared else [])),
        ),
        table_title="Coefficients",
        note=_COEFFICIENTS,
        table=Table(("coefficient", "value", "95 % interval"), rows),
        figures=law_figures(law),
    )


def _what_was_fitted(law: Law) -> str:
    """Of how many students the law is, and how far they reach."""
    N, D = law.reach.N, law.reach.D
    count = (
        "" if law.points is None else f"{len(law.points.hard)} of hard labels, {len(law.points.distilled)} distilled: "
    )
    return (
        f"What was fitted: {count}students of {si(N[0])} to {si(N[1])} parameters on {si(D[0])} to {si(D[1])} tokens."
    )


def law_figures(law: Law) -> tuple[Figure, ...]:
    """The figures of the page."""
    return tuple(make(law) for make in (curves, valleys, residuals, profiles))


def curves(law: Law) -> Figure:
    """Loss over tokens by hard labels and by a teacher's, for up to three sizes, with the students of that size."""
    sizes = _sizes(law)
    tokens_G = np.geomspace(law.reach.D[0], law.reach.D[1] * 10, _GRID)
    panels = tuple(
        Panel(f"{si(N)} parameters, teacher {fixed(_teacher(law, N), 3)}", _curve(law, N, tokens_G, len(sizes)))
        for N in sizes
    )
    caption = (
        "Loss over training tokens by the law: hard labels, and a teacher of the named loss (nats, the median of those "
        "that students of this size had). Where the "
        "lines cross hard labels have caught up. Marks are the fitted students, of whatever teacher, so that distilled "
        "ones lie about their line. Beyond the last mark lines are extrapolated."
    )
    return Figure("fig-curves", "Loss and crossing", caption, panels, _legend(law))


def _sizes(law: Law) -> list[float]:
    sizes = np.geomspace(*law.reach.N, 3) if law.points is None else np.unique(law.points.N_P)
    return [float(sizes[place]) for place in sorted({0, len(sizes) // 2, len(sizes) - 1})]


def _teacher(law: Law, N: float) -> float:
    """The median loss of the teachers of students of this size; of all where there are none."""
    if law.points is not None and len(taught := law.points.where(law.points.N_P == N).distilled):
        return float(np.median(taught.teacher_P))
    return float(np.sqrt(law.reach.teacher[0] * law.reach.teacher[1]))


def _curve(law: Law, N: float, tokens_G: Floats, panels: int) -> Markup:
    lines = [(law.supervised.loss(N, tokens_G), "hard labels", *_HARD)]
    if law.distilled is not None:
        lines.append((law.distilled.loss(N, tokens_G, _teacher(law, N)), "distilled", *_TAUGHT))
    here = None if law.points is None else law.points.where(law.points.N_P == N)
    groups = [here and here.hard, here and here.distilled]
    series = [
        Series(name, colour, shape, *_marks(group), line_xs=tokens_G.tolist(), line_ys=loss_G.tolist())
        for (loss_G, name, colour, shape), group in zip(lines, groups, strict=False)
    ]
    values = [y for one in series for y in (*one.line_ys, *(point.value for point in one.points))]
    x = log_axis("training tokens", float(tokens_G[0]), float(tokens_G[-1]))
    return chart(f"Loss of {si(N)} parameters", x, Axis("nats per token", tight(values)), series, panel_width(panels))


def _marks(points: Points | None) -> tuple[list[float], list[Estimate]]:
    if points is None:
        return [], []
    return points.D_P.tolist(), [Estimate(loss, loss, loss, 1) for loss in points.loss_P.tolist()]


def valleys(law: Law) -> Figure:
    """Loss over student size at the same FLOPs of the student."""
    least, most = (3.0 * float(forward_flops(N, law.model)) * D for N, D in zip(law.reach.N, law.reach.D, strict=True))
    budgets = np.geomspace(least, most, 5)[1:-1]
    teacher = float(np.sqrt(law.reach.teacher[0] * law.reach.teacher[1]))
    sizes_G = np.geomspace(*law.reach.N, _GRID)
    panels = tuple(Panel(f"{flops:.1e} FLOPs", _valley(law, flops, sizes_G, teacher)) for flops in budgets)
    caption = (
        "Loss over student size when the student’s own FLOPs are the same (teacher free): small sizes see more tokens. "
        f"The lowest point is the best size. Distilled: a teacher of {fixed(teacher, 3)} nats. Tokens are within reach."
    )
    return Figure("fig-valleys", "The best size at the same FLOPs", caption, panels, _legend(law))


def _valley(law: Law, flops: float, sizes_G: Floats, teacher: float) -> Markup:
    tokens_G = flops / (3.0 * forward_flops(sizes_G, law.model))
    inside_G = (tokens_G >= law.reach.D[0]) & (tokens_G <= law.reach.D[1])
    kept_G, seen_G = sizes_G[inside_G], tokens_G[inside_G]
    lines = [("hard labels", law.supervised.loss(kept_G, seen_G), *_HARD)]
    if law.distilled is not None:
        lines.append(("distilled", law.distilled.loss(kept_G, seen_G, teacher), *_TAUGHT))
    series = [
        Series(name, colour, shape, line_xs=kept_G.tolist(), line_ys=loss_G.tolist())
        for name, loss_G, colour, shape in lines
    ]
    values = [y for one in series for y in one.line_ys]
    x = log_axis("student parameters", float(sizes_G[0]), float(sizes_G[-1]))
    return chart(f"{flops:.1e} FLOPs", x, Axis("nats per token", tight(values)), series, panel_width(3))


def residuals(law: Law) -> Figure:
    """Measured over predicted, by measured loss."""
    title = "Residuals"
    if law.points is None:
        return Figure("fig-residuals", title)
    series = []
    for part, form, name, (colour, shape) in (
        (law.points.hard, law.supervised, "hard labels", _HARD),
        (law.points.distilled, law.distilled, "distilled", _TAUGHT),
    ):
        if len(part) and form is not None:
            errors = [100 * float(value) for value in np.expm1(log_errors(form, part))]
            series.append(
                Series(
                    name, colour, shape, part.loss_P.tolist(), [Estimate(value, value, value, 1) for value in errors]
                )
            )
    x = Axis("measured loss (nats per token)", tight(law.points.loss_P.tolist()))
    y = Axis("measured over predicted, %", tight([point.value for one in series for point in one.points] + [0.0]))
    guide = Series("as predicted", "", guide=True, line_xs=[x.scale.low, x.scale.high], line_ys=[0.0, 0.0])
    picture = chart(title, x, y, [guide, *series])
    caption = "Every student that was fitted: how far its loss is above the law’s. A slope is what the form cannot say."
    return Figure("fig-residuals", title, caption, (Panel("", picture),), _legend(law))


def profiles(law: Law) -> Figure:
    """How much worse the fit gets when one coefficient is held elsewhere and the others follow."""
    title = "Profiles of the coefficients"
    if not law.profiles:
        return Figure("fig-profiles", title)
    panels, rows = [], []
    for one in law.profiles:
        least = max(min(one.objective), 1e-3)  # points without noise are met exactly
        rises = [100 * (value / least - 1) for value in one.objective]
        series = Series(one.name, _TAUGHT[0], line_xs=one.values, line_ys=rises)
        is_wide = one.values[0] > 0 and one.values[-1] > 30 * one.values[0]
        x = log_axis(one.name, one.values[0], one.values[-1]) if is_wide else Axis(one.name, tight(one.values))
        y = Axis("objective above its least, %", tight([*rises, 1.0], zero=True))
        panels.append(Panel(one.name, chart(f"Profile of {one.name}", x, y, [series], panel_width(3))))
        rows += [(one.name, f"{value:.4g}", f"{rise:.2f}") for value, rise in zip(one.values, rises, strict=True)]
    caption = (
        "The coefficient is held at quantiles of its draws (2.5 to 97.5 %), the others are fitted anew. Where the line "
        "stays near 0 the students do not tell this coefficient: others take its place."
    )
    table = Table(("coefficient", "held at", "above the least, %"), tuple(rows))
    return Figure("fig-profiles", title, caption, tuple(panels), table=table)


def _legend(law: Law) -> tuple[tuple[str, Markup], ...]:
    shown = [("hard labels", _HARD)] + ([("distilled", _TAUGHT)] if law.distilled is not None else [])
    return tuple((name, legend_sign(*sign)) for name, sign in shown)
