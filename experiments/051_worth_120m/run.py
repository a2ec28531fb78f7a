"""Runs the study in slices and, once it is whole, freezes it and applies its rules; the same command goes on.

    python experiments/051_worth_120m/run.py --minutes 9
    python experiments/051_worth_120m/run.py --tiny --runs /tmp/worth --out /tmp/worth   # seconds on a processor

``stillroom study experiments/051_worth_120m/recipe.py:study --dry-run`` says what it takes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stillroom.study.pipeline import run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import load_module

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import worth  # noqa: E402
from over_seeds import freeze  # noqa: E402
from slices import stop_after  # noqa: E402

RECIPE = load_module(HERE / "recipe.py")


def answer(folder: Path) -> None:
    """The rules of 040, which are this study's, on the frozen numbers in ``folder``: ``answer.json``."""
    rules = load_module(HERE.parent / "040_worth" / "answer.py")
    vars(rules)["RECIPE"] = RECIPE
    rules.main(folder)


def main() -> None:
    """Reads the command line and goes on with the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="save and stop after so many; the same command goes on")
    parser.add_argument("--runs", type=Path, default=Path("runs/051-worth-120m"), help="run folder and artifacts")
    parser.add_argument("--out", type=Path, default=HERE, help="where the frozen numbers go")
    parser.add_argument("--tiny", action="store_true", help="the same stages at a size of seconds, which says nothing")
    options = parser.parse_args()
    stop_after(options.minutes)
    config = RECIPE.tiny() if options.tiny else RECIPE.study()
    run = run_study(config, options.runs / "run", options.runs / "artifacts", StageDisplay())
    options.out.mkdir(parents=True, exist_ok=True)
    freeze(HERE, [run], options.out)
    worth.main(options.out)
    if not options.tiny:
        answer(options.out)


if __name__ == "__main__":
    main()
