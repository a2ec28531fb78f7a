"""The picture of a study of several seeds: contrasts in rows, measures in panels, each with its 95 % interval.

    python experiments/forest.py experiments/030_data

Reads the frozen ``results.json``; the study's ``recipe.py`` says what is drawn: ``ROWS`` gives contrasts their words,
and ``PANELS`` gives measures theirs. An interval that does not hold 0 is drawn in colour.
"""

from __future__ import annotations

import argparse
from html import escape
from pathlib import Path
from typing import Any

from stillroom.files import read_json, write_text
from stillroom.study.recipe_files import load_module

Values = dict[str, Any]
TEXT, PANEL, ROW, TOP, GAP = 210, 150, 24, 64, 18
OFF_ZERO, HOLDS_ZERO = "#c05010", "#707070"


def picture(contrasts: Values, rows: dict[str, str], panels: dict[str, str], caption: str) -> str:
    """The whole drawing as SVG."""
    known = {name: words for name, words in rows.items() if name in contrasts}
    width, height = TEXT + len(panels) * (PANEL + GAP) + 10, TOP + len(known) * ROW + 30
    parts = [words(10, 20, caption, size=14)]
    parts += [words(10, TOP + (place + 0.5) * ROW + 4, text) for place, text in enumerate(known.values())]
    for place, (measure, title) in enumerate(panels.items()):
        found = [contrasts[name].get(measure) for name in known]
        parts += panel(TEXT + place * (PANEL + GAP), title, found)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = 'font-family="system-ui, sans-serif" font-size="12"'
    return f'{head} {style}><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


def panel(left: float, title: str, found: list[Values | None]) -> list[str]:
    """One measure: a line at 0, and a mean with its interval in every row that has it."""
    ends = [abs(one[end]) for one in found if one for end in ("low", "high") if one[end] is not None]
    reach = max(ends, default=1.0) * 1.05 or 1.0
    bottom = TOP + len(found) * ROW

    def x(value: float) -> float:
        return left + PANEL * (value / reach + 1) / 2

    parts = [words(left + PANEL / 2, TOP - 14, title, "middle"), line(x(0), TOP - 6, x(0), bottom, "#999")]
    for value, anchor in ((-reach / 1.05, "start"), (0.0, "middle"), (reach / 1.05, "end")):
        parts.append(words(x(value), bottom + 16, signed(value), anchor, 10))
    for place, one in enumerate(found):
        if one is not None and one["low"] is not None:
            y = TOP + (place + 0.5) * ROW
            colour = OFF_ZERO if one["low"] > 0 or one["high"] < 0 else HOLDS_ZERO
            parts.append(line(x(one["low"]), y, x(one["high"]), y, colour, 2))
            parts.append(f'<circle cx="{x(one["value"]):.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    return parts


def signed(value: float) -> str:
    """Two digits with a true minus sign."""
    return "0" if value == 0 else f"{value:+.2g}".replace("-", "−")


def words(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    """A text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    """A straight line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder under experiments/ with results.json and recipe.py")
    arguments = parser.parse_args()
    recipe, results = load_module(arguments.study / "recipe.py"), read_json(arguments.study / "results.json")
    seeds = len(results["seeds"])
    caption = f"Differences, mean of {seeds} seeds and 95 % interval; in colour where the interval does not hold 0"
    write_text(arguments.study / "figure.svg", picture(results["contrasts"], recipe.ROWS, recipe.PANELS, caption))
