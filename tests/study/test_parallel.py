"""Several processes: what they make, and what happens when one fails or is killed, or when the parent is stopped."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from stillroom.study.processes import in_processes
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError


class Odd(Exception):
    """An exception that does not survive pickling."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


def work(task: tuple[str, str]) -> tuple[str, tuple[int, int]]:
    kind, folder = task
    if kind == "mistake":
        raise UserError("data: is wrong.")
    if kind == "odd":
        raise Odd(1, 2)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "slow":
        Path(folder, f"{os.getpid()}").touch()
        time.sleep(60)
    Path(folder, kind).touch()
    return kind, (os.getpid(), torch.get_num_threads())


def run(folder: Path, *kinds: str, jobs: int = 2) -> list[tuple[int, int]]:
    display = StageDisplay(Console(file=io.StringIO()))
    return in_processes(work, [(kind, str(folder)) for kind in kinds], jobs, display, "tasks")


def test_tasks_share_processes_and_cores(tmp_path: Path) -> None:
    made = run(tmp_path, "a", "b", "c", jobs=2)
    assert len(made) == 3 and 1 <= len({process for process, _ in made}) <= 2
    assert os.getpid() not in {process for process, _ in made}
    assert {threads for _, threads in made} == {max(1, len(os.sched_getaffinity(0)) // 2)}
    assert run(tmp_path) == []


def test_a_mistake_is_raised_when_the_others_are_done(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data: is wrong"):
        run(tmp_path, "mistake", "a", "b", jobs=1)
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()
    with pytest.raises(RuntimeError, match="Odd"):
        run(tmp_path, "odd")


def test_a_killed_process_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a process was killed"):
        run(tmp_path, "killed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_parent(tmp_path: Path, number: int) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nimport test_parallel\n"
        f"if __name__ == '__main__': test_parallel.run(Path({str(tmp_path)!r}), 'slow', 'slow')\n"
    )
    (tmp_path / "main.py").write_text(script)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(processes := [int(file.name) for file in tmp_path.iterdir() if file.name.isdigit()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.send_signal(number)
    assert parent.wait(20) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    while any(Path(f"/proc/{process}/cmdline").exists() for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.1)
