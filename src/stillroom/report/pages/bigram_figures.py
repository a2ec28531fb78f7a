"""The figures of a bigram sandbox, each a function from a sweep to a ``Figure``."""

from __future__ import annotations

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, panel_width
from stillroom.report.charts.lines import (
    Axis,
    Series,
    brief,
    brief_interval,
    chart,
    legend_sign,
    linear_axis,
    log_axis,
    sizes_axis,
)
from stillroom.report.charts.scales import Scale
from stillroom.report.formats import fixed, percent, si, with_interval
from stillroom.report.pages import bigram_captions as captions
from stillroom.report.pages.bigram_results import CLASSES, BigramRun
from stillroom.report.pages.bigram_sweeps import sweep_figures
from stillroom.report.view import Style
from stillroom.results.bigram_file import BigramArm, Deviation, LearntArms
from stillroom.types import Estimate

Legend = tuple[tuple[str, Markup], ...]
TV, KL = "total variation", "KL (nats)"
SAMPLES = "training samples (transitions)"
_LEAST = {"tv": 1e-3, "kl": 1e-4}


def bigram_figures(run: BigramRun) -> tuple[Figure, ...]:
    """Every figure in the order of the page."""
    first = (variation_figure, divergence_figure, leftover_figure)
    last = (sample_ratio_figure, passes_figure, gradient_figure, transformer_figure)
    return (*(make(run) for make in first), *sweep_figures(run), *(make(run) for make in last))


def arms_legend(run: BigramRun) -> Legend:
    """Name and sign of each drawn arm."""
    return tuple((style.name, legend_sign(style.colour, style.marker)) for style in run.styles.values())


def variation_figure(run: BigramRun) -> Figure:
    """Total variation by class over samples, theory as lines."""
    return _curves(run, "tv", "fig-variation", "Distance from the true rows", captions.VARIATION)


def divergence_figure(run: BigramRun) -> Figure:
    """KL by class over samples, theory as lines."""
    return _curves(run, "kl", "fig-divergence", "KL from the true rows", captions.DIVERGENCE)


def _curves(run: BigramRun, metric: str, identifier: str, title: str, caption: str) -> Figure:
    panels = tuple(Panel(CLASSES[kind], _curve_panel(run, metric, kind)) for kind in run.classes)
    rows = tuple(
        (
            arm.name,
            CLASSES[kind],
            si(size),
            brief(point.value),
            brief_interval(point),
            brief(_at(run, arm, metric, kind, size)),
        )
        for arm in run.drawn
        for kind in run.classes
        for size, point in zip(run.samples, arm.measured(metric)[kind], strict=True)
    )
    head = ("arm", "rows", "samples", "measured", "95 % interval", "theory")
    words = caption.format(seeds=run.data.seeds) + deviation_words(
        run.data.deviation.tv if metric == "tv" else run.data.deviation.kl
    )
    return Figure(identifier, title, words, panels, arms_legend(run), Table(head, rows))


def _at(run: BigramRun, arm: BigramArm, metric: str, kind: str, size: int) -> float:
    theory = run.data.theory
    return theory.arms[arm.name][metric][kind][theory.samples.index(size)]


def _curve_panel(run: BigramRun, metric: str, kind: str) -> Markup:
    theory = run.data.theory
    series = [
        Series(
            style.name, style.colour, style.marker, run.samples,
            [point for point in arm.measured(metric)[kind]],
            theory.samples, theory.arms[style.name][metric][kind], "theory",
        )
        for arm, style in zip(run.drawn, run.styles.values(), strict=True)
    ]  # fmt: skip
    values = [est.high for each in series for est in each.points]
    name = TV if metric == "tv" else KL
    certain = metric == "tv" and kind == "low"
    y = linear_axis(name, values) if certain else log_axis(name, _LEAST[metric], max([*values, 1e-2]) * 1.2)
    return chart(f"{name}, {CLASSES[kind]}", sizes_axis(SAMPLES, run.samples), y, series)


