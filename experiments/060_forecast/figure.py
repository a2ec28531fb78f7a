"""The study's picture: what the law foretold for every target, with its interval, and what came out.

python experiments/060_forecast/figure.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stillroom.files import read_json, write_text

HERE = Path(__file__).parent
LEFT, TOP, WIDTH, ROW = 340, 74, 480, 28
COLOURS = {"spt": "#1060a0", "dpt90": "#c05010"}
WORDS = {"larger": "three times the size", "longer": "middle size"}


def name(row: dict[str, Any]) -> str:
    """A target in words."""
    method, _, part = row["arm"].partition("_")
    teacher = ", early teacher" if row["study"].endswith("early") else ""
    return f"{WORDS[row['study'].partition('_')[0]]}, {part}: {method.upper().replace('DPT90', 'DPT-90')}{teacher}"


def picture(rows: list[dict[str, Any]]) -> str:
    """The whole drawing as SVG."""
    values = [one for row in rows for one in (row["forecast"]["low"], row["forecast"]["high"], row["outcome"])]
    low, high = min(values), max(values)

    def x(value: float) -> float:
        return LEFT + WIDTH * (value - low) / (high - low)

    def words(at: float, y: float, text: str, anchor: str = "start") -> str:
        return f'<text x="{at:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{text}</text>'

    parts = [words(16, 24, "Held-out nats per token: forecast with its 95 % interval, and outcome (black)")]
    for place, (method, colour) in enumerate(COLOURS.items()):
        parts.append(f'<circle cx="{22 + 110 * place}" cy="46" r="4" fill="{colour}"/>')
        parts.append(words(32 + 110 * place, 50, {"spt": "SPT", "dpt90": "DPT-90"}[method]))
    for number, row in enumerate(rows):
        y, colour, said = TOP + ROW * (number + 0.5), COLOURS[row["arm"].partition("_")[0]], row["forecast"]
        ends = f'x1="{x(said["low"]):.1f}" x2="{x(said["high"]):.1f}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(words(LEFT - 14, y + 4, name(row), "end"))
        parts.append(f'<line {ends} stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x(said["value"]):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        tall = f'x1="{x(row["outcome"]):.1f}" x2="{x(row["outcome"]):.1f}" y1="{y - 7:.1f}" y2="{y + 7:.1f}"'
        parts.append(f'<line {tall} stroke="#000" stroke-width="2.5"/>')
    foot = TOP + ROW * len(rows) + 20
    parts += [words(x(value), foot, f"{value:.2f}", "middle") for value in (low, (low + high) / 2, high)]
    size = f'viewBox="0 0 {LEFT + WIDTH + 40} {foot + 14}"'
    title = "Forecast and outcome of nine students"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img" '
        f'aria-label="{title}"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = [row for arms in read_json(HERE / "results.json")["targets"].values() for row in arms.values()]
    write_text(HERE / "figure.svg", picture(sorted(rows, key=lambda row: (row["study"], row["arm"]))))
