"""Commands in processes of their own that begin with everything imported: one server imports, and forks for each.

To import what a study needs takes seconds of processor time; a test that kills a command again and again must not pay
them each time. How ``python -m stillroom`` itself begins and ends is tested with the command line.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["stillroom.study.pipeline", "transformers.models.llama.modeling_llama"])
"""There is one server in a process: whoever sets what it imports sets the same."""


def start(arguments: list[str], errors: Path, *, lacks: str = "", code: int = 0) -> BaseProcess:
    """The command ``stillroom ARGUMENTS`` under way; what it says is in the file ``errors``.

    ``lacks`` names calls of the system that fail with the error number ``code``, as in ``lacking.py``.
    """
    process = SERVER.Process(target=_command, args=(arguments, errors, lacks, code))
    process.start()
    return process


def finish(process: BaseProcess, errors: Path) -> tuple[int | None, str]:
    """Waits for a command; its exit code and what it said."""
    process.join(280)
    return process.exitcode, errors.read_text()


def _command(arguments: list[str], errors: Path, lacks: str, code: int) -> None:
    from lacking import lacking
    from stillroom.cli.main import run

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    with ExitStack() as everything:
        for one in filter(None, lacks.split(",")):
            everything.enter_context(lacking(one, code))
        run(arguments)
