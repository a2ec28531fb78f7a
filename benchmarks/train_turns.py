"""Runs of stillroom in processes of their own that take turns, ten steps at a time.

Processes are started once, and those that wait do not compute, so that a noisy machine disturbs all alike.
``train.py --measure ranks`` and ``--measure checkpoints`` use it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from subprocess import PIPE
from typing import Any

import torch.distributed as dist

from train_competitors import Task, ours

STEPS = 10
"""Of one turn."""


@dataclass(frozen=True)
class Competitor:
    """Processes that train together, or beside one another."""

    processes: list[subprocess.Popen[str]]

    def turn(self) -> list[float]:
        """Seconds of the steps of one turn, of the slowest process each."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [max(seconds) for seconds in zip(*map(_line, self.processes), strict=True)]

    def end(self) -> None:
        """Ends the processes, which wait for a next turn."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            process.wait(timeout=30)


def _line(process: subprocess.Popen[str]) -> list[float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended with {process.wait()}")
    return json.loads(line)


def turns(competitors: dict[str, Competitor], repeats: int) -> dict[str, list[list[float]]]:
    """Step seconds of every competitor in every turn but the first, in which they warm up."""
    times: dict[str, list[list[float]]] = {name: [] for name in competitors}
    try:
        for number in range(repeats + 1):
            for name, competitor in competitors.items():
                seconds = competitor.turn()
                if number:
                    times[name].append(seconds)
    finally:
        for competitor in competitors.values():
            competitor.end()
    return times


def start(task: Task, *, threads: int, num: int = 1, as_ranks: bool = False, **changes: Any) -> Competitor:
    """``num`` processes: ranks of one run, or each a run of its own. ``changes`` are fields of the training."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, json.dumps(asdict(task)), json.dumps(changes)]
    processes = []
    for rank in range(num):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if as_ranks:
            place = {"RANK": rank, "WORLD_SIZE": num, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment |= {name: str(value) for name, value in place.items()}
        processes.append(subprocess.Popen(command, env=environment, text=True, stdin=PIPE, stdout=PIPE))
    return Competitor(processes)


def _take_turns(task: Task, changes: dict[str, Any]) -> None:
    """Trains in this process, which prints the seconds of its steps after each turn and waits for a line before it."""
    seconds: list[float] = []

    def pause(last: float) -> None:
        seconds.append(last)
        if len(seconds) == STEPS:
            print(json.dumps(seconds), flush=True)
            seconds.clear()
            if not sys.stdin.readline():
                raise SystemExit
            if dist.is_initialized():
                dist.barrier()

    sys.stdin.readline()
    ours(task, steps=1_000_000, pause=pause, **changes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=json.loads, help="fields of Task, as JSON")
    parser.add_argument("changes", type=json.loads, help="changes of its training, as JSON")
    asked = parser.parse_args()
    _take_turns(Task(**asked.task), asked.changes)
