"""Times the tabular sweep of the bigram sandbox and its command from start to page.

    python benchmarks/sandbox.py            # both rows
    python benchmarks/sandbox.py sweep      # the tabular sweep alone

Prints one JSON object per row: seconds, the reach in seconds, and what was run. The sampler of the recall world has a
script of its own, ``benchmarks/sandbox_recall.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stillroom.sandbox.bigram.bigram_cells import seed_cell
from stillroom.sandbox.bigram.bigram_config import BigramSweep

SWEEP = BigramSweep(
    states=1000,
    samples=(10_000, 100_000, 1_000_000, 10_000_000),
    alphas=(0.0, 0.9),
    teachers=("exact", "uniform:0.1"),
    temperatures=(1.0,),
    routings=("none",),
    ks=(1, 16),
    seeds=10,
)


def tabular_sweep(sweep: BigramSweep = SWEEP) -> dict[str, Any]:
    """Every seed's cell: samples drawn, three arms learnt, TV, KL, pass@k and the prediction, on one core."""
    world = sweep.make_world()
    begin = time.perf_counter()
    cells = [seed_cell(world, sweep, seed) for seed in range(sweep.seeds)]
    seconds = time.perf_counter() - begin
    return {
        "row": "tabular sweep, k = 1,000, 10^7 samples, 10 seeds",
        "seconds": round(seconds, 2),
        "reach_seconds": 10,
        "sizes": list(sweep.samples),
        "arms": list(cells[0]),
        "seeds": sweep.seeds,
    }


def whole_command(options: list[str] | None = None) -> dict[str, Any]:
    """``stillroom sandbox bigram`` as a user runs it, the start of Python included, into an empty folder."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "stillroom", "sandbox", "bigram", "--out", str(Path(scratch) / "run")]
        begin = time.perf_counter()
        subprocess.run([*command, *(options or [])], check=True, capture_output=True)
        seconds = time.perf_counter() - begin
        stages = json.loads((Path(scratch) / "run" / "sandbox.json").read_text())["stages"]
    return {
        "row": "stillroom sandbox bigram, default sweep and report",
        "seconds": round(seconds, 2),
        "reach_seconds": 60,
        "stages": {stage["name"]: stage["seconds"] for stage in stages},
    }


ROWS = {"sweep": tabular_sweep, "bigram": whole_command}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all where none is named")
    rows = parser.parse_args().rows or list(ROWS)
    for name in rows:
        if name not in ROWS:
            parser.error(f"{name} is no row; expected one of {', '.join(ROWS)}")
    for name in rows:
        print(json.dumps(ROWS[name]() | {"cores": len(os.sched_getaffinity(0))}))


if __name__ == "__main__":
    main()
