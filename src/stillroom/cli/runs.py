"""``stillroom study`` and ``stillroom train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[
    str,
    typer.Argument(
        help="A recipe's name ([bold]quickstart[/], [bold]tiny[/]), a [bold]FILE.py:FUNCTION[/], or the "
        "[bold]config.yaml[/] of a run folder, which runs again as it is."
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Override one field, e.g. [bold]arms.dpt90.alpha=0.7[/]; may be repeated."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Run folder. Default: runs/NAME-FINGERPRINT.", show_default=False)
]
Artifacts = Annotated[
    Path | None,
    typer.Option(
        "--artifacts",
        help="Folder that holds corpora, models and labels that runs share. Default: beside the run folder.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the resolved configuration, tokens, parameters, FLOPs, time and memory; write nothing."
    ),
]


def study(
    recipe: Recipe,
    assignments: Assignments = None,
    out: Out = None,
    artifacts: Artifacts = None,
    dry_run: DryRun = False,
) -> None:
    """Run a whole experiment: corpus, teacher, labels, students, evaluation, one HTML page.

    Every part is kept in a folder named by what determines it: run the same command again to go on after a stop, and
    change one arm to run only that arm again.

    [bold]Example[/]:  stillroom study quickstart --set arms.dpt90.alpha=0.7
    """
    from stillroom.cli.ask import study_config

    config = study_config(recipe, assignments or [])
    if dry_run:
        from stillroom.study.plan import print_plan

        print_plan(config)
        return
    from rich.console import Console

    from stillroom.report import build_report, summary_table
    from stillroom.study.pipeline import run_study
    from stillroom.study.progress import StageDisplay

    display = StageDisplay()
    folder = run_study(config, out, artifacts, display)
    page = build_report(folder)
    console = Console()
    console.print(summary_table(folder))
    console.print(f"Report: [bold]{page}[/]", soft_wrap=True)


def train(
    recipe: Recipe,
    arm: Annotated[
        str | None,
        typer.Option("--arm", help="Which arm of a study to train, or [bold]teacher[/].", show_default=False),
    ] = None,
    assignments: Assignments = None,
    out: Out = None,
    artifacts: Artifacts = None,
    dry_run: DryRun = False,
) -> None:
    """Train one model: a run recipe, or one arm of a study with the teacher and labels that it needs.

    The result is a Hugging Face folder ([bold]model/[/]) that AutoModelForCausalLM loads.

    [bold]Example[/]:  stillroom train quickstart --arm spt --set training.learning_rate=0.002
    """
    from stillroom.cli.ask import run_or_study_config

    config = run_or_study_config(recipe, assignments or [], arm)
    if dry_run:
        from stillroom.study.plan import print_plan

        print_plan(config)
        return
    from stillroom.study.pipeline import run_single
    from stillroom.study.progress import StageDisplay

    display = StageDisplay()
    folder = run_single(config, arm, out, artifacts, display)
    display.console.print(f"Model: [bold]{folder / 'model'}[/]", soft_wrap=True)
