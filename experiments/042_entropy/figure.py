"""The study's picture: the multiplier in every band of the teacher's entropy, from the frozen numbers.

python experiments/042_entropy/figure.py
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stillroom.files import read_json, write_text
from stillroom.report.figures.worth_bars import Mark
from stillroom.results.schema import AbilityWorth, Multipliers, Worth, WorthTable

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from worth import drawn  # noqa: E402

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
    write_text(HERE / "figure.svg", drawn(table(read_json(HERE / "results.json")), MARKS))
