"""``stillroom inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.shared_options import file_place


def inspect_command(
    path: Annotated[
        Path,
        typer.Argument(help="A run folder of any kind, [bold]RUN:dpt90[/], a label store, a corpus or a model folder."),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every byte: of a run, of all that it names, of any folder.")
    ] = False,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer folder, to show a label store's positions as text.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another model folder: where do the two differ, token by token?")
    ] = None,
    corpus: Annotated[Path | None, typer.Option("--corpus", help="Corpus on whose held-out text they do.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Model folder whose entropy sorts the tokens of that comparison.")
    ] = None,
    text: Annotated[str, typer.Option(help="Text whose attention is drawn.", show_default=False)] = "",
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the pictures to this page.", callback=file_place)
    ] = None,
    ablation: Annotated[bool, typer.Option(help="Measure the loss on repeats without each head.")] = True,
) -> None:
    """Show what a folder holds: a label store's manifest and bytes, a corpus's tokens, a model's induction heads.

    Of a model: scores of every head, the loss without it, attention as pictures, and where it differs from another.
    Of a run under way: the strongest scores at each of its checkpoints.

    [bold]Example[/]:  stillroom inspect labels --verify
    """
    from stillroom.study.inspect import inspect_path
    from stillroom.study.model_inspection import ModelRequest

    request = ModelRequest(against, corpus, teacher, text, html is not None, ablation)
    found = inspect_path(path, verify=verify, tokenizer=tokenizer, request=request)
    if html is not None and found is not None:
        from stillroom.console import Terminal, line
        from stillroom.report.pages.inspection_page import write_inspection_page

        write_inspection_page(html, found)
        Terminal().print(line("Pictures: ", (html, "bold")), soft_wrap=True)
