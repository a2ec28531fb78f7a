"""Runs the two rules that study 020 left out, and what they are compared with; the same command goes on after a stop.

    python experiments/022_recall_rules/run.py --jobs 2

Trained cells are kept under ``runs/022-recall-rules``; ``results.json`` here is frozen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stillroom.files import write_json
from stillroom.results.json_form import write
from stillroom.sandbox.recall.run_recall import Cells, build_cells, results
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.environment import this_environment
from stillroom.study.progress import StageDisplay

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "020_recall"))
from grid import OTHER_RULES, study  # noqa: E402
from tables import contrasts, lean  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, each on one thread (default 1)")
    arguments = parser.parse_args()
    cells = Cells(study(grid=OTHER_RULES, name="022-recall-rules"), ArtifactStore(Path("runs/022-recall-rules")))
    build_cells(cells, StageDisplay(), jobs=arguments.jobs, limit=None)
    found = lean(results(cells, 0.0, {}))
    write(HERE / "environment.json", this_environment(cells.precision))
    write_json(HERE / "results.json", found | {"contrasts": contrasts(found)})
