"""Findings, made from ``experiments/claims.yaml`` and the frozen numbers.

    python docs/site/findings.py

writes ``experiments/README.md``, the drawn intervals beside it, and the table in ``README.md``. The site's pages of
single claims are made from the same file when it is built. Imports no torch.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from markupsafe import Markup
from named_numbers import ROOT, Number, Shown, frozen, how_shown, replaced

from stillroom.files import write_text
from stillroom.report.charts.scales import Scale
from stillroom.report.charts.svg import Frame, drawing, marker, segment, text, ticks, whisker
from stillroom.report.html import picture_file

EXPERIMENTS = ROOT / "experiments"
VERDICTS = ("confirmed", "not found", "refuted", "only in a toy world")
BEGIN, END = "<!-- findings: made by docs/site/findings.py -->", "<!-- end of findings -->"
ON_README = ("C1", "C2", "C4", "C6", "C13")
OFF_ZERO, HOLDS_ZERO = "s1", "t1"
AXES = {0.0: "difference; 0 is none", 1.0: "1: as much as a hard label"}
WORTH = [
    [f"040.worth.{key}.arms.dpt90_all.data", words]
    for key, words in (
        ("python.bits", "Python, bits per byte"),
        ("facts.bits", "facts, bits per byte"),
        ("problems.bits", "problems, bits per byte"),
        ("pass@1", "pass@1"),
        ("pass@16", "pass@16"),
        ("unique_correct", "different right answers"),
        ("follows_context", "following the context"),
        ("needle", "needle in a haystack"),
    )
]
"""What a soft label was worth in hard ones, by ability, for a student of all of the teacher's text."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper's or of ours, what was found, and the numbers that say so."""

    id: str
    question: str
    paper: str
    verdict: str
    where: str
    scale: str
    effect: str
    of: str
    short: str
    answer: list[str]
    effects: list[list[str]]
    studies: list[str]

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.id}: verdict {self.verdict!r}, expected one of {', '.join(VERDICTS)}")

    @property
    def page(self) -> str:
        return self.id.lower()


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Every claim, in order."""
    return tuple(Claim(**one) for one in yaml.safe_load((EXPERIMENTS / "claims.yaml").read_text(encoding="utf-8")))


def asked(name: str) -> tuple[Number, Shown]:
    """A number by its name with what stands behind it."""
    name, *how = name.split()
    return frozen(name), how_shown(how)


def shown(name: str) -> str:
    """Value and interval of a name."""
    number, how = asked(name)
    return number.plain(replace(how, with_interval=True))


def plain(words: str) -> str:
    """A sentence with its numbers."""
    return replaced(words, lambda number, how: number.plain(how))


def study_link(study: str, folder: str = "") -> str:
    return f"[{study[:3]}]({folder}{study}/README.md)"


def title_of(study: str) -> str:
    """The question of a study, without its number."""
    first = (EXPERIMENTS / study / "README.md").read_text(encoding="utf-8").partition("\n")[0]
    return re.sub(r"^# \d+:? ", "", first)


def interval_picture(name: str) -> str:
    """One effect as a small interval about a line at the level of none."""
    number, _ = asked(name)
    frame = _frame(150, 22, _ends(number), number.level)
    none = frame.px(number.level)
    parts = [segment(none, 2, none, 20, "axis"), *_mark(frame, *_ends(number), 11, number.level)]
    return picture_file(drawing(150, 22, shown(name), f"95 % interval of {number.words}", *parts), 150, 22)


def effects_picture(label: str, effects: Sequence[Sequence[str]]) -> str:
    """Effects below one another on one axis, about the level at which there is none: all differences, or all worths."""
    (level,) = {asked(name)[0].level for name, _ in effects}
    said = AXES[level]
    found = [(*_ends(asked(name)[0]), words, shown(name)) for name, words in effects]
    height = 34 + 26 * len(found)
    frame = _frame(680, height, [end for value, low, high, *_ in found for end in (value, low, high)], level, left=300)
    middle = frame.px(level)
    parts = [segment(middle, 6, middle, height - 28, "axis"), text(4, height - 10, said, class_="name")]
    for value, words in ticks(frame.x, 4):
        parts += [
            segment(frame.px(value), height - 28, frame.px(value), height - 24, "axis"),
            text(frame.px(value), height - 10, words, "middle", "tick"),
        ]
    for place, (value, low, high, words, _) in enumerate(found):
        y = 20 + 26 * place
        parts += [text(4, y + 4, words), *_mark(frame, value, low, high, y, level)]
    words = "; ".join(f"{words}: {value}" for *_, words, value in found)
    return picture_file(drawing(680, height, label, words, *parts), 680, height)


