"""``stillroom evaluate`` and ``stillroom report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    models: Annotated[
        list[Path], typer.Argument(help="Model folders in the Hugging Face layout; several are shown side by side.")
    ],
    corpus: Annotated[Path, typer.Option("--corpus", help="Folder of the built corpus whose held-out part is used.")],
    suite: Annotated[
        str,
        typer.Option(
            help="Comma-separated: [bold]lm[/] (bits per byte), [bold]icl[/] (copying, counterfactual facts), "
            "[bold]tts[/] (pass@k, diversity), [bold]heads[/] (induction heads)."
        ),
    ] = "lm,icl,tts,heads",
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the evaluation.json and samples of every model.")
    ] = Path("evaluations"),
    seed: Annotated[int, typer.Option(help="Seed of items and samples.")] = 0,
    problems: Annotated[int, typer.Option(help="Problems of the tts suite.")] = 100,
    samples: Annotated[int, typer.Option(help="Samples per problem (at least 16 for pass@16).")] = 32,
) -> None:
    """Measure models: what they know, what they learn in context, and what more samples buy. Intervals are 95 %.

    [bold]Example[/]:  stillroom evaluate A/model B/model --corpus CORPUS --suite icl,lm
    """
    from stillroom.study.evaluate import evaluate_models
    from stillroom.study.progress import StageDisplay

    values = {"seed": seed, "problems": problems, "samples_per_problem": samples}
    evaluate_models(models, corpus, suite.split(","), out, values, StageDisplay())


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are compared on one page.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The HTML file. Default: in the run folder.", show_default=False),
    ] = None,
) -> None:
    """Make the page of a run again, or one page that compares several runs. Needs no network and no torch.

    [bold]Example[/]:  stillroom report runs/quickstart-1a2b3c4d
    """
    from rich.console import Console

    from stillroom.report import build_report, compare_report, summary_table

    console = Console()
    if len(runs) == 1 and out is None:
        page = build_report(runs[0])
        console.print(summary_table(runs[0]))
    else:
        page = compare_report(runs, out or Path("report.html"))
    console.print(f"Report: [bold]{page}[/]", soft_wrap=True)
