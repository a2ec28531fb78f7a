"""``stillroom sandbox``: worlds whose truth is known, so that every measured curve has its theory beside it."""

from __future__ import annotations

import typer

from stillroom.cli.bigram_command import bigram_command
from stillroom.cli.recall_command import recall_command

sandbox = typer.Typer(
    name="sandbox",
    help="Small worlds whose truth is known exactly: what soft labels buy, what an imperfect teacher costs, and the "
    "theory of both drawn through the measured points.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@sandbox.callback()
def _sandbox() -> None:
    """Keeps the name of a world a command of its own, however many there are."""


sandbox.command("bigram")(bigram_command)
sandbox.command("recall")(recall_command)
