"""What a scheduler must be able to do, and the command of a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stillroom.executors.resources_config import JobResources
from stillroom.types import UserError

EXECUTORS = ("local", "slurm", "ray")
"""Where work can be done; ``local`` is this machine, without jobs."""


@dataclass(frozen=True)
class SchedulerJob:
    """A command to be run somewhere, once, from the folder in which this process is."""

    name: str
    command: tuple[str, ...]
    log: Path
    """Where all that it prints is added."""
    takes: JobResources


class Executor(Protocol):
    """Runs jobs, which outlive the process that started them. A job is named by a text, which any process may keep."""

    def start(self, jobs: Sequence[SchedulerJob]) -> list[str]:
        """Hands over jobs that take the same; returns their names in the scheduler. ``UserError`` where it refuses."""
        ...

    def living(self, names: Collection[str]) -> set[str]:
        """Those of the jobs that wait or run; all of them where the scheduler does not answer."""
        ...

    def cancel(self, names: Collection[str]) -> None:
        """Ends jobs, which may save what they have; those that are gone already do no harm."""
        ...


def executor_named(on: str, folder: Path) -> Executor:
    """The scheduler ``slurm`` or ``ray``, with a folder for what it writes itself.

    Raises ``UserError`` where there is none of this name, or it is not there.
    """
    if on == "slurm":
        from stillroom.executors.slurm import SlurmExecutor

        return SlurmExecutor(folder)
    if on == "ray":
        from stillroom.executors.ray_cluster import RayExecutor

        return RayExecutor()
    raise UserError(f"on: is {on!r}, expected one of {', '.join(EXECUTORS)}.")


def python_command(module: str, *arguments: str, takes: JobResources, **environment: str) -> tuple[str, ...]:
    """The command that runs a module of this Python, by ``torchrun`` where the job is several processes."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, takes.cpus // takes.ranks)))
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": threads, **environment}
    launched = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(takes.ranks), "-m")
    command = (sys.executable, "-m", *(launched if takes.ranks > 1 else ()), module, *arguments)
    return ("env", *(f"{name}={value}" for name, value in variables.items()), *command)


def imported(package: str, where: str) -> Any:
    """A package that only one scheduler needs; ``UserError`` where it is not installed."""
    try:
        return __import__(package)
    except ImportError as error:
        raise UserError(f"on: {where} needs one more package; pip install 'stillroom[{where}]'.") from error
