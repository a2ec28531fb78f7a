"""``stillroom study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from stillroom.cli.forecast_command import ForecastLaw, print_study_forecast
from stillroom.cli.shared_options import (
    GivenCorpus,
    GivenLabels,
    PlanOnly,
    Recipe,
    RunFolder,
    StudyFields,
    WaitFor,
    artifacts_option,
    jobs_option,
)
from stillroom.types import UserError

if TYPE_CHECKING:
    from stillroom.config import StudyConfig

Artifacts = Annotated[
    Path | None,
    artifacts_option("Folder that holds corpora, models and labels that runs share. Default: beside the run folder."),
]
Jobs = Annotated[
    int,
    jobs_option(
        "Students trained and evaluated at once, each in a process with its share of the cores. Small models gain "
        "more from a process each than from threads."
    ),
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Print for every stage whether it is used again or made, and why; write nothing."),
]
On = Annotated[
    str,
    typer.Option(
        help="Where stages are made: [bold]local[/], or as jobs of [bold]slurm[/] or [bold]ray[/], which ask for what "
        "[bold]resources[/] of the recipe says and go on when this command is stopped."
    ),
]
Status = Annotated[
    bool,
    typer.Option(
        "--status", help="Print what of the study is done, runs, waits and failed, with the last words of each."
    ),
]
Cancel = Annotated[bool, typer.Option("--cancel", help="End its jobs on slurm or ray; what is complete is kept.")]


Sweeps = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="arms.NAME.FIELD=V,V",
        help="An arm for every value, named after it, e.g. [bold]arms.dpt90.alpha=0.3,0.6,0.9[/]; several of one arm "
        "make every combination.",
    ),
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, help="Train every arm at so many seeds; the page compares over them.")
]


def study_command(
    recipe: Recipe,
    assignments: StudyFields = None,
    sweeps: Sweeps = None,
    seeds: Seeds = None,
    out: RunFolder = None,
    artifacts: Artifacts = None,
    jobs: Jobs = 1,
    corpus: GivenCorpus = None,
    wait_for: WaitFor = None,
    labels: GivenLabels = None,
    law: ForecastLaw = None,
    dry_run: PlanOnly = False,
    explain: Explain = False,
    on: On = "local",
    status: Status = False,
    cancel: Cancel = False,
) -> None:
    """Run a whole experiment: corpus, teacher, labels, students, evaluation, one HTML page.

    Every part is kept in a folder named by what determines it: run the same command again to go on after a stop, and
    change one arm to run only that arm again.

    [bold]Example[/]:  stillroom study quickstart --set arms.dpt90.alpha=0.7

    [bold]On a cluster[/]:  stillroom study quickstart --on slurm --artifacts /shared/artifacts, and from beside it the
    same with --status or --cancel in place of --on slurm
    """
    from stillroom.cli.ask import study_config

    _refuse_several(dry_run=dry_run, explain=explain, status=status, cancel=cancel)
    config = study_config(recipe, assignments or [], corpus)
    if sweeps or seeds:
        from stillroom.study.arm_sweeps import swept

        config = swept(config, sweeps or [], seeds)
    if dry_run:
        from stillroom.study.plan import print_plan

        print_plan(config)
        print_study_forecast(law, config)
    elif explain:
        from stillroom.console import Terminal
        from stillroom.study.explain import explain_study, print_explained

        print_explained(explain_study(config, out, artifacts), Terminal())
    elif status or cancel:
        _look(config, _of_run(recipe, out), artifacts, cancel)
    else:
        _run(config, law, _Where(out, artifacts, jobs, labels, wait_for or 0, on))


def _refuse_several(**asked: bool) -> None:
    """Refuses two things to do in place of running."""
    given = [f"--{name.replace('_', '-')}" for name, is_given in asked.items() if is_given]
    if len(given) > 1:
        raise UserError(
            f"{' and '.join(given)} were given, expected one of them; give the commands one after the other."
        )


def _of_run(recipe: str, out: Path | None) -> Path | None:
    """The run folder that is looked at: where the recipe is one, that itself."""
    return Path(recipe) if out is None and (Path(recipe) / "config.yaml").is_file() else out


def _look(config: StudyConfig, out: Path | None, artifacts: Path | None, cancel: bool) -> None:
    """Prints how far a study is, or cancels it."""
    from stillroom.console import Terminal
    from stillroom.study.status import print_cancelled, print_status, study_status

    if cancel:
        print_cancelled(config, out, artifacts, Terminal())
    else:
        print_status(study_status(config, out, artifacts), Terminal())


class _Where(NamedTuple):
    """Where a study is run, and with what."""

    out: Path | None
    artifacts: Path | None
    jobs: int
    labels: str | None
    wait_for: int
    on: str


def _run(config: StudyConfig, law: str | None, where: _Where) -> None:
    """Runs the study, makes its page and prints what was found."""
    from stillroom.cli.ask import print_parts
    from stillroom.console import Terminal, line
    from stillroom.report import build_report, seeds_tables, summary_table
    from stillroom.results.json_form import read
    from stillroom.results.schema import WorthTable
    from stillroom.study.evaluation_tables import multipliers_table
    from stillroom.study.pipeline import run_study
    from stillroom.study.progress import StageDisplay

    folder = run_study(
        config,
        where.out,
        where.artifacts,
        StageDisplay(),
        jobs=where.jobs,
        labels=where.labels,
        wait_for=where.wait_for,
        on=where.on,
    )
    console = Terminal()
    console.print(summary_table(folder))
    for seeds in seeds_tables([folder]):
        console.print(seeds)
    if (folder / "worth.json").is_file():
        console.print(multipliers_table(read(WorthTable, folder / "worth.json")))
    print_study_forecast(law, config, folder)
    page = build_report(folder)
    print_parts(folder)
    console.print(line("Report: ", (page, "bold")), soft_wrap=True)