def _ends(number: Number) -> tuple[float, float, float]:
    """Value and interval, an open end at the ladder's; a number without one is a point."""
    limits = number.reach or (number.value, number.value)
    low, high = (limit if end is None else end for end, limit in zip((number.low, number.high), limits, strict=True))
    return number.value, low, high


def _frame(width: float, height: float, ends: Sequence[float], level: float = 0.0, left: float = 8) -> Frame:
    reach = max(abs(end - level) for end in ends) * 1.05 or 1.0
    return Frame(width, height, Scale(level - reach, level + reach), Scale(0, 1), left=left, right=8, top=0, bottom=0)


def _mark(frame: Frame, value: float, low: float, high: float, y: float, level: float = 0.0) -> list[Markup]:
    colour = OFF_ZERO if low > level or high < level else HOLDS_ZERO
    return [
        whisker(frame.px(low), y, frame.px(high), y, f"error {colour}"),
        marker("circle", frame.px(value), y, f"mark {colour}"),
    ]


def overview() -> str:
    """``experiments/README.md``."""
    rows = "\n".join(
        f"| {one.id if one.id.startswith('C') else ''} | {one.paper} | **{one.verdict}:** {one.where} "
        f"| ![{shown(one.effect)}](effects/{one.page}.svg) **{shown(one.effect)}** {one.of} | {one.scale} "
        f"| {', '.join(map(study_link, one.studies))} |"
        for one in claims()
    )
    told = {study for one in claims() for study in one.studies}
    others = [one.parent.name for one in sorted(EXPERIMENTS.glob("*/README.md")) if one.parent.name not in told]
    listed = "\n".join(f"- {study_link(study)}: {title_of(study)}" for study in others)
    return f"""# Findings

<!-- Made by python docs/site/findings.py of claims.yaml and the frozen numbers. -->

A finding has a recipe, several seeds, an interval and frozen numbers in the folder that it names. A hypothesis and a
decision rule are written there before the run. Negative results stand in the same table, and what is not in it is
claimed nowhere. Studies write numbers by name, as in `{{{{030.gain_half.text.nats}}}}`; `make docs` puts values,
intervals and links in their place.

| claim | in the paper's words | verdict | one effect, 95 % interval | scale | studies |
|---|---|---|---|---|---|
{rows}

Intervals are over training seeds, or over worlds in 021; differences are paired by seed. Rows without a number are
questions of ours. An interval in colour does not hold 0, or 1 where it is a worth.

## Studies outside the table

{listed}
"""


def readme_table() -> str:
    """The rows of ``README.md``."""
    rows = "\n".join(
        f"| {one.question} | {plain(one.short)} | {shown(one.effect)} | {study_link(one.studies[0], 'experiments/')} |"
        for one in claims()
        if one.id in ON_README
    )
    return f"{BEGIN}\n| question | answer | effect | study |\n|---|---|---|---|\n{rows}\n{END}"


def with_table(readme: str) -> str:
    """README with its table made anew."""
    return re.sub(rf"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: readme_table(), readme, flags=re.S)


def made() -> dict[Path, str]:
    """Every file that is made here, with its text."""
    readme = ROOT / "README.md"
    folder = EXPERIMENTS / "effects"
    pictures = {folder / f"{one.page}.svg": interval_picture(one.effect) for one in claims()}
    pictures |= {
        folder / f"{one.page}-all.svg": effects_picture(f"{one.question} 95 % intervals", one.effects)
        for one in claims()
    }
    worth = effects_picture("What a soft label was worth, 95 % intervals", WORTH)
    return {
        folder / "worth.svg": worth,
        EXPERIMENTS / "README.md": overview(),
        readme: with_table(readme.read_text(encoding="utf-8")),
        **pictures,
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    (EXPERIMENTS / "effects").mkdir(exist_ok=True)
    for file, content in made().items():
        write_text(file, content)
