"""Freezes a run: copies what its report reads, without samples, into a folder here.

    python experiments/freeze.py runs/quickstart-1a2b3c4d experiments/000_quickstart

Writes ``config.yaml`` (runs again as it is), ``environment.json``, ``comparison.json`` (students against the first on
the same items) and ``results.json`` (study and evaluations).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from stillroom.files import read_json, write_json


def freeze(run: Path, target: Path) -> None:
    """Copies configuration, environment and every number of a finished run."""
    study = read_json(run / "study.json")
    evaluations = {model["name"]: _numbers(run / model["folder"] / "evaluation.json") for model in study["models"]}
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "environment.json", "comparison.json", "worth.json"):
        if (run / name).exists():
            shutil.copyfile(run / name, target / name)
    write_json(target / "results.json", {"study": study, "evaluations": evaluations})


def _numbers(file: Path) -> dict[str, object]:
    """An evaluation without what it keeps of every item, which the run folder has."""
    parts = read_json(file)
    return {name: {key: value for key, value in part.items() if not key.startswith("per_item")}
            if isinstance(part, dict) else part for name, part in parts.items()}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("target", type=Path, help="folder under experiments/")
    arguments = parser.parse_args()
    freeze(arguments.run, arguments.target)
