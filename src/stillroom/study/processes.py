"""Independent pieces of a study in several processes at once, each with its share of the cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TypeVar

import torch

from stillroom.console import line
from stillroom.cores import num_cores
from stillroom.study.interrupts import Stopper
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError

Task = TypeVar("Task")
Made = TypeVar("Made")


@dataclass(frozen=True)
class _Failed:
    error: Exception


Result = tuple[str, Made | _Failed]


def in_processes(
    work: Callable[[Task], tuple[str, Made]], tasks: Sequence[Task], jobs: int, display: StageDisplay, unit: str
) -> list[Made]:
    """What ``work`` makes of every task, in the order in which they finish.

    Small models gain more from a process each than from a second thread. A task that fails does not keep the others
    from their end. When this process is stopped or killed, the others end at once: tasks keep what is finished in
    folders, and go on from their checkpoints next time.

    Arguments:
        work: a function of a module; returns what the task is called, for a person to read, and what it made.
        tasks: each picklable.
        jobs: processes at once; the cores are divided among them.
        display: shows how many are done.
        unit: what a task is, in the plural.

    Raises ``UserError`` for the first task that failed, or where a process was killed from outside.
    """
    jobs = max(1, min(jobs, len(tasks)))
    made: list[Made] = []
    failed: list[Exception] = []
    with display.stage(f"{len(tasks)} {unit}, {jobs} at a time", unit) as update, _processes(jobs) as pool:
        update(0, len(tasks))
        futures = [pool.submit(_guarded, work, task) for task in tasks]
        for done, (title, result) in enumerate(_results(futures, unit), 1):
            update(done, len(tasks))
            if isinstance(result, _Failed):
                failed.append(result.error)
                title = f"failed: {result.error}"
            else:
                made.append(result)
            if not display.console.is_terminal:
                display.console.print(line(f"  {done} of {len(tasks)}: {title}"))
    if failed:
        raise failed[0]
    return made


@contextlib.contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are ended when the block is left by an exception or a signal."""
    threads = max(1, num_cores() // jobs)
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start, initargs=(threads,))
    with Stopper():
        try:
            yield pool
            pool.shutdown()
        except BaseException:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _results(futures: Sequence[Future[Result[Made]]], unit: str) -> Iterator[Result[Made]]:
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise UserError(
            f"jobs: a process was killed, most likely for want of memory, while others of the {len(futures)} {unit} "
            "were under way; run the same command again with a smaller --jobs, what is finished is kept."
        ) from None


def _guarded(work: Callable[[Task], tuple[str, Made]], task: Task) -> Result[Made]:
    """What a task made, or what went wrong as a value that can travel: not every exception can be pickled."""
    try:
        return work(task)
    except UserError as error:
        return "", _Failed(UserError(str(error)))
    except Exception:
        return "", _Failed(RuntimeError(traceback.format_exc()))


def _start(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its processes
    torch.set_num_threads(threads)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Ends this process when its parent has ended, however it did."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
