"""One stage of a study, made by a process of its own: what a job of a scheduler runs.

It is handed the run's folder, which holds the configuration, and the artifact that it is to make; what that is made of
is there already, and is made by it where it is not.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

from stillroom.config import StudyConfig
from stillroom.console import Terminal
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.budgets import with_budgets
from stillroom.study.interrupts import Stopper
from stillroom.study.needs import Needs
from stillroom.study.pipeline import Stages, make_stage
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.stage_jobs import StageEnd, StageJobs
from stillroom.training import Interrupted
from stillroom.training.distributed import launched_rank
from stillroom.types import UserError


def run_task(arguments: list[str] | None = None) -> int:
    """Makes a stage, says how it ended where it was not stopped, and returns the exit code."""
    asked = _asked(arguments)
    try:
        end, code = _made(asked), 0
    except UserError as error:
        Terminal(stderr=True).print(f"stillroom: {error}", markup=False, soft_wrap=True, highlight=False)
        end, code = StageEnd(mistake=str(error)), 2
    except Exception as error:
        traceback.print_exc()
        end, code = StageEnd(mistake=f"{asked.title}: ended in {type(error).__name__}, which its log tells of."), 1
    if launched_rank() == 0:
        StageJobs.of(asked.artifacts).end(asked.artifact, end)
    return code


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=run_task.__doc__)
    parser.add_argument("run", type=Path, help="folder of the study")
    parser.add_argument("--artifacts", type=Path, required=True, help="folder of what is made")
    parser.add_argument("--artifact", required=True, help="what is to be made, by its name there")
    parser.add_argument("--title", required=True, help="of the stage")
    parser.add_argument("--kind", required=True, help="corpus, model, labels or evaluation")
    parser.add_argument("--name", default="", help="of the model")
    parser.add_argument("--precision", required=True, help="as the one who asks resolved it")
    parser.add_argument("--labels", help="as of the study")
    parser.add_argument("--wait-for", type=int, default=0, help="as of the study")
    return parser.parse_args() if arguments is None else parser.parse_args(arguments)


def _made(asked: argparse.Namespace) -> StageEnd:
    config = resolve_recipe(str(asked.run))
    assert isinstance(config, StudyConfig)
    store = ArtifactStore(asked.artifacts, Needs.of_run(asked.artifacts, asked.run))
    with Stopper() as stopper:
        stages = Stages(with_budgets(config), store, StageDisplay(), stopper)
        stages.given_labels, stages.wait_for, stages.given_precision = asked.labels, asked.wait_for, asked.precision
        try:
            make_stage(stages, asked.kind, asked.name)
        except Interrupted:
            stopper.leave()
    return StageEnd(record=next((one for one in reversed(stages.record) if one.name == asked.title), None))


if __name__ == "__main__":
    sys.exit(run_task())