def leftover_figure(run: BigramRun) -> Figure:
    """What a leak leaves on certain rows and how routing removes it; and every arm beside its prediction."""
    groups = _by_routing(run)
    panels = [Panel("every arm, largest sample", _predictions(run))]
    legend: Legend = (
        ("high-entropy rows", legend_sign("s0", "circle")),
        ("low-entropy rows", legend_sign("s1", "square")),
        ("measured = theory", legend_sign("", "", guide=True)),
    )
    if groups:
        panels.insert(0, Panel("low-entropy rows, teachers that leak evenly", _floor_panel(run, groups)))
        legend = (*((_routing_words(key), legend_sign(style.colour, style.marker)) for key, style in groups), *legend)
    rows = tuple(
        (
            arm.name,
            CLASSES[kind],
            *_last(arm, kind),
            brief(arm.predicted[kind]),
            brief(arm.floor[kind]),
        )
        for arm in run.arms
        for kind in run.classes
    )
    head = ("arm", "rows", "measured", "95 % interval", "theory", "left with unlimited data")
    words = captions.LEFTOVER.format(size=si(run.samples[-1]), states=run.data.world.states)
    words += deviation_words(run.data.deviation.all_arms)
    return Figure(
        "fig-leftover", "What an imperfect teacher leaves over", words, tuple(panels), legend, Table(head, rows)
    )


def _last(arm: BigramArm, kind: str) -> tuple[str, str]:
    point = arm.tv[kind][-1]
    return brief(point.value), brief_interval(point)


def _routing_words(key: tuple[str, float]) -> str:
    if key[0] == "none":
        return "not routed"
    return f"{'random ' if key[0] == 'random' else ''}{percent(key[1])} routed"


def _by_routing(run: BigramRun) -> list[tuple[tuple[str, float], Style]]:
    """The routings among the arms that have an even leak, each with a style of its own."""
    keys = dict.fromkeys((arm.routing, arm.share) for arm in run.arms if arm.uniform_floor is not None)
    shapes = ("diamond", "triangle", "cross", "wedge", "bar", "circle", "square")
    return [(key, Style("", f"s{(2 + place) % 7}", shapes[place % 7])) for place, key in enumerate(keys)]


def _floor_panel(run: BigramRun, groups: list[tuple[tuple[str, float], Style]]) -> Markup:
    series = []
    for key, style in groups:
        arms = [arm for arm in run.arms if arm.uniform_floor is not None and (arm.routing, arm.share) == key]
        arms.sort(key=lambda arm: arm.alpha * arm.leak)
        xs = [arm.alpha * arm.leak for arm in arms]
        lines = [0.0, *xs], [0.0, *(arm.uniform_floor for arm in arms)]
        points = [arm.tv["low"][-1] for arm in arms]
        series.append(Series(_routing_words(key), style.colour, style.marker, xs, points, *lines, "theory"))
    largest = max(x for each in series for x in each.xs)
    values = [est.high for each in series for est in each.points]
    x = Axis("α·η, weight on the teacher times its leak", Scale(0.0, 1.05 * largest))
    return chart("Error floor on low-entropy rows", x, linear_axis(TV, values), series)


def _predictions(run: BigramRun) -> Markup:
    series = []
    for kind, colour, shape in (("high", "s0", "circle"), ("low", "s1", "square")):
        arms = [arm for arm in run.arms if arm.predicted.get(kind, 0.0) >= _LEAST["tv"]]
        xs = [arm.predicted[kind] for arm in arms]
        series.append(Series(CLASSES[kind], colour, shape, xs, [arm.tv[kind][-1] for arm in arms]))
    most = max([x for each in series for x in each.xs] + [est.high for each in series for est in each.points] + [1e-2])
    ends = (_LEAST["tv"], 1.2 * most)
    series.append(Series("measured = theory", "", line_xs=ends, line_ys=ends, guide=True))
    x, y = (log_axis(f"{TV}, {word}", *ends) for word in ("theory", "measured"))
    return chart("Every arm: measured against theory", x, y, series)


