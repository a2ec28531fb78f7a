"""Runs the six parts of the study, freezes them and reads worth off the ladder; goes on where it was stopped.

python experiments/041_capacity/run.py --jobs 2
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = [f"{kind}_{number}" for number in range(3) for kind in ("finished", "unfinished")]


def main() -> None:
    """Reads the command line; every part is a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/041-capacity"))
    options = parser.parse_args()
    folders = [options.runs / part.replace("_", "-") for part in PARTS]
    for part, folder in zip(PARTS, folders, strict=True):
        study = [f"{HERE / 'recipe.py'}:{part}", "--jobs", str(options.jobs), "--out", str(folder)]
        artifacts = ["--artifacts", str(options.runs / "artifacts")]
        subprocess.run([sys.executable, "-m", "stillroom", "study", *study, *artifacts], check=True)
    subprocess.run([sys.executable, str(HERE.parent / "over_seeds.py"), str(HERE), *map(str, folders)], check=True)


if __name__ == "__main__":
    main()
