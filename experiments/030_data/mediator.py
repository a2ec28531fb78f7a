"""Whether a student's induction head goes with its copying: ``python experiments/030_data/mediator.py``.

Reads the frozen results. For every part of the text: Pearson's correlation, over pairs of one seed, of the difference
(DPT-90 minus SPT) in the highest prefix-matching score with that in copying accuracy; and over all students together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.files import read_json, write_json

HERE = Path(__file__).parent
HEAD, COPYING = "heads:prefix_matching", "copying:accuracy_repeat"


def correlation(pairs: list[tuple[float, float]]) -> float:
    """Pearson's r."""
    return float(np.corrcoef(np.array(pairs).T)[0, 1])


def mediator(values: dict[str, Any]) -> dict[str, Any]:
    """Correlations by part, and over all students."""
    made: dict[str, Any] = {"within_pairs": {}}
    for part in ("eighth", "quarter", "half", "all"):
        soft, hard = values[f"dpt90_{part}"], values[f"spt_{part}"]
        pairs = [tuple(soft[s][measure] - hard[s][measure] for measure in (HEAD, COPYING)) for s in soft]
        made["within_pairs"][part] = correlation(pairs)
    students = [(one[HEAD], one[COPYING]) for arm in values.values() for one in arm.values()]
    return made | {"over_students": correlation(students), "num_students": len(students)}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write_json(HERE / "mediator.json", mediator(read_json(HERE / "results.json")["values"]))
