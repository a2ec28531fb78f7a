"""The study's picture: what the law foretold for every target, with its interval, and what came out.

python experiments/060_forecast/figure.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stillroom.files import read_json, write_text
from stillroom.report.charts.scales import Scale
from stillroom.report.charts.svg import Frame, drawing, marker, segment, text, ticks, whisker
from stillroom.report.html import picture_file

HERE = Path(__file__).parent
WIDTH, TEXT, TOP, ROW = 500, 205, 70, 24
COLOURS = {"spt": ("s1", "SPT"), "dpt90": ("s2", "DPT-90")}
WORDS = {"larger": "2.2 × the size", "longer": "middle"}
CAPTION = "Nats per token: forecast with 95 % interval, outcome as a diamond"


def name(row: dict[str, Any]) -> str:
    """A target in words."""
    method, _, part = row["arm"].partition("_")
    teacher = ", early" if row["study"].endswith("early") else ""
    return f"{WORDS[row['study'].partition('_')[0]]}, {part}: {COLOURS[method][1]}{teacher}"


def picture(rows: list[dict[str, Any]]) -> str:
    """The whole drawing as SVG."""
    bottom = TOP + ROW * len(rows)
    values = [one for row in rows for one in (row["forecast"]["low"], row["forecast"]["high"], row["outcome"])]
    across = Scale(min(values), max(values))
    frame = Frame(WIDTH, bottom, across, Scale(0, 1), left=TEXT, right=14, top=TOP, bottom=0)
    parts = [text(10, 20, CAPTION)]
    for place, (colour, words) in enumerate(COLOURS.values()):
        parts += [marker("circle", 16 + 90 * place, 42, f"mark {colour}"), text(26 + 90 * place, 46, words)]
    for value, words in ticks(across):
        parts += [segment(frame.px(value), TOP, frame.px(value), bottom, "grid")]
        parts += [text(frame.px(value), bottom + 18, words, "middle", "tick")]
    for number, row in enumerate(rows):
        y, said, outcome = TOP + ROW * (number + 0.5), row["forecast"], frame.px(row["outcome"])
        colour = COLOURS[row["arm"].partition("_")[0]][0]
        parts += [text(TEXT - 14, y + 4, name(row), "end")]
        parts += [whisker(frame.px(said["low"]), y, frame.px(said["high"]), y, f"error {colour}", 0)]
        parts += [marker("circle", frame.px(said["value"]), y, f"mark {colour}")]
        parts += [marker("diamond", outcome, y, "pointer")]
    told = "; ".join(f"{name(row)}: {row['forecast']['value']:.2f}, outcome {row['outcome']:.2f}" for row in rows)
    return picture_file(drawing(WIDTH, bottom + 30, CAPTION, told, *parts), WIDTH, bottom + 30)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = [row for arms in read_json(HERE / "results.json")["targets"].values() for row in arms.values()]
    write_text(HERE / "figure.svg", picture(sorted(rows, key=lambda row: (row["study"], row["arm"]))))
