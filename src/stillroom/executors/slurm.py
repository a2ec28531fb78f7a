"""Jobs of Slurm, submitted by submitit. What lives is asked of ``squeue``: a cluster need not keep accounts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from stillroom.executors.executor import SchedulerJob, imported
from stillroom.files import disk_errors
from stillroom.types import UserError

logger = logging.getLogger(__name__)

_EVERY = 2.0
"""Seconds between questions to ``squeue``."""
_TIMEOUTS = 1000
"""How often a job that meets its limit of time is queued again."""


class SlurmExecutor:
    """See ``Executor``; ``folder`` takes what submitit writes and must be one that all machines see."""

    def __init__(self, folder: Path) -> None:
        self._submitit: Any = imported("submitit", "slurm")
        self._folder = folder
        self._looked, self._there = 0.0, set[str]()
        try:
            self._submitit.SlurmExecutor(folder=folder)
        except RuntimeError:
            raise UserError(
                "on: slurm needs its commands (srun, sbatch, squeue), which are not on this machine's PATH; "
                "run this where jobs are submitted from."
            ) from None

    def start(self, jobs: Sequence[SchedulerJob]) -> list[str]:
        """See ``Executor``; several jobs are one array."""
        for job in jobs:
            with disk_errors(job.log):
                job.log.parent.mkdir(parents=True, exist_ok=True)
        executor = self._asking(jobs[0])
        commands = [_Commanded(job.command, str(job.log.absolute()), os.getcwd()) for job in jobs]
        try:
            with executor.batch():
                started = [executor.submit(command) for command in commands]
        except Exception as error:
            words = " ".join(str(error).split("sbatch: error:")[-1].split())[-300:]
            raise UserError(f"on: slurm refuses {jobs[0].name} ({words}); change resources of the study.") from error
        self._looked = 0.0
        return [str(job.job_id) for job in started]

    def _asking(self, job: SchedulerJob) -> Any:
        """What submits jobs that take as much as this one."""
        takes = job.takes
        asked = {"mem": f"{takes.memory_gb}GB", "gpus_per_node": takes.gpus}
        executor = self._submitit.SlurmExecutor(folder=self._folder, max_num_timeout=_TIMEOUTS)
        executor.update_parameters(
            job_name=f"stillroom-{job.name}",
            time=takes.minutes,
            nodes=1,
            ntasks_per_node=1,
            cpus_per_task=takes.cpus,
            additional_parameters={"requeue": True, **takes.options},
            **{name: value for name, value in asked.items() if value and value != "NoneGB"},
        )
        return executor

    def living(self, names: Collection[str]) -> set[str]:
        """See ``Executor``."""
        if names and time.monotonic() - self._looked > _EVERY:
            asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
            said = subprocess.run(asked, capture_output=True, text=True)
            if said.returncode:
                logger.warning("slurm does not answer (%s); asked again", said.stderr.strip())
                return set(names)
            self._looked, self._there = time.monotonic(), set(said.stdout.split())
        return self._there & set(names)

    def cancel(self, names: Collection[str]) -> None:
        """See ``Executor``."""
        if names:
            subprocess.run(["scancel", *names], capture_output=True)
        self._looked = 0.0


class _Commanded:
    """A command as submitit keeps and runs it; where the time is over it is ended and the job queued again."""

    def __init__(self, command: tuple[str, ...], log: str, folder: str) -> None:
        self._asked = (command, log, folder)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Runs the command and returns its exit code."""
        command, log, folder = self._asked
        with open(log, "ab") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=folder, preexec_fn=_deaf
            )
        while (code := self._process.poll()) is None:
            time.sleep(0.1)
        return code

    def checkpoint(self) -> Any:
        """What submitit calls before the time is over."""
        if self._process is not None:
            self._process.terminate()  # a training saves after its step
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        return imported("submitit", "slurm").helpers.DelayedSubmission(_Commanded(*self._asked))


def _deaf() -> None:
    """Slurm's warnings reach every process of a job, and are for submitit alone."""
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT):
        signal.signal(number, signal.SIG_IGN)
