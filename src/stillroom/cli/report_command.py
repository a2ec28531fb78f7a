"""``stillroom report``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

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
        str | None,
        typer.Option(
            "--format", help="Kinds of files for --figures: [bold]svg[/], [bold]pdf[/], [bold]csv[/]. Default: svg,csv."
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(min=20, max=1000, help="Width of a drawing for --figures, in mm. Default: 120."),
    ] = None,
    font: Annotated[str | None, typer.Option(help="Family of the letters for --figures. Default: Helvetica.")] = None,
) -> None:
    """Make the page of a run again, or one page that compares several runs. Needs no network and no torch.

    Runs that were not measured on the same text in the same tokens have tables and figures of their own.
    Models that differ in their seed alone (arms named -s0, -s1 ..., or runs of one study) are compared over seeds.

    [bold]Example[/]:  stillroom report runs/quickstart-1a2b3c4d

    [bold]For a paper[/]:  stillroom report RUN --figures figures --format pdf,csv --width 85
    """
    paper = _paper(figures, {"format": formats, "width": width, "font": font})
    _page(runs, out)
    if figures is not None:
        _figures(runs, figures, paper)


def _figures(runs: list[Path], folder: Path, paper: Paper) -> None:
    from stillroom.console import Terminal, line
    from stillroom.report.figure_files import write_figures
    from stillroom.report.kinds import figures_of

    written = write_figures(figures_of(runs), folder, paper)
    Terminal().print(line(f"Figures: {len(written)} files in ", (folder, "bold")), soft_wrap=True)


def _paper(figures: Path | None, asked: Mapping[str, Any]) -> Paper:
    """How figures are to be written; refuses what is asked for in vain, before the page is made."""
    from stillroom.files import check_new_folder
    from stillroom.report.figure_files import Format, Paper
    from stillroom.types import UserError

    if figures is not None:
        check_new_folder(figures)
    given = {name: value for name, value in asked.items() if value is not None}
    if given and figures is None:
        name, value = next(iter(given.items()))
        raise UserError(f"--{name} {value}: is of the files that --figures writes; give --figures FOLDER too.")
    if (text := given.pop("format", None)) is not None:
        kinds, known = [one.strip() for one in text.split(",") if one.strip()], get_args(Format)
        if not kinds or not set(kinds) <= set(known):
            raise UserError(f"--format {text}: expected some of {', '.join(known)}, as in pdf,csv.")
        given["formats"] = tuple(one for one in known if one in kinds)
    return Paper(**given)


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
