"""Who does the tasks of a build: this process, processes of this machine, jobs of Slurm, or tasks of Ray.

A helper is handed nothing but the folder of the build. It does what the plan there asks for, claims one task after
another, and ends when the folder is gone. So any number of helpers, anywhere, may come, be killed and come again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

from pydantic import Field

from stillroom.corpora.ledger import UnfinishedError
from stillroom.corpora.plan_file import Build, open_build
from stillroom.strict import Count, Positive, Strict
from stillroom.types import UserError

logger = logging.getLogger(__name__)

_PAUSE = 0.05  # seconds between looks for work


class Workers(Strict):
    """Who does the tasks of a build. The corpus is the same whoever does them."""

    jobs: Positive = 1
    """Processes that encode, in addition to the one that asks; 1 means that this process does everything itself."""
    rank: Count = 0
    """Which of ``world`` processes this is, all of which are started with the same arguments but for this one: by a
    shell loop or an array of jobs. Each does its own tasks first and then those that are left."""
    world: Positive = 1
    """How many such processes there are."""
    on: Literal["local", "slurm", "ray"] = Field(default="local")
    """Where the ``jobs`` run: ``local`` processes, jobs of ``slurm`` (package submitit) or tasks of ``ray``."""


class Crew(Protocol):
    """Helpers that were started."""

    def check(self) -> bool:
        """Whether there are helpers at all; a ``UserError`` where one of them met a mistake or all are lost."""
        ...

    def stop(self) -> None:
        """Ends them."""
        ...


def start_crew(workers: Workers, folder: Path) -> Crew:
    """Starts the helpers of a build; none where one process does it all."""
    if workers.rank >= workers.world:
        raise UserError(f"rank: is {workers.rank}, expected 0 to {workers.world - 1}, one less than world.")
    if workers.on == "slurm":
        return _Submitted(workers.jobs, folder)
    if workers.on == "ray":
        return _OnRay(workers.jobs, folder)
    return _Local(workers.jobs if workers.jobs > 1 else 0, folder)


def help_build(folder: str, rank: int = 0, world: int = 1) -> str | None:
    """Does tasks of the build in ``folder`` until it is gone; returns the sentence of a mistake that it met."""
    build, done = None, set[str]()
    try:
        while Path(folder).is_dir():
            build = build or open_build(Path(folder))
            if build is None or not do_one(build, done, rank, world):
                time.sleep(_PAUSE)
    except (UserError, FileNotFoundError) as error:
        if Path(folder).is_dir():
            if isinstance(error, UserError):
                return str(error)
            raise
    return None


def do_one(build: Build, done: set[str], rank: int = 0, world: int = 1) -> bool:
    """Does a task that is wanted and that nobody does; whether there was one. ``done`` remembers finished ones."""
    ledger = build.ledger
    for _, task in sorted(build.wanted(), key=lambda one: (one[1].number % world != rank, one[0])):
        name = ledger.place(task).name
        if name in done:
            continue
        if ledger.is_done(task):
            done.add(name)
        elif ledger.run(task):
            done.add(name)
            return True
    return False


class _Local:
    """Processes of this machine; each ends when this one does, however it ended."""

    def __init__(self, jobs: int, folder: Path) -> None:
        alone = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment = os.environ | alone | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "stillroom.corpora.workers", str(folder)]
        self._living = [
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(jobs)
        ]
        self._jobs = jobs

    def check(self) -> bool:
        """See ``Crew``."""
        for process in [one for one in self._living if one.poll() is not None]:
            self._living.remove(process)
            said, _ = process.communicate()
            if process.returncode == 0 and said:
                raise UserError(json.loads(said))
            if process.returncode > 0:
                raise RuntimeError(f"a process that encodes ended with code {process.returncode}; see above")
            logger.warning("a process that encodes was lost; its task is done again by another one")
        if self._jobs and not self._living:
            raise UnfinishedError(
                f"jobs: all {self._jobs} processes were killed, most likely for want of memory; run the same command "
                "again with fewer jobs, what is done is kept."
            )
        return bool(self._living)

    def stop(self) -> None:
        """See ``Crew``."""
        for process in self._living:
            process.kill()
        for process in self._living:
            process.communicate()
        self._living = []


class _Submitted:
    """Jobs of Slurm, through submitit; how they are asked for is said by its environment variables."""

    def __init__(self, jobs: int, folder: Path) -> None:
        submitit: Any = _imported("submitit", "slurm")
        executor = submitit.AutoExecutor(folder=folder / "slurm")
        executor.update_parameters(cpus_per_task=1)
        self._jobs = [executor.submit(help_build, str(folder)) for _ in range(jobs)]

    def check(self) -> bool:
        """See ``Crew``."""
        for said in [job.result() for job in self._jobs if job.done()]:
            if said is not None:
                raise UserError(said)
        return not all(job.done() for job in self._jobs)

    def stop(self) -> None:
        """See ``Crew``."""
        for job in self._jobs:
            job.cancel()


class _OnRay:
    """Tasks of Ray, on whatever machines it has; the folder must be one that all of them see."""

    def __init__(self, jobs: int, folder: Path) -> None:
        self._ray: Any = _imported("ray", "ray")
        task = self._ray.remote(num_cpus=1)(help_build)
        self._tasks = [task.remote(str(folder)) for _ in range(jobs)]

    def check(self) -> bool:
        """See ``Crew``."""
        done, running = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        for said in map(self._ray.get, done):
            if said is not None:
                raise UserError(said)
        return bool(running)

    def stop(self) -> None:
        """See ``Crew``."""
        for task in self._tasks:
            self._ray.cancel(task)


def _imported(package: str, where: str) -> Any:
    try:
        return __import__(package)
    except ImportError as error:
        raise UserError(f"on: {where} needs one more package; pip install {package}.") from error


def _end_with_parent() -> NoReturn:
    while os.read(0, 1):  # by the number of the file: a stream has a lock that Python wants when it ends
        pass
    os._exit(1)


def main() -> None:
    """Helps a build, of which it is started as a process; what it says is JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", help="the unfinished corpus")
    folder = parser.parse_args().folder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if (mistake := help_build(folder)) is not None:
        sys.stdout.write(json.dumps(mistake))


if __name__ == "__main__":
    main()
