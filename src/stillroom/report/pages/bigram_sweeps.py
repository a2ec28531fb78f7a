"""What each swept setting of a bigram sandbox does: distance from the truth over α, over η, and over T."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, panel_width
from stillroom.report.charts.lines import Axis, Series, brief, chart, legend_sign, linear_axis
from stillroom.report.charts.scales import Scale
from stillroom.report.formats import percent, si
from stillroom.report.pages import bigram_captions as captions
from stillroom.report.pages.bigram_results import CLASSES, BigramRun
from stillroom.results.bigram_file import BigramArm

_MOST = 7
"""Lines of a panel, as many as there are colours."""
_SHAPES = ("circle", "square", "triangle", "diamond", "wedge", "cross", "bar")
TV = "total variation"


@dataclass(frozen=True)
class _Setting:
    """A setting that a sweep varies: its field, its sign, and its axis."""

    field: str
    sign: str
    title: str
    axis: str


_SETTINGS = (
    _Setting("alpha", "α", "What the weight on the teacher does", "α, weight on the teacher"),
    _Setting("leak", "η", "What the teacher’s leak does", "η, probability that the teacher leaks"),
    _Setting("temperature", "T", "What the temperature of the labels does", "T of the teacher’s labels"),
)


def sweep_figures(run: BigramRun) -> tuple[Figure, ...]:
    """A figure for every setting; one that the sweep holds fixed has nothing to show."""
    return tuple(_figure(run, setting) for setting in _SETTINGS)


def _figure(run: BigramRun, setting: _Setting) -> Figure:
    identifier, groups = f"fig-{setting.field}", _groups(run.arms, setting)
    if not groups:
        return Figure(identifier, setting.title)
    shown = dict(list(groups.items())[:_MOST])
    panels = tuple(Panel(CLASSES[kind], _panel(run, setting, shown, kind)) for kind in run.classes)
    legend = tuple((name, legend_sign(f"s{place}", _SHAPES[place])) for place, name in enumerate(shown))
    rows = tuple(
        (name, f"{getattr(arm, setting.field):g}", CLASSES[kind], brief(point.value),
         f"{brief(point.low)} to {brief(point.high)}", brief(arm.predicted[kind]))
        for name, arms in groups.items()
        for arm in arms
        for kind in run.classes
        for point in arm.tv[kind][-1:]
    )  # fmt: skip
    head = ("other settings", setting.sign, "rows", "measured", "95 % interval", "theory")
    words = captions.SWEEP.format(axis=setting.axis, size=si(run.samples[-1]))
    if len(groups) > len(shown):
        words += f" Drawn are the first {len(shown)} of {len(groups)} lines; the table has all."
    return Figure(identifier, setting.title, words, panels, legend, Table(head, rows))


def _groups(arms: Sequence[BigramArm], setting: _Setting) -> dict[str, list[BigramArm]]:
    """Arms that differ in one setting alone, two at least, by what else they are; hard labels begin every line of α."""
    found: dict[tuple[object, ...], list[BigramArm]] = {}
    taught = [arm for arm in arms if arm.alpha]
    for arm in taught:
        key = (arm.alpha, arm.kind, arm.leak, arm.temperature, arm.routing, arm.share)
        place = {"alpha": 0, "leak": 2, "temperature": 3}[setting.field]
        found.setdefault((*key[:place], None, *key[place + 1 :]), []).append(arm)
    kept = [sorted(one, key=lambda arm: getattr(arm, setting.field)) for one in found.values() if len(one) > 1]
    hard = [arm for arm in arms if not arm.alpha][:1] if setting.field == "alpha" else []
    varied = [_said(one[0], setting) for one in kept]
    return {_name(own, varied): [*hard, *one] for own, one in zip(varied, kept, strict=True)}


def _said(arm: BigramArm, setting: _Setting) -> dict[str, str]:
    """What an arm is beside a setting, in words, by name."""
    teacher = arm.kind if setting.field == "leak" or not arm.leak else f"{arm.kind} leak of {arm.leak:g}"
    routed = "not routed" if arm.routing == "none" else f"{arm.routing}, {percent(arm.share)} routed"
    said = {"teacher": teacher, "alpha": f"α = {arm.alpha:g}", "temperature": f"T = {arm.temperature:g}"}
    return {name: words for name, words in (said | {"routing": routed}).items() if name != setting.field}


def _name(own: dict[str, str], all_of_them: Sequence[dict[str, str]]) -> str:
    """What tells a line from the others; the teacher where nothing does."""
    differing = [name for name in own if len({one[name] for one in all_of_them}) > 1]
    return ", ".join(own[name] for name in differing or ["teacher"])


def _panel(run: BigramRun, setting: _Setting, groups: dict[str, list[BigramArm]], kind: str) -> Markup:
    series = []
    for place, (name, arms) in enumerate(groups.items()):
        xs = [getattr(arm, setting.field) for arm in arms]
        points, lines = [arm.tv[kind][-1] for arm in arms], [arm.predicted[kind] for arm in arms]
        series.append(Series(name, f"s{place}", _SHAPES[place], xs, points, xs, lines))
    values = [point.high for each in series for point in each.points]
    largest, least = max(x for each in series for x in each.xs), min(x for each in series for x in each.xs)
    margin = 0.05 * (largest - least)
    x = Axis(setting.axis, Scale(least - margin, largest + margin))
    return chart(f"{setting.title}, {CLASSES[kind]}", x, linear_axis(TV, values), series, panel_width(len(run.classes)))