def sample_ratio_figure(run: BigramRun) -> Figure:
    """Samples that hard labels need over those that soft labels need, against p/ε²."""
    title, points = "How many more samples hard labels need", run.data.ratio
    if not points:
        return Figure("fig-ratio", title)
    supports = sorted({point.support for point in points})
    series = []
    for place, support in enumerate(supports):
        own = [point for point in points if point.support == support]
        xs, found = [point.expected for point in own], [point.ratio for point in own]
        lines = xs, [point.theory for point in own]
        shape = ("circle", "square", "triangle", "diamond", "wedge", "cross", "bar")[place % 7]
        series.append(Series(f"p = {support}", f"s{place % 7}", shape, xs, found, *lines, "theory"))
    ends = (min(point.expected for point in points), max(point.expected for point in points))
    series.append(Series("p/ε²", "", line_xs=ends, line_ys=ends, guide=True))
    legend: Legend = tuple((each.name, legend_sign(each.colour, each.marker)) for each in series[:-1])
    legend = (*legend, ("p/ε²", legend_sign("", "", guide=True)))
    low = min(point.theory for point in points) / 1.5
    picture = chart(
        "Sample ratio", sizes_axis("p/ε²", ends), log_axis("S_standard / S_distill", low, 1.2 * ends[1]), series
    )
    rows = tuple(
        (
            f"{point.support}",
            f"{point.tolerance:g}",
            *(si(getattr(point, name).value) for name in ("standard", "distilled")),
            brief(point.ratio.value),
            brief_interval(point.ratio),
            brief(point.theory),
        )
        for point in points
    )
    head = ("p", "ε", "S_standard", "S_distill", "ratio", "95 % interval", "theory")
    words = captions.RATIO.format(states=run.data.world.states) + deviation_words(run.data.deviation.ratio)
    return Figure("fig-ratio", title, words, (Panel("", picture),), legend, Table(head, rows))


def passes_figure(run: BigramRun) -> Figure:
    """pass@k of guesses from the learnt rows as a part of the best there is for each k, at three sizes."""
    title, kind = "pass@k of guesses from the learnt rows", run.classes[0]
    last = len(run.samples) - 1
    shown = sorted({round(last * share) for share in (0.25, 0.5, 0.75)})
    plain = [style for style in run.styles.values() if "routed" not in style.name]
    panels = tuple(
        Panel(f"{si(run.samples[size])} samples", _pass_panel(run, kind, plain, size, len(shown))) for size in shown
    )
    legend: Legend = tuple((style.name, legend_sign(style.colour, style.marker)) for style in plain)
    legend = (*legend, ("drawing from the true row", legend_sign("", "", guide=True)))
    words = captions.PASSES.format(rows=CLASSES[kind])
    return Figure("fig-pass", title, words, panels, legend, _pass_table(run, kind, shown))


def _pass_panel(run: BigramRun, kind: str, styles: list[Style], size: int, count: int) -> Markup:
    found, ks = run.data.pass_, run.data.pass_.ks
    best = found.references["best"][kind]
    truth = [value / most for value, most in zip(found.references["truth"][kind], best, strict=True)]
    series = [Series("drawing from the true row", "", line_xs=ks, line_ys=truth, guide=True)]
    for style in styles:
        points = [_share(point, most) for point, most in zip(found.arms[style.name][kind][size], best, strict=True)]
        heights = [point.value for point in points]
        series.append(Series(style.name, style.colour, style.marker, ks, points, ks, heights))
    x = Axis("k, draws", Scale(ks[0], max(ks[-1], ks[0] + 1), log=True), [(k, str(k)) for k in ks])
    y = Axis("pass@k, part of the best policy’s", Scale(0.0, 1.0))
    return chart(f"pass@k after {si(run.samples[size])} samples", x, y, series, panel_width(count))


