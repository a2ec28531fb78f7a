"""``stillroom train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from stillroom.cli.shared_options import (
    GivenCorpus,
    GivenLabels,
    PlanOnly,
    Recipe,
    StudyFields,
    WaitFor,
    artifacts_option,
    folder_place,
)

if TYPE_CHECKING:
    from stillroom.config import RunConfig, StudyConfig

Arm = Annotated[str | None, typer.Option("--arm", help="Which arm of a study to train, or [bold]teacher[/].")]
Artifacts = Annotated[Path, artifacts_option("Folder that holds corpora, models and labels that runs share.")]
ExportTo = Annotated[
    Path | None,
    typer.Option(
        "--export", metavar="FOLDER", help="Also write the trained model there; new or empty.", callback=folder_place
    ),
]


def train_command(
    recipe: Recipe,
    arm: Arm = None,
    assignments: StudyFields = None,
    artifacts: Artifacts = Path("runs/artifacts"),
    export_to: ExportTo = None,
    corpus: GivenCorpus = None,
    wait_for: WaitFor = None,
    labels: GivenLabels = None,
    dry_run: PlanOnly = False,
) -> None:
    """Train one model: a run recipe, or one arm of a study with the teacher and labels that it needs.

    The result is a Hugging Face folder ([bold]model/[/]) that AutoModelForCausalLM loads, with a card of results and
    recipe. Before the end, [bold]stillroom export[/] makes one from a checkpoint.

    [bold]Example[/]:  stillroom train quickstart --arm spt --set training.learning_rate=0.002
    """
    from stillroom.cli.ask import run_or_study_config

    config = run_or_study_config(recipe, assignments or [], arm, corpus)
    if dry_run:
        from stillroom.study.plan import print_plan

        print_plan(config)
    else:
        _run(config, arm, _Where(artifacts, export_to, labels, wait_for or 0))


class _Where(NamedTuple):
    """Where a model is trained, and with what."""

    artifacts: Path
    export_to: Path | None
    labels: str | None
    wait_for: int


def _run(config: RunConfig | StudyConfig, arm: str | None, where: _Where) -> None:
    """Trains the model, exports it where that is asked for, and prints where it is."""
    from stillroom.files import check_new_folder

    if where.export_to is not None:
        check_new_folder(where.export_to)
    from stillroom.console import line
    from stillroom.study.export import export_run_folder
    from stillroom.study.pipeline import run_single
    from stillroom.study.progress import StageDisplay
    from stillroom.training.distributed import launched_rank

    display = StageDisplay()
    folder = run_single(config, arm, where.artifacts, display, labels=where.labels, wait_for=where.wait_for)
    if where.export_to is not None and launched_rank() == 0:
        export_run_folder(folder, where.export_to)
    display.console.print(line("Model: ", (where.export_to or folder / "model", "bold")), soft_wrap=True)
