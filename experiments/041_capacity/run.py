"""Runs the six parts of the study, freezes them and reads worth off the ladder; goes on where it was stopped.

python experiments/041_capacity/run.py --jobs 2
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from stillroom.study.recipe_files import load_module

HERE = Path(__file__).parent
RUNS = load_module(HERE / "recipe.py").RUNS


def main() -> None:
    """Reads the command line; every part is a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/041-capacity"))
    options = parser.parse_args()
    folders = [options.runs / run.replace("_", "-") for run in RUNS]
    for run, folder in zip(RUNS, folders, strict=True):
        study = [f"{HERE / 'recipe.py'}:{run}", "--jobs", str(options.jobs), "--out", str(folder)]
        artifacts = ["--artifacts", str(options.runs / "artifacts")]
        subprocess.run([sys.executable, "-m", "stillroom", "study", *study, *artifacts], check=True)
    for script, given in (("over_seeds.py", folders), ("worth.py", [])):
        subprocess.run([sys.executable, str(HERE.parent / script), str(HERE), *map(str, given)], check=True)


if __name__ == "__main__":
    main()
