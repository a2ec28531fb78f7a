"""``stillroom report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from stillroom.cli.shared_options import file_place, folder_place

if TYPE_CHECKING:
    from stillroom.report.figure_files import Paper


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
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures", metavar="FOLDER", help="Also write every figure there; new or empty.", callback=folder_place
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option("--format", help="Kinds of files for --figures, of [bold]svg[/], [bold]pdf[/] and [bold]csv[/]."),
    ] = "svg,csv",
    width: Annotated[float, typer.Option(min=20, max=1000, help="Width of a drawing for --figures, in mm.")] = 120.0,
    font: Annotated[str, typer.Option(help="Family of the letters for --figures.")] = "Helvetica, Arial, sans-serif",
) -> None:
    """Make the page of a run again, or one page that compares several runs. Needs no network and no torch.

    Runs that were not measured on the same text in the same tokens have tables and figures of their own.
    Models that differ in their seed alone (arms named -s0, -s1 ..., or runs of one study) are compared over seeds.

    [bold]Example[/]:  stillroom report runs/quickstart-1a2b3c4d

    [bold]For a paper[/]:  stillroom report RUN --figures figures --format pdf,csv --width 85
    """
    from stillroom.files import check_new_folder

    paper = _paper(formats, width, font)
    if figures is not None:
        check_new_folder(figures)
    _page(runs, out)
    if figures is not None:
        from stillroom.console import Terminal, line
        from stillroom.report.figure_files import write_figures
        from stillroom.report.kinds import figures_of

        written = write_figures(figures_of(runs), figures, paper)
        Terminal().print(line(f"Figures: {len(written)} files in ", (figures, "bold")), soft_wrap=True)


def _paper(formats: str, width: float, font: str) -> Paper:
    from stillroom.report.figure_files import Format, Paper
    from stillroom.types import UserError

    asked, known = [one.strip() for one in formats.split(",") if one.strip()], get_args(Format)
    wrong = [one for one in asked if one not in known]
    if wrong or not asked:
        raise UserError(f"--format {formats}: expected some of {', '.join(known)}, as in pdf,csv.")
    return Paper(tuple(one for one in known if one in asked), width, font)


def _page(runs: list[Path], out: Path | None) -> None:
    """Writes the page and prints where it is and what it says."""
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
