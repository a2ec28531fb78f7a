"""What each swept setting of a bigram sandbox does: distance from the truth over α, over η, and over T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillroom.report.charts.figure import Figure, Panel, Table, panel_width
from stillroom.report.charts.lines import Axis, Series, brief, brief_interval, chart, legend_sign, linear_axis
from stillroom.report.charts.scales import Scale
from stillroom.report.formats import percent, si
from stillroom.report.pages import bigram_captions as captions
from stillroom.report.pages.bigram_results import CLASSES, BigramRun
from stillroom.results.bigram_file import BigramArm

_MOST = 7
"""Lines of a panel while settings can be told apart by panels: as many as there are colours."""
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


@dataclass(frozen=True)
class _Line:
    """Arms that differ in one setting alone, and what else they are, in words by name."""

    said: Mapping[str, str]
    arms: Sequence[BigramArm]

    def words(self, names: Sequence[str]) -> str:
        """What it is in these settings."""
        return ", ".join(self.said[name] for name in names)


def _figure(run: BigramRun, setting: _Setting) -> Figure:
    identifier, lines = f"fig-{setting.field}", _lines(run.arms, setting)
    if not lines:
        return Figure(identifier, setting.title)
    within, across = _told_apart_by(lines)
    drawn = {name: place for place, name in enumerate(dict.fromkeys(line.words(within) for line in lines))}
    facets = dict.fromkeys(line.words(across) for line in lines)
    width = panel_width(len(facets) * len(run.classes))
    panels = []
    for kind in run.classes:
        y = linear_axis(TV, [arm.tv[kind][-1].high for line in lines for arm in line.arms])
        for facet in facets:
            own = [
                _series(line, line.words(within), drawn, setting, kind) for line in lines if line.words(across) == facet
            ]
            title = f"{CLASSES[kind]}{facet and f': {facet}'}"
            panels.append(Panel(title, chart(f"{setting.title}, {title}", _axis(setting, own), y, own, width)))
    legend = tuple((name, legend_sign(*_style(place))) for name, place in drawn.items())
    words = captions.SWEEP.format(axis=setting.axis, size=si(run.samples[-1]))
    head = ("other settings", setting.sign, "rows", "measured", "95 % interval", "theory")
    rows = _rows(run, setting, lines, [*within, *across])
    return Figure(identifier, setting.title, words, tuple(panels), legend, Table(head, rows))


def _rows(
    run: BigramRun, setting: _Setting, lines: Sequence[_Line], names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (line.words(names), f"{getattr(arm, setting.field):g}", CLASSES[kind], brief(point.value),
         brief_interval(point), brief(arm.predicted[kind]))
        for line in lines
        for arm in line.arms
        for kind in run.classes
        for point in arm.tv[kind][-1:]
    )  # fmt: skip


def _lines(arms: Sequence[BigramArm], setting: _Setting) -> list[_Line]:
    """Arms that differ in one setting alone, two at least; hard labels begin every line of α."""
    found: dict[tuple[object, ...], list[BigramArm]] = {}
    taught = [arm for arm in arms if arm.alpha]
    for arm in taught:
        key = (arm.alpha, arm.kind, arm.leak, arm.temperature, arm.routing, arm.share)
        place = {"alpha": 0, "leak": 2, "temperature": 3}[setting.field]
        found.setdefault((*key[:place], None, *key[place + 1 :]), []).append(arm)
    hard = [arm for arm in arms if not arm.alpha][:1] if setting.field == "alpha" else []
    return [
        _Line(_said(one[0], setting), [*hard, *sorted(one, key=lambda arm: getattr(arm, setting.field))])
        for one in found.values()
        if len(one) > 1
    ]


def _told_apart_by(lines: Sequence[_Line]) -> tuple[list[str], list[str]]:
    """The settings that tell the lines of a panel apart, while there are colours, and those that tell panels apart."""
    values = {name: len({line.said[name] for line in lines}) for name in lines[0].said}
    differing, within, count = [name for name in values if values[name] > 1], [], 1
    for name in differing:
        if not within or count * values[name] <= _MOST:
            within.append(name)
            count *= values[name]
    return within or ["teacher"], [name for name in differing if name not in within]


def _style(place: int) -> tuple[str, str]:
    """Colour and marker of the line in this place."""
    return f"s{place % _MOST}", _SHAPES[(place + place // _MOST) % len(_SHAPES)]


def _series(line: _Line, name: str, drawn: Mapping[str, int], setting: _Setting, kind: str) -> Series:
    xs = [getattr(arm, setting.field) for arm in line.arms]
    points, theory = [arm.tv[kind][-1] for arm in line.arms], [arm.predicted[kind] for arm in line.arms]
    return Series(name, *_style(drawn[name]), xs, points, xs, theory, "theory")


def _axis(setting: _Setting, drawn: Sequence[Series]) -> Axis:
    xs = [x for one in drawn for x in one.xs]
    air = 0.05 * (max(xs) - min(xs))
    return Axis(setting.axis, Scale(min(xs) - air, max(xs) + air))


def _said(arm: BigramArm, setting: _Setting) -> dict[str, str]:
    """What an arm is beside a setting, in words, by name."""
    teacher = arm.kind if setting.field == "leak" or not arm.leak else f"{arm.kind} leak of {arm.leak:g}"
    routed = "not routed" if arm.routing == "none" else f"{arm.routing}, {percent(arm.share)} routed"
    said = {"teacher": teacher, "alpha": f"α = {arm.alpha:g}", "temperature": f"T = {arm.temperature:g}"}
    return {name: words for name, words in (said | {"routing": routed}).items() if name != setting.field}
