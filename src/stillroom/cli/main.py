"""The ``stillroom`` command: its verbs, and how mistakes and interruptions end."""

from __future__ import annotations

import sys
from inspect import cleandoc

import typer

from stillroom.cli.data import inspect
from stillroom.cli.label import label
from stillroom.cli.results import evaluate, report
from stillroom.cli.runs import export, study, train
from stillroom.cli.sandbox import sandbox
from stillroom.cli.teachers import teachers
from stillroom.types import UserError

_INTERRUPTED = 130  # typer turns Ctrl-C into this exit code

app = typer.Typer(
    name="stillroom",
    help="Distilled pretraining: train small language models from hard labels and a teacher's soft labels, and see "
    "what that buys (test-time scaling) and what it costs (in-context learning).\n\n"
    "Start with:  stillroom study quickstart",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for command in (study, train, label, evaluate, export, inspect, report):
    app.command()(command)
app.add_typer(sandbox)
app.add_typer(teachers)


def _flowing(docstring: str) -> str:
    """Help whose paragraphs fill the terminal; examples keep their lines, as typer would keep those of everything."""
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if "Example" in text[:16] else text.replace("\n", " ") for text in paragraphs)


for verbs in (app, sandbox, teachers):
    for verb in verbs.registered_commands:
        verb.help = _flowing((verb.callback and verb.callback.__doc__) or "")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if version:
        from stillroom import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 a mistake in what was asked for, 130 interrupted by Ctrl-C."""
    if sys.platform == "win32":
        _complain(
            "runs on Linux and macOS and not on Windows itself; run it in the Windows Subsystem for Linux (WSL 2)."
        )
        sys.exit(2)
    code = None
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as error:
        _complain(str(error))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        usage_message = getattr(error, "format_message", None)  # typer carries a click of its own: no class to name
        if usage_message is None:
            raise
        _complain(f"{usage_message().rstrip('.')}; stillroom --help and stillroom COMMAND --help tell what there is.")
        sys.exit(2)

    if code == _INTERRUPTED:
        _complain("stopped; what was complete is kept: run the same command again to go on.")
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text.assemble(("stillroom: ", "bold red"), message), soft_wrap=True)
