"""The ``stillroom`` command: its verbs, and how mistakes and interruptions end."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from inspect import cleandoc
from typing import NoReturn

import typer

from stillroom import __version__
from stillroom.cli.config_command import config_command
from stillroom.cli.corpus_command import corpus
from stillroom.cli.doctor_command import doctor_command
from stillroom.cli.evaluate_command import evaluate_command
from stillroom.cli.export_command import export_command
from stillroom.cli.forecast_command import forecast
from stillroom.cli.init_command import init_command
from stillroom.cli.inspect_command import inspect_command
from stillroom.cli.label_command import label_command
from stillroom.cli.ls_command import ls_command
from stillroom.cli.report_command import report_command
from stillroom.cli.sandbox_command import sandbox
from stillroom.cli.study_command import study_command
from stillroom.cli.teachers_command import teachers
from stillroom.cli.train_command import train_command
from stillroom.types import UserError

_INTERRUPTED = 130  # typer turns Ctrl-C into this exit code

app = typer.Typer(
    name="stillroom",
    help="Distilled pretraining: train small language models from hard labels and a teacher's soft labels, and see "
    "what that buys (test-time scaling) and what it costs (in-context learning).\n\n"
    "Start with:  stillroom study quickstart, or on your own text:  stillroom init mine texts/",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("init")(init_command)
app.command("study")(study_command)
app.command("train")(train_command)
app.command("label")(label_command)
app.command("evaluate")(evaluate_command)
app.command("export")(export_command)
app.command("config")(config_command)
app.command("inspect")(inspect_command)
app.command("report")(report_command)
app.command("ls")(ls_command)
app.command("doctor")(doctor_command)
app.add_typer(corpus)
app.add_typer(sandbox)
app.add_typer(teachers)
app.add_typer(forecast)


def _flowing(docstring: str) -> str:
    """Help whose paragraphs fill the terminal; examples keep their lines, as typer would keep those of everything."""
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if "Example" in text[:16] else text.replace("\n", " ") for text in paragraphs)


for verbs in (app, corpus, sandbox, teachers, forecast):
    for verb in verbs.registered_commands:
        verb.help = _flowing((verb.callback and verb.callback.__doc__) or "")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 a mistake in what was asked for, 130 interrupted by Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a sign shows its code instead
            stream.reconfigure(errors="backslashreplace")
    if sys.platform == "win32":
        _complain(
            "runs on Linux and macOS and not on Windows itself; run it in the Windows Subsystem for Linux (WSL 2)."
        )
        sys.exit(2)
    if (sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        print(__version__)  # typer would load pydantic to read it, which takes longer than all the rest
        sys.exit(0)
    code = None
    try:
        code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # typer takes the end of any file for an interruption
            _leave("a file or standard input ended too early; check that what was named is complete.")
        code = _INTERRUPTED
    except BrokenPipeError:
        _leave_quietly()
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        if not sentence:  # a group of verbs was named alone, and its help is printed
            sys.exit(0)
        _leave(sentence)

    if code == _INTERRUPTED:
        _complain("stopped; what was complete is kept: run the same command again to go on.")
    sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: Exception) -> str | None:
    """What to say of an exception that is no broken promise of the program's; None of one that is.

    The last resort: who reads a file says better what it should have been.
    """
    if isinstance(error, UserError):
        return str(error)
    usage_message = getattr(error, "format_message", None)  # typer carries a click of its own: no class to name
    if usage_message is not None:
        return (
            usage_message()
            and f"{usage_message().rstrip('.')}; stillroom --help and stillroom COMMAND --help tell what there is."
        )
    if isinstance(error, OSError) and error.strerror:
        names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        where = f"{names}: " if names else ""
        return f"{where}the system refuses ({error.strerror}); check the path and your rights to it."
    if isinstance(error, UnicodeError):
        return f"a text cannot be read or written ({error}); check the encoding of files and names."
    if isinstance(error, MemoryError):
        return "memory does not suffice; ask for less at once, such as smaller batches, models or items."
    if isinstance(error, RecursionError):
        return "something is nested too deeply to be read; check the files that were named."
    return None


def _leave(sentence: str) -> NoReturn:
    _complain(sentence)
    sys.exit(2)


def _leave_quietly() -> NoReturn:
    """Ends as others do whose reader has gone away, such as ``head``; Python's own last flush must not complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _complain(message: str) -> None:
    from stillroom.console import Terminal, line

    Terminal(stderr=True).print(line(("stillroom: ", "bold red"), message), soft_wrap=True, highlight=False)
