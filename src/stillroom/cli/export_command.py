"""``stillroom export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.shared_options import folder_place

Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run folder (its students, each in a folder of its own where there are several), [bold]RUN:dpt90[/], "
        "[bold]RUN:dpt90@500[/] (a kept checkpoint) or the folder of one training.",
    ),
]
Folder = Annotated[
    Path, typer.Argument(help="Where the Hugging Face folder goes; new or empty.", callback=folder_place)
]
Step = Annotated[int | None, typer.Option(help="Checkpoint of a run under way. Default: the newest.")]


def export_command(run: Run, folder: Folder, step: Step = None) -> None:
    """Write the model of a run, finished or under way, as a Hugging Face folder.

    Weights (safetensors), tokenizer, configuration and a card with results and recipe; heads for tokens further ahead
    go into a file of their own beside them. Training may go on meanwhile.

    [bold]Example[/]:  stillroom export runs/quickstart-1a2b3c4d:dpt90 student
    """
    from stillroom.console import Terminal, line
    from stillroom.study.export import export_models

    for one in export_models(run, folder, step):
        state = "finished" if one.step is None else f"step {one.step}"
        Terminal().print(line(f"Model ({state}): ", (one.folder, "bold")), soft_wrap=True)
