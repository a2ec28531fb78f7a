"""The picture of a study of several seeds: contrasts in rows, measures in panels, each with its 95 % interval.

    python experiments/forest.py experiments/030_data

Reads the frozen ``results.json``; the study's ``recipe.py`` says what is drawn: ``ROWS`` gives contrasts their words,
and ``PANELS`` gives measures theirs. An interval that does not hold 0 is drawn in colour.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stillroom.files import read_json, write_text
from stillroom.report.charts.scales import Scale
from stillroom.report.charts.svg import Frame, drawing, joined, marker, segment, text, whisker
from stillroom.report.formats import minus
from stillroom.report.html import picture_file
from stillroom.study.recipe_files import load_module

Values = dict[str, Any]
TEXT, PANEL, ROW, TOP, GAP = 210, 150, 24, 64, 18
OFF_ZERO, HOLDS_ZERO = "s1", "t1"


def picture(contrasts: Values, rows: dict[str, str], panels: dict[str, str], caption: str) -> str:
    """The whole drawing as SVG."""
    known = {name: words for name, words in rows.items() if name in contrasts}
    width, height = TEXT + len(panels) * (PANEL + GAP) + 10, TOP + len(known) * ROW + 30
    parts = [text(10, 20, caption)]
    parts += [text(10, TOP + (place + 0.5) * ROW + 4, words) for place, words in enumerate(known.values())]
    for place, (measure, title) in enumerate(panels.items()):
        found = [contrasts[name].get(measure) for name in known]
        parts.append(panel(TEXT + place * (PANEL + GAP), title, found))
    words = f"{', '.join(panels.values())} for {', '.join(known.values())}."
    return picture_file(drawing(width, height, caption, words, *parts), width, height)


def panel(left: float, title: str, found: list[Values | None]) -> Markup:
    """One measure: a line at 0, and a mean with its interval in every row that has it."""
    ends = [abs(one[end]) for one in found if one for end in ("low", "high") if one[end] is not None]
    reach = max(ends, default=1.0) * 1.05 or 1.0
    bottom = TOP + len(found) * ROW
    frame = Frame(left + PANEL, bottom, Scale(-reach, reach), Scale(0, 1), left=left, right=0, top=TOP, bottom=0)
    zero = frame.px(0)
    parts = [text(zero, TOP - 14, title, "middle"), segment(zero, TOP - 6, zero, bottom, "axis")]
    for value, anchor in ((-reach / 1.05, "start"), (0.0, "middle"), (reach / 1.05, "end")):
        parts.append(text(frame.px(value), bottom + 16, signed(value), anchor, "tick"))
    for place, one in enumerate(found):
        if one is not None and one["low"] is not None:
            y = TOP + (place + 0.5) * ROW
            colour = OFF_ZERO if one["low"] > 0 or one["high"] < 0 else HOLDS_ZERO
            parts.append(whisker(frame.px(one["low"]), y, frame.px(one["high"]), y, f"error {colour}", 0))
            parts.append(marker("circle", frame.px(one["value"]), y, f"mark {colour}"))
    return joined(parts)


def signed(value: float) -> str:
    """Two digits with a true minus sign."""
    return "0" if value == 0 else minus(f"{value:+.2g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder under experiments/ with results.json and recipe.py")
    arguments = parser.parse_args()
    recipe, results = load_module(arguments.study / "recipe.py"), read_json(arguments.study / "results.json")
    seeds = len(results["seeds"])
    caption = f"Differences, mean of {seeds} seeds and 95 % interval; in colour where the interval does not hold 0"
    write_text(arguments.study / "figure.svg", picture(results["contrasts"], recipe.ROWS, recipe.PANELS, caption))
