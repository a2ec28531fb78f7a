"""The study's picture: the multiplier in every band of the teacher's entropy, from the frozen numbers.

python experiments/042_entropy/figure.py
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stillroom.files import read_json, write_text
from stillroom.report.charts.svg import WIDE
from stillroom.report.figures.worth_bars import Mark, worth_picture
from stillroom.report.html import picture_file
from stillroom.results.schema import AbilityWorth, Multipliers, Worth, WorthTable

HERE = Path(__file__).parent
MARKS = {"dpt90_half": Mark("DPT-90, half", "s1", "circle"), "dpt90_all": Mark("DPT-90, all", "s2", "square")}
WORTH = TypeAdapter(Worth)


def table(results: dict[str, Any]) -> WorthTable:
    """A band in the place of an ability."""
    bands = []
    for place, (low, high) in enumerate(itertools.pairwise(results["edges"])):
        worths = {arm: WORTH.validate_python(results["arms"][arm]["worth"]["all"][place]) for arm in MARKS}
        both = {arm: Multipliers(data=worth, compute=worth) for arm, worth in worths.items()}
        bands.append(AbilityWorth(key=str(place), title=f"{round(low, 3):.2g} to {high:.2g} nats", arms=both))
    return WorthTable(over="seeds", ladder=(), abilities=tuple(bands))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    drawing, height = worth_picture(table(read_json(HERE / "results.json")), MARKS, signs=True)
    write_text(HERE / "figure.svg", picture_file(drawing, WIDE, height))
