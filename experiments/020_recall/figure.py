"""The study's picture: copy accuracy of every arm with its interval, by teacher, from the frozen results.

python experiments/020_recall/figure.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stillroom.files import read_json, write_text

HERE = Path(__file__).parent
TEACHERS = {"exact": "exact", "leak-0.1": "leaks 0.1", "late": "trained, late", "middle": "middle", "early": "early"}
METHODS = {
    "dpt90": ("DPT-90", "#c05010"),
    "random-15": ("15 % routed at random", "#888888"),
    "entropy-15": ("15 % routed by teacher entropy", "#7050b0"),
    "copy-15": ("15 % routed copy-aware", "#108060"),
}
LEFT, TOP, WIDTH, COLUMN, HEIGHT = 60, 78, 760, 132, 300
LEGEND = (0, 90, 260, 480)
LOWEST, HIGHEST = 0.4, 1.0


def y(value: float) -> float:
    """The height of an accuracy, from the top of the picture."""
    return TOP + HEIGHT * (HIGHEST - min(max(value, LOWEST), HIGHEST)) / (HIGHEST - LOWEST)


def words(x: float, at: float, text: str, anchor: str = "middle", colour: str = "#222") -> str:
    """A text element."""
    return f'<text x="{x:.1f}" y="{at:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0, dash: str = "none") -> str:
    """A straight line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>'


def arm(x: float, found: dict[str, Any], colour: str) -> str:
    """A mean with its 95 % interval."""
    dot = f'<circle cx="{x:.1f}" cy="{y(found["value"]):.1f}" r="4" fill="{colour}"/>'
    return rule(x, y(found["low"]), x, y(found["high"]), colour, 2) + dot


def picture(contrasts: dict[str, Any]) -> str:
    """The whole drawing as SVG."""
    parts = [rule(LEFT, y(tick / 10), LEFT + WIDTH - 90, y(tick / 10), "#ddd") for tick in range(4, 11, 2)]
    parts += [words(LEFT - 8, y(tick / 10) + 4, f"{tick / 10:.1f}", "end") for tick in range(4, 11, 2)]
    spt = contrasts["spt"]["mean"]["copy_accuracy"]["value"]
    parts.append(rule(LEFT, y(spt), LEFT + WIDTH - 90, y(spt), "#1060a0", 1.5, "5 4"))
    parts.append(
        words(LEFT, 24, "Copy accuracy at the end, mean of five seeds and 95 % interval; dashed: SPT", "start")
    )
    for place, (name, colour) in enumerate(METHODS.values()):
        parts.append(f'<circle cx="{LEFT + 6 + LEGEND[place]}" cy="46" r="4" fill="{colour}"/>')
        parts.append(words(LEFT + 15 + LEGEND[place], 50, name, "start"))
    for column, (teacher, name) in enumerate(TEACHERS.items()):
        middle = LEFT + COLUMN * (column + 0.5)
        parts.append(words(middle, TOP + HEIGHT + 24, name))
        for place, (method, (_, colour)) in enumerate(METHODS.items()):
            if f"{method}@{teacher}" in contrasts:
                found = contrasts[f"{method}@{teacher}"]["mean"]["copy_accuracy"]
                parts.append(arm(middle + 22 * (place - 1.5), found, colour))
    parts.append(words(LEFT + COLUMN * 2.5, TOP + HEIGHT + 46, "the teacher", colour="#555"))
    size = f'viewBox="0 0 {LEFT + WIDTH} {TOP + HEIGHT + 60}"'
    style = 'font-family="sans-serif" font-size="12"'
    title = "Copy accuracy of distilled students by teacher and routing rule"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style} role="img" aria-label="{title}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write_text(HERE / "figure.svg", picture(read_json(HERE / "results.json")["contrasts"]))
