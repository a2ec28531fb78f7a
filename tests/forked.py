"""Commands in processes of their own that begin with everything imported: one server imports, and forks for each.

To import what a study needs takes seconds of processor time; a test that kills a command again and again must not pay
them each time. How ``python -m stillroom`` itself begins and ends is tested with the command line.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["stillroom.cli.main", "stillroom.cli.study_command", "stillroom.study.pipeline"])


def start(arguments: list[str], errors: Path) -> BaseProcess:
    """The command ``stillroom ARGUMENTS`` under way; what it says is in the file ``errors``."""
    process = SERVER.Process(target=_command, args=(arguments, errors))
    process.start()
    return process


def _command(arguments: list[str], errors: Path) -> None:
    from stillroom.cli.main import run

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    run(arguments)
