"""Runs the recall study and writes its tables; stop it whenever you like, the same command goes on from there.

    python experiments/020_recall/run.py --jobs 2

Trained cells are kept under ``runs/020-recall``; ``results.json`` and ``results.md`` here are frozen numbers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from stillroom.results.json_form import write
from stillroom.sandbox.recall.run_recall import Cells, build_cells, results
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.environment import this_environment
from stillroom.study.progress import StageDisplay

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from grid import SEEDS, study  # noqa: E402
from tables import contrasts, lean, markdown  # noqa: E402

from stillroom.files import write_json, write_text  # noqa: E402


def complete_seeds(folder: Path) -> tuple[int, ...]:
    """Seeds of which every cell is there."""
    cells = Cells(study(), ArtifactStore(folder))
    return tuple(
        seed
        for seed in SEEDS
        if all(cells.folder(cell).is_dir() for wave in cells.needed() for cell in wave if cell.seed == seed)
    )


def write_tables(folder: Path, target: Path) -> None:
    """Freezes the numbers of the complete seeds."""
    seeds = complete_seeds(folder)
    console = Console()
    if not seeds:
        console.print("No seed is complete yet, so there is nothing to tabulate.")
        return
    cells = Cells(study(seeds), ArtifactStore(folder))
    found = lean(results(cells, 0.0, {}))
    write(target / "environment.json", this_environment(cells.precision))
    write_json(target / "results.json", found | {"contrasts": contrasts(found)})
    write_text(target / "results.md", markdown(found))
    console.print(f"{len(seeds)} of {len(SEEDS)} seeds are complete; tables in {target / 'results.md'}", soft_wrap=True)


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, each on one thread (default 1)")
    parser.add_argument("--limit", type=int, default=None, help="train at most so many missing cells, then stop")
    parser.add_argument("--table", action="store_true", help="train nothing; tables of the seeds that are complete")
    parser.add_argument("--cells", type=Path, default=Path("runs/020-recall"), help="where trained cells are kept")
    parser.add_argument("--out", type=Path, default=HERE, help="where the tables go")
    arguments = parser.parse_args()
    if not arguments.table:
        build_cells(
            Cells(study(), ArtifactStore(arguments.cells)), StageDisplay(), jobs=arguments.jobs, limit=arguments.limit
        )
    write_tables(arguments.cells, arguments.out)


if __name__ == "__main__":
    main()
