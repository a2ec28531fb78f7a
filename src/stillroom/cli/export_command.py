"""``stillroom export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.shared_options import folder_place

Run = Annotated[
    Path,
    typer.Argument(
        help="Folder of one model's training among the artifacts: [bold]model-KEY[/], or "
        "[bold].model-KEY.unfinished[/] while it trains."
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

    [bold]Example[/]:  stillroom export runs/artifacts/.model-2f1c.unfinished halfway
    """
    from stillroom.console import Terminal, line
    from stillroom.study.export import export_run_folder

    exported = export_run_folder(run, folder, step)
    state = "the finished run" if exported is None else f"step {exported}"
    Terminal().print(line(f"Model ({state}): ", (folder, "bold")), soft_wrap=True)
