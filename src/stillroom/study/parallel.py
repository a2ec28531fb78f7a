"""Independent pieces of a study in several processes at once, each with its share of the cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from stillroom.study.progress import StageDisplay

Task = TypeVar("Task")
Made = TypeVar("Made")


def in_processes(
    work: Callable[[Task], tuple[str, Made]], tasks: Sequence[Task], jobs: int, display: StageDisplay, unit: str
) -> Iterator[Made]:
    """What ``work`` makes of every task, in the order in which they finish.

    Small models gain more from a process each than from a second thread. When this process is stopped the others are
    ended at once: tasks keep what is finished in folders, and go on from their checkpoints next time.

    Arguments:
        work: a function of a module; returns what the task is called, for a person to read, and what it made.
        tasks: each picklable.
        jobs: processes at once; the cores are divided among them.
        display: shows how many are done.
        unit: what a task is, in the plural.
    """
    jobs = min(jobs, len(tasks))
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    with (
        display.stage(f"{len(tasks)} {unit}, {jobs} at a time", unit) as update,
        # leaving the block ends the processes
        multiprocessing.get_context("spawn").Pool(jobs, _start, (threads,)) as pool,
    ):
        update(0, len(tasks))
        for done, (title, made) in enumerate(pool.imap_unordered(work, tasks), 1):
            update(done, len(tasks))
            if not display.console.is_terminal:
                display.console.print(f"  {done} of {len(tasks)}: {title}", highlight=False)
            yield made


def _start(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its processes
    torch.set_num_threads(threads)
