"""``stillroom init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NewName = Annotated[str, typer.Argument(help="Name of the study; the recipe becomes NAME.py in this folder.")]
Text = Annotated[
    Path | None,
    typer.Argument(help="Folder or file of your own text, or of rows with a column of it. Default: a folder text."),
]
PretrainedTeacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help="A pretrained teacher: model folder, hub id, .gguf or [bold]RUN:ARM[/]. Default: one is trained here.",
    ),
]
Tokens = Annotated[
    int | None, typer.Option(min=1024, help="Different training tokens. Default: what the text holds, at most 2M.")
]


def init_command(name: NewName, text: Text = None, teacher: PretrainedTeacher = None, tokens: Tokens = None) -> None:
    """Write a recipe for your own text, with comments, that runs as it is and can be changed from there.

    Its sizes follow from how much text there is: small enough for a laptop.

    [bold]Example[/]:  stillroom init mine texts/
    """
    from stillroom.console import Terminal, line
    from stillroom.study.starting import start_recipe

    file, console = start_recipe(name, text, teacher, tokens), Terminal()
    console.print(line("Recipe: ", (file, "bold")), soft_wrap=True)
    if text is None:
        console.print("It reads the text of a folder called text, or of whatever TEXT names in it.")
    console.print(line("Next: stillroom study ", file, " --dry-run, then without --dry-run"), soft_wrap=True)
