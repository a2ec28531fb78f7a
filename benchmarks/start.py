"""How long the command line takes to start, and the losses to import over torch itself.

    python benchmarks/start.py                       a table
    python benchmarks/start.py --clock processor     processor seconds, on a busy machine
    python benchmarks/start.py --out FILE.json       and the numbers

Rounds alternate between the programs, with warm and compiled files; each program is a process of its own. Seconds are
medians with the middle half of the rounds, and ratios are to ``python -c pass`` of the same round. ``objectives`` is
measured inside a process that has imported torch: all of its public names.
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
from importlib.metadata import version
from pathlib import Path

import numpy as np

INSIDE = "import time{also}; clock = time.{clock}; start = clock(); {code}; print(clock() - start)"
OBJECTIVES = "import stillroom.objectives as o; [getattr(o, name) for name in o.__all__]"
PROGRAMS = {
    "python -c pass": ("-c", "pass"),
    "stillroom --version": ("-m", "stillroom", "--version"),
    "stillroom --help": ("-m", "stillroom", "--help"),
    "stillroom study --help": ("-m", "stillroom", "study", "--help"),
    "stillroom ls": ("-m", "stillroom", "ls", "."),
}
IMPORTS = {"import torch": ("", "import torch"), "import stillroom.objectives after torch": (", torch", OBJECTIVES)}


def taken(arguments: tuple[str, ...], clock: str) -> float:
    """Seconds until a program has ended, by either clock."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, child.returncode, used = os.wait4(child.pid, 0)
    assert child.returncode == 0, arguments
    return used.ru_utime + used.ru_stime if clock == "processor" else time.perf_counter() - start


def told(also: str, code: str, clock: str) -> float:
    """Seconds that an import took, measured by the program itself."""
    text = INSIDE.format(also=also, code=code, clock="process_time" if clock == "processor" else "perf_counter")
    return float(subprocess.run([sys.executable, "-c", text], check=True, capture_output=True).stdout)


def quartiles(values: list[float]) -> dict[str, float]:
    """Median and the middle half."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(float(middle), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def measured(rounds: int, clock: str) -> dict[str, list[float]]:
    """Seconds of every program in every round, after one that warms."""
    found: dict[str, list[float]] = {name: [] for name in (*PROGRAMS, *IMPORTS)}
    for _ in range(rounds + 1):
        for name, arguments in PROGRAMS.items():
            found[name].append(taken(arguments, clock))
        for name, (also, code) in IMPORTS.items():
            found[name].append(told(also, code, clock))
    return {name: values[1:] for name, values in found.items()}


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    out = None if asked.out is None else asked.out.absolute()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{empty}/compiled"  # as pip leaves a package
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        seconds = measured(asked.rounds, asked.clock)
        os.chdir("/")
    bare = np.array(seconds["python -c pass"])
    found = {
        name: {"seconds": quartiles(values), "over_bare_python": quartiles(list(np.array(values) / bare))}
        for name, values in seconds.items()
    }
    for name, one in found.items():
        print(f"{name:<42}{one['seconds']['median']:8.3f} s {one['over_bare_python']['median']:8.1f} times python")
    if out is not None:
        where = {"python": platform.python_version(), "torch": version("torch"), "typer": version("typer")}
        where |= {"cores": os.cpu_count(), "load": os.getloadavg()[0], "date": str(datetime.date.today())}
        out.write_text(
            json.dumps({"clock": asked.clock, "rounds": asked.rounds, "where": where, **found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
