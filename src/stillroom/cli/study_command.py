"""``stillroom study``, ``stillroom train`` and ``stillroom export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.forecast_command import ForecastLaw, print_study_forecast
from stillroom.cli.places import folder_place

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
    Path | None,
    typer.Option(
        "--out", help="Run folder. Default: runs/NAME-FINGERPRINT.", show_default=False, callback=folder_place
    ),
]
Artifacts = Annotated[
    Path | None,
    typer.Option(
        "--artifacts",
        help="Folder that holds corpora, models and labels that runs share. Default: beside the run folder.",
        callback=folder_place,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the resolved configuration, tokens, parameters, FLOPs, time and memory; write nothing."
    ),
]


Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        min=1,
        metavar="N",
        help="Students trained and evaluated at once, each in a process with its share of the cores. Small models "
        "gain more from a process each than from threads.",
    ),
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Print for every stage whether it is used again or made, and why; write nothing."),
]


def study(
    recipe: Recipe,
    assignments: Assignments = None,
    out: Out = None,
    artifacts: Artifacts = None,
    jobs: Jobs = 1,
    law: ForecastLaw = None,
    dry_run: DryRun = False,
    explain: Explain = False,
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
        print_study_forecast(law, config)
        return
    if explain:
        from stillroom.console import Terminal
        from stillroom.study.explain import explain_study, print_explained

        print_explained(explain_study(config, out, artifacts), Terminal())
        return
    from stillroom.console import Terminal, line
    from stillroom.report import build_report, seeds_table, summary_table
    from stillroom.study.pipeline import run_study
    from stillroom.study.progress import StageDisplay

    display = StageDisplay()
    folder = run_study(config, out, artifacts, display, jobs=jobs)
    page = build_report(folder)
    console = Terminal()
    console.print(summary_table(folder))
    if (seeds := seeds_table([folder])) is not None:
        console.print(seeds)
    print_study_forecast(law, config, folder)
    console.print(line("Report: ", (page, "bold")), soft_wrap=True)


def train(
    recipe: Recipe,
    arm: Annotated[
        str | None,
        typer.Option("--arm", help="Which arm of a study to train, or [bold]teacher[/].", show_default=False),
    ] = None,
    assignments: Assignments = None,
    artifacts: Annotated[
        Path,
        typer.Option(
            "--artifacts", help="Folder that holds corpora, models and labels that runs share.", callback=folder_place
        ),
    ] = Path("runs/artifacts"),
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FOLDER",
            help="Also write the trained model there; new or empty.",
            show_default=False,
            callback=folder_place,
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Train one model: a run recipe, or one arm of a study with the teacher and labels that it needs.

    The result is a Hugging Face folder ([bold]model/[/]) that AutoModelForCausalLM loads, with a card of results and
    recipe. Before the end, [bold]stillroom export[/] makes one from a checkpoint.

    [bold]Example[/]:  stillroom train quickstart --arm spt --set training.learning_rate=0.002
    """
    from stillroom.cli.ask import run_or_study_config

    config = run_or_study_config(recipe, assignments or [], arm)
    if export_to is not None and not dry_run:
        from stillroom.files import check_new_folder

        check_new_folder(export_to)
    if dry_run:
        from stillroom.study.plan import print_plan

        print_plan(config)
        return
    from stillroom.console import line
    from stillroom.study.pipeline import run_single
    from stillroom.study.progress import StageDisplay

    display = StageDisplay()
    folder = run_single(config, arm, artifacts, display)
    model = folder / "model"
    if export_to is not None:
        from stillroom.study.export import export_run_folder
        from stillroom.training.distributed import launched_rank

        model = export_to
        if launched_rank() == 0:
            export_run_folder(folder, export_to)
    display.console.print(line("Model: ", (model, "bold")), soft_wrap=True)


def export(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of one model's training among the artifacts: [bold]model-KEY[/], or "
            "[bold].model-KEY.unfinished[/] while it trains."
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(help="Where the Hugging Face folder goes; new or empty.", callback=folder_place)
    ],
    step: Annotated[
        int | None,
        typer.Option(help="Checkpoint of a run under way. Default: the newest.", show_default=False),
    ] = None,
) -> None:
    """Write the model of a run, finished or under way, as a Hugging Face folder.

    Weights (safetensors), tokenizer, configuration and a card with results and recipe; heads for tokens further ahead
    go into a file of their own beside them. Training may go on meanwhile.

    [bold]Example[/]:  stillroom export runs/artifacts/.model-2f1c.unfinished halfway
    """
    from stillroom.console import Terminal, line
    from stillroom.study.export import export_run_folder

    exported = export_run_folder(run, folder, step)
    state = "the finished run" if exported is None else f"step {exported}"
    Terminal().print(line(f"Model ({state}): ", (folder, "bold")), soft_wrap=True)