def _share(point: Estimate, whole: float) -> Estimate:
    """A chance as a part of another, its interval held to what a chance can be."""
    low, high = max(0.0, point.low / whole), min(1.0, point.high / whole)
    return Estimate(point.value / whole, min(low, point.value / whole), max(high, point.value / whole), point.num)


def _pass_table(run: BigramRun, kind: str, sizes: list[int]) -> Table:
    found = run.data.pass_
    names = {"best": "best policy", "truth": "true row", "greedy": "likeliest token alone"}
    rows = [(names[key], "", *(fixed(value, 3) for value in found.references[key][kind])) for key in names]
    rows += [
        (name, si(run.samples[size]), *(with_interval(point, 3) for point in found.arms[name][kind][size]))
        for name in run.styles
        for size in sizes
    ]
    return Table(("policy", "samples", *(f"pass@{k}" for k in found.ks)), tuple(rows))


def gradient_figure(run: BigramRun) -> Figure:
    """The same arms learnt by gradient, with the exact optimum on as many samples as lines."""
    return _dynamics(run, "gradient", "A softmax table, learnt by gradient", captions.GRADIENT, SAMPLES)


def transformer_figure(run: BigramRun) -> Figure:
    """The same arms learnt by a transformer."""
    return _dynamics(run, "transformer", "A transformer, learnt by gradient", captions.TRANSFORMER, "training tokens")


def _dynamics(run: BigramRun, key: str, title: str, caption: str, x_title: str) -> Figure:
    found = run.data.gradient if key == "gradient" else run.data.transformer
    if not found:
        return Figure(f"fig-{key}", title)
    styles = [style for name, style in run.styles.items() if name in found.arms]
    panels = tuple(Panel(CLASSES[kind], _dynamics_panel(run, found, styles, kind, x_title)) for kind in run.classes)
    legend: Legend = tuple((style.name, legend_sign(style.colour, style.marker)) for style in styles)
    floors = {arm.name: arm.floor for arm in run.arms}
    rows = tuple(
        (style.name, CLASSES[kind], brief(point.value), brief_interval(point), brief(floors[style.name][kind]))
        for style in styles
        for kind in run.classes
        for point in found.arms[style.name]["tv"][kind][-1:]
    )
    head = ("arm", "rows", f"{TV} at the end", "95 % interval", "left with unlimited data")
    seeds = (
        "one run per arm, no interval" if found.seeds == 1 else f"whiskers are 95 % intervals over {found.seeds} seeds"
    )
    return Figure(f"fig-{key}", title, caption.format(seeds=seeds), panels, legend, Table(head, rows))


def _dynamics_panel(run: BigramRun, found: LearntArms, styles: list[Style], kind: str, x_title: str) -> Markup:
    theory, sizes = run.data.theory, found.samples
    series = []
    for style in styles:
        points = found.arms[style.name]["tv"][kind]
        within = [place for place, size in enumerate(theory.samples) if sizes[0] <= size <= 1.02 * sizes[-1]]
        xs = [theory.samples[place] for place in within]
        ys = [theory.arms[style.name]["tv"][kind][place] for place in within]
        series.append(Series(style.name, style.colour, style.marker, sizes, points, xs, ys, "exact optimum"))
    return chart(f"{TV}, {CLASSES[kind]}", sizes_axis(x_title, sizes), log_axis(TV, _LEAST["tv"], 1.2), series)


def deviation_words(found: Deviation | None) -> str:
    """A sentence that says how far the points of a figure lie from theory."""
    if found is None:
        return ""
    return (
        f" Of {found.num} points where theory is at least 0.001, the median lies {_part(found.median)} from it "
        f"and the furthest {_part(found.largest)}; the intervals of {percent(found.covered)} hold it."
    )


def _part(share: float) -> str:
    percents = 100 * share
    return "less than 0.1 %" if percents < 0.1 else f"{percents:.1f} %" if percents < 10 else f"{percents:.0f} %"
