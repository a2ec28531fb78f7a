"""Who does the tasks of a build: this process, processes of this machine, or jobs of Slurm or Ray.

A helper is handed nothing but the folder of the build. It does what the plan there asks for, claims one task after
another, and ends when the folder is gone. So any number of helpers, anywhere, may come, be killed and come again.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Literal, NoReturn, Protocol

from pydantic import Field

from stillroom.cores import ONE_THREAD
from stillroom.corpora.ledger import UnfinishedError
from stillroom.corpora.plan_file import Build, open_build
from stillroom.executors import JobResources, SchedulerJob, executor_named, python_command
from stillroom.files import read_json_object, write_json
from stillroom.strict import Count, Positive, Strict
from stillroom.types import UserError

logger = logging.getLogger(__name__)

_PAUSE = 0.05  # seconds between looks for work
_MODULE, _MISTAKE = "stillroom.corpora.workers", "mistake.txt"
_ALONE = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


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
    """Where the ``jobs`` run: ``local`` processes, jobs of ``slurm`` (package submitit) or of ``ray``."""


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
    (folder / _MISTAKE).unlink(missing_ok=True)
    if workers.on != "local":
        return _Elsewhere(workers.on, workers.jobs, folder)
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
        path = os.pathsep.join(filter(None, sys.path))
        environment = os.environ | _ALONE | ONE_THREAD | {"PYTHONPATH": path}
        command = [sys.executable, "-m", _MODULE, str(folder), "--attended"]
        self._folder, self._jobs = folder, jobs
        self._living = [subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) for _ in range(jobs)]

    def check(self) -> bool:
        """See ``Crew``."""
        for process in [one for one in self._living if one.poll() is not None]:
            self._living.remove(process)
            process.communicate()
            _raise_mistake(self._folder)
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


class _Elsewhere:
    """Jobs of a scheduler, on machines that see the folder; those of an earlier call that still live are taken on."""

    def __init__(self, on: str, jobs: int, folder: Path) -> None:
        self._executor, self._folder, noted = executor_named(on, folder / on), folder, folder / f"{on}.json"
        before = read_json_object(noted)["names"] if noted.is_file() else []
        self._names = self._executor.living(before if isinstance(before, list) else [])
        takes, wanted = JobResources(), range(len(self._names), jobs)
        command = python_command(_MODULE, str(folder.absolute()), takes=takes, **_ALONE)
        if wanted:
            logs = {number: folder / "logs" / f"{number}.log" for number in wanted}
            self._names |= set(
                self._executor.start([SchedulerJob("corpus", command, log, takes) for log in logs.values()])
            )
        write_json(noted, {"names": sorted(self._names)})

    def check(self) -> bool:
        """See ``Crew``; jobs that ended before their time are done without."""
        _raise_mistake(self._folder)
        return bool(self._executor.living(self._names))

    def stop(self) -> None:
        """See ``Crew``."""
        self._executor.cancel(self._names)


def _raise_mistake(folder: Path) -> None:
    """Raises the mistake that a helper met, once."""
    with contextlib.suppress(FileNotFoundError):
        said = (folder / _MISTAKE).read_text()
        (folder / _MISTAKE).unlink()
        raise UserError(said)


def _say_mistake(folder: Path, mistake: str) -> None:
    """Leaves a mistake for whoever leads the build, unless that is over."""
    with contextlib.suppress(FileNotFoundError):
        aside = folder / f".{_MISTAKE}.{uuid.uuid4().hex[:8]}"
        aside.write_text(mistake)
        aside.replace(folder / _MISTAKE)


def _end_with_parent() -> NoReturn:
    while os.read(0, 1):  # by the number of the file: a stream has a lock that Python wants when it ends
        pass
    os._exit(1)


def main() -> None:
    """Helps a build, of which it is started as a process or a job."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", help="the unfinished corpus")
    parser.add_argument("--attended", action="store_true", help="end when standard input does")
    asked = parser.parse_args()
    if asked.attended:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if (mistake := help_build(asked.folder)) is not None:
        _say_mistake(Path(asked.folder), mistake)


if __name__ == "__main__":
    main()
