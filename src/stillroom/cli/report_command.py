"""``stillroom report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.shared_options import file_place


def report_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders of every kind: studies, sandboxes, rankings, single trainings, evaluations. Several that "
            "measure models are compared on one page.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file. Default: in the run folder.", callback=file_place)
    ] = None,
) -> None:
    """Make the page of a run again, or one page that compares several runs. Needs no network and no torch.

    Runs that were not measured on the same text in the same tokens have tables and figures of their own.
    Models that differ in their seed alone (arms named -s0, -s1 ..., or runs of one study) are compared over seeds.

    [bold]Example[/]:  stillroom report runs/quickstart-1a2b3c4d
    """
    from stillroom.console import Terminal, line
    from stillroom.report import build_page, compare_report, has_own_page, seeds_tables, summary_table

    console = Terminal()
    if len(runs) == 1 and has_own_page(runs[0]):
        page, sentences = build_page(runs[0], out)
        for sentence in sentences:
            console.print(sentence, markup=False, soft_wrap=True)
        console.print(line("Report: ", (page, "bold")), soft_wrap=True)
        return
    if len(runs) == 1:
        page = compare_report(runs, out or runs[0] / "report.html")
        console.print(summary_table(runs[0]))
    else:
        page = compare_report(runs, out or Path("report.html"))
    for seeds in seeds_tables(runs):
        console.print(seeds)
    console.print(line("Report: ", (page, "bold")), soft_wrap=True)
