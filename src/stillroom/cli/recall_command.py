"""``stillroom sandbox recall``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillroom.cli.shared_options import RunFolder, dry_run_option, jobs_option, set_option

if TYPE_CHECKING:
    from stillroom.sandbox.recall.recall_config import RecallConfig

Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        help="Size of model and world: [bold]0.1m[/] (a minute or two on two cores), [bold]0.4m[/] (several), "
        "[bold]5m[/] (hours), or the [bold]config.yaml[/] of a run folder; for a GPU "
        "[bold]25m[/] and [bold]sandbox-120m[/].",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option("--seeds", min=1, max=1000, help="Seeds per arm; intervals need at least two.", show_default="1"),
]


def recall_command(
    preset: Preset = "0.1m",
    seeds: Seeds = None,
    assignments: Annotated[list[str] | None, set_option("teachers.leaking.leak=0.2")] = None,
    out: RunFolder = None,
    jobs: Annotated[int, jobs_option("Models trained at once, in a process each; they share the cores.")] = 1,
    dry_run: Annotated[
        bool, dry_run_option("Print the resolved configuration and what it takes; write nothing.")
    ] = False,
) -> None:
    """Watch induction heads form: text in which a few characters always repeat the answer given the first time.

    Three students learn it: SPT (hard labels), DPT-90 (90 % of the loss on a teacher that knows the rule but leaks a
    tenth of its probability) and DPT-90 with the 15 % of positions that the teacher is surest of left to the hard
    label. Second answers can be predicted only by looking back, so a copying circuit forms: the page shows when, in
    which heads, what the leak does to it, and the distance to the true distribution everywhere else.

    Stop it whenever you like: the same command goes on from there, and finished models are never trained again.

    [bold]Examples[/]:

      stillroom sandbox recall

      stillroom sandbox recall --preset 0.1m --seeds 5 --set teachers.leaking.leak=0.2

      stillroom sandbox recall --set arms.dpt90_routed.objective.routing.rule=copy-aware
    """
    from stillroom.config import override
    from stillroom.sandbox.recall.recall_presets import preset as find

    config = find(preset)
    if seeds is not None:
        config = config.model_copy(update={"seeds": tuple(range(seeds))})
    config = override(config, assignments or [])
    if dry_run:
        from stillroom.sandbox.recall.recall_plan import print_recall_plan

        print_recall_plan(config)
    else:
        _run(config, out, jobs)


def _run(config: RecallConfig, out: Path | None, jobs: int) -> None:
    """Trains what is missing, writes the page and prints where it is."""
    from stillroom.console import Terminal, line
    from stillroom.report.pages.recall_page import build_recall_report
    from stillroom.sandbox.recall.run_recall import run_recall
    from stillroom.study.progress import StageDisplay

    page = build_recall_report(run_recall(config, out, StageDisplay(), jobs=jobs))
    Terminal().print(line("Report: ", (page, "bold")), soft_wrap=True)
