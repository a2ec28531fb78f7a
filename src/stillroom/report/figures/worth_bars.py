"""What a soft label was worth: a multiplier for each ability and arm, on an axis from half to four times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, legend
from stillroom.report.charts.scales import Scale
from stillroom.report.charts.svg import WIDE, Frame, drawing, marker, path, segment, shortened, tag, text, whisker
from stillroom.report.figures import captions
from stillroom.report.formats import MISSING, si
from stillroom.report.view import Entry, View
from stillroom.results.schema import AbilityWorth, Worth, WorthTable, arm_and_seed

ID, TITLE = "fig-worth", "What a soft label was worth"
ENDS, MOST = (0.5, 4.0), 8.0
TICKS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
TOP, WORDS, LINE, BOTTOM = 8.0, 24.0, 17.0, 46.0
"""Heights: above the first row, of an ability's name, of an arm, of the axis with its words."""


@dataclass(frozen=True)
class Mark:
    """How an arm is drawn: its words, a CSS class, and a shape."""

    arm: str
    colour: str
    shape: str


def worth_figure(view: View) -> Figure:
    """A row for each ability, a mark for each arm, with intervals; 1 is what a hard label does."""
    worths = view.runs[0].worth if len(view.runs) == 1 else None
    if worths is None or not worths.abilities:
        return Figure(ID, TITLE)
    entries = {arm_and_seed(entry.model.record.name)[0]: entry for entry in reversed(view.students)}
    shown = [
        entries[arm] for arm in dict.fromkeys(arm for one in worths.abilities for arm in one.arms) if arm in entries
    ]
    ladder = ", ".join(f"{si(rung.tokens)}" for rung in worths.ladder)
    units = "training seeds" if worths.over == "seeds" else "evaluation items of one seed, which say nothing of another"
    caption = captions.WORTH.format(ladder=ladder, units=units)
    marks = {arm_and_seed(one.model.record.name)[0]: Mark(one.arm, one.colour, one.marker) for one in shown}
    picture = worth_picture(worths, marks)
    return Figure(ID, TITLE, caption, (Panel("", picture),), legend(tuple(shown)), _table(worths, entries))


def worth_picture(worths: WorthTable, marks: Mapping[str, Mark]) -> Markup:
    """The drawing of the arms that have a mark, in that order."""
    rows = [(ability, [arm for arm in marks if arm in ability.arms]) for ability in worths.abilities]
    scale = Scale(*_ends(worths, marks), log=True)
    height = TOP + sum(WORDS + LINE * max(1, len(arms)) for _, arms in rows) + BOTTOM
    frame = Frame(WIDE, height, scale, Scale(0, 1), left=14, right=62, top=TOP, bottom=BOTTOM)
    inside = [value for value in TICKS if scale.low <= value <= scale.high]
    parts = [
        text(frame.px(value), frame.floor + 18, f"{value:g}×", "start" if value == inside[0] else "middle", "tick")
        for value in inside
    ]
    parts.append(text(frame.px(1.0), height - 6, "no better than hard labels", "middle", "name"))
    y, told = TOP, []
    for ability, arms in rows:
        below = (y + WORDS - 4, y + WORDS + LINE * max(1, len(arms)) - 4)  # no line runs through the words
        for value in inside:
            parts.append(
                segment(frame.px(value), below[0], frame.px(value), below[1], "guide strong" if value == 1 else "grid")
            )
        title = shortened(ability.title + _formed(ability, arms, marks), WIDE - frame.left, WIDE)
        parts.append(text(frame.left, y + 16, title, class_="halo"))
        for place, arm in enumerate(arms):
            found = ability.arms[arm].data
            parts += _mark(frame, marks[arm], found, y + WORDS + LINE * place + 4)
            told.append(f"{ability.title}, {marks[arm].arm}: {found}")
        y += WORDS + LINE * max(1, len(arms))
    return drawing(WIDE, height, TITLE, "; ".join(told) + ".", *parts)


def _ends(worths: WorthTable, marks: Mapping[str, Mark]) -> tuple[float, float]:
    """The axis: half to four times, or as far as an estimate lies, or an interval within an eighth and eight."""
    drawn = [one.data for ability in worths.abilities for arm, one in ability.arms.items() if arm in marks]
    values = [one.value for one in drawn if one.value]
    ends = [end for one in drawn for end in (one.low, one.high) if 1 / MOST <= end <= MOST]
    return min([ENDS[0], *values, *ends]), max([ENDS[1], *values, *ends])


def _formed(ability: AbilityWorth, arms: list[str], marks: Mapping[str, Mark]) -> str:
    if ability.formed is None:
        return ""
    at = {
        arm: f" at {statistics.median(tokens) / 1e6:.2g}M tokens" for arm, tokens in (ability.formed_at or {}).items()
    }
    counts = (f"{marks[arm].arm} {ability.formed[arm]}{at.get(arm, '')}" for arm in arms)
    return f" (forms in a jump; seeds past it: {', '.join(counts)})"


def _mark(frame: Frame, mark: Mark, found: Worth, y: float) -> list[Markup]:
    """The mark, its interval, and its value in the margin; an end outside the ladder is open, with an arrow."""
    right = frame.width - frame.right
    hint = f"{mark.arm}: {found}"
    if found.why == "flat":
        return [text(right + 6, y + 4, MISSING, "start", "tick"), tag("title", hint)]
    low, high = (found.low or found.least), (found.high if math.isfinite(found.high) else found.most)
    ends = (frame.px(max(low, frame.x.low)), frame.px(min(high, frame.x.high)))
    parts = [whisker(ends[0], y, ends[1], y, f"error {mark.colour}")]
    parts += [_arrow(x, y, side, mark) for x, side in _open(found, ends, frame.x)]
    if found.value is not None:
        parts.append(marker(mark.shape, frame.px(found.value), y, f"mark {mark.colour}", hint))
    value = f"{found.value:.2f}" if found.value is not None else str(found)
    return [*parts, text(right + 6, y + 4, value, "start", "tick")]


def _open(found: Worth, ends: tuple[float, float], axis: Scale) -> Iterator[tuple[float, float]]:
    """Where an arrow stands, and its direction: at an end outside the ladder, or beyond the axis."""
    if found.low < axis.low:
        yield ends[0], -1.0
    if found.high > axis.high:
        yield ends[1], 1.0


def _arrow(x: float, y: float, side: float, mark: Mark) -> Markup:
    tip = x + 9 * side
    return path(
        [(x, y), (tip, y), (tip - 4 * side, y - 3.5), (tip, y), (tip - 4 * side, y + 3.5)], f"error {mark.colour}"
    )


def _table(worths: WorthTable, entries: dict[str, Entry]) -> Table:
    rows = (
        (ability.title, entries[arm].arm, str(found.data), str(found.compute))
        for ability in worths.abilities
        for arm, found in ability.arms.items()
        if arm in entries
    )
    return Table(("ability", "model", "worth in text", "worth in FLOPs, labelling counted"), tuple(rows))
