"""Jobs of Ray: each a named actor that runs a command, and is gone when the command has ended."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from stillroom.executors.executor import SchedulerJob, imported
from stillroom.files import disk_errors

_NAMESPACE = "stillroom"


class RayExecutor:
    """See ``Executor``; on the cluster that ``RAY_ADDRESS`` or ``ray start`` tell of, else on one of this process.

    Jobs outlive this process on a cluster alone.
    """

    def __init__(self) -> None:
        self._ray: Any = imported("ray", "ray")
        if not self._ray.is_initialized():
            self._ray.init(namespace=_NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)

    def start(self, jobs: Sequence[SchedulerJob]) -> list[str]:
        """See ``Executor``."""
        kind, names = self._ray.remote(_runner()), []
        for job in jobs:
            with disk_errors(job.log):
                job.log.parent.mkdir(parents=True, exist_ok=True)
            names.append(f"{job.name}-{uuid.uuid4().hex[:8]}")
            memory = {} if job.takes.memory_gb is None else {"memory": job.takes.memory_gb * 10**9}
            asked = {"num_cpus": job.takes.cpus, "num_gpus": job.takes.gpus, **memory}
            made = kind.options(name=names[-1], lifetime="detached", **asked)
            made.remote(job.command, str(job.log.absolute()), os.getcwd())
        return names

    def living(self, names: Collection[str]) -> set[str]:
        """See ``Executor``."""
        return set(self._ray.util.list_named_actors()) & set(names)

    def cancel(self, names: Collection[str]) -> None:
        """See ``Executor``."""
        for name in self.living(names):
            with contextlib.suppress(ValueError):  # it is gone meanwhile
                runner = self._ray.get_actor(name)
                _, waiting = self._ray.wait([runner.end.remote()], timeout=5)
                if waiting:  # it has no machine yet
                    self._ray.kill(runner)


def _runner() -> type:
    """The actor's class, made here so that it travels to machines whose Python does not know this package.

    All is done as the actor is made: what is asked of it later would be lost with the process that asks.
    """

    class Runner:
        def __init__(self, command: Sequence[str], log: str, folder: str) -> None:
            with open(log, "ab") as stream:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=folder
                )
            threading.Thread(target=self._wait, daemon=True).start()

        def _wait(self) -> None:
            self.process.wait()
            os._exit(0)

        def end(self) -> None:
            self.process.terminate()

    return Runner
