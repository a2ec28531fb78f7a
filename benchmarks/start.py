"""How long the command line takes to start, and the losses to import over torch itself.

    python benchmarks/start.py                       a table
    python benchmarks/start.py --out FILE.json       and the numbers

Rounds alternate between the programs, with warm files; each program is a process of its own. Seconds are medians with
the middle half of the rounds, and ratios are to ``python -c pass`` of the same round. ``objectives`` is measured inside
a process that has imported torch: all of its public names.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

OBJECTIVES = (
    "import time, torch; start = time.perf_counter(); import stillroom.objectives as o; "
    "[getattr(o, name) for name in o.__all__]; print(time.perf_counter() - start)"
)
TORCH = "import time; start = time.perf_counter(); import torch; print(time.perf_counter() - start)"


def wall(*arguments: str) -> Callable[[], float]:
    """Seconds until a program has ended."""

    def run() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return run


def told(code: str) -> Callable[[], float]:
    """Seconds that a program measured itself."""
    return lambda: float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)


PROGRAMS: dict[str, Callable[[], float]] = {
    "python -c pass": wall("-c", "pass"),
    "stillroom --version": wall("-m", "stillroom", "--version"),
    "stillroom --help": wall("-m", "stillroom", "--help"),
    "stillroom study --help": wall("-m", "stillroom", "study", "--help"),
    "stillroom ls": wall("-m", "stillroom", "ls", "."),
    "import torch": told(TORCH),
    "import stillroom.objectives after torch": told(OBJECTIVES),
}


def quartiles(values: list[float]) -> dict[str, float]:
    """Median and the middle half."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(float(middle), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    out = None if asked.out is None else asked.out.absolute()
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        for round in range(asked.rounds + 1):
            for name, run in PROGRAMS.items():
                seconds = run()
                if round:  # the first one warms
                    taken[name].append(seconds)
        os.chdir("/")
    bare = taken["python -c pass"]
    found = {
        name: {
            "seconds": quartiles(values),
            "over_bare_python": quartiles([one / other for one, other in zip(values, bare, strict=True)]),
        }
        for name, values in taken.items()
    }
    for name, one in found.items():
        print(f"{name:<42}{one['seconds']['median']:8.3f} s {one['over_bare_python']['median']:8.1f} times python")
    if out is not None:
        where = {"python": platform.python_version(), "torch": version("torch"), "typer": version("typer")}
        where |= {"cores": os.cpu_count(), "load": os.getloadavg()[0], "date": str(datetime.date.today())}
        out.write_text(json.dumps({"rounds": asked.rounds, "where": where, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
