"""Files and folders come into being on file systems that lack links, locks, renaming, permissions and flushing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lacking import CALLS, CODES, lacking
from stillroom import disk
from stillroom.files import folder_aside, write_bytes, write_first
from stillroom.types import UserError

WITHOUT_LOCKS = (("flock", errno.EOPNOTSUPP), ("link", errno.EPERM))


def everything(stack: ExitStack, code: int) -> None:
    for call in CALLS:
        stack.enter_context(lacking(call, code))


def make_all(folder: Path) -> None:
    """Everything that is made here, twice, so that names are taken."""
    for number in (1, 2):
        write_bytes(folder / "file", b"%d" % number)
        write_first(folder / "first", b"%d" % number)
        with folder_aside(folder / "folder") as scratch:
            (scratch / "deep").mkdir()
            (scratch / "deep" / "x").write_text(str(number))
            (scratch / "y").write_text(str(number))
        with disk.held(folder / "claim"):
            pass


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


WHOLE = {"file": "2", "first": "1", "folder/deep/x": "1", "folder/y": "1"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", CODES, ids=lambda code: errno.errorcode[code])
def test_every_call_may_fail_in_every_way(tmp_path, call, code):
    with lacking(call, code):
        make_all(tmp_path)
        assert contents(tmp_path) == WHOLE and disk.is_finished(tmp_path / "folder")


@pytest.mark.parametrize("code", CODES, ids=lambda code: errno.errorcode[code])
def test_all_calls_may_fail_together(tmp_path, code):
    with ExitStack() as stack:
        everything(stack, code)
        make_all(tmp_path)
        assert contents(tmp_path) == WHOLE


@pytest.mark.parametrize("call", ["link", "rename of folders", "rename over", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_what_no_other_way_mends_is_told(tmp_path, call, code):
    with lacking(call, code), pytest.raises(UserError, match=r"no space|cannot be written"):
        make_all(tmp_path)


def test_a_folder_whose_publishing_was_killed_is_not_finished_and_is_gone_on_with(tmp_path):
    def make(scratch: Path) -> None:
        for name in "abc":
            (scratch / name).write_text(name)

    real, moved = os.replace, []

    def killed(source: Any, target: Any) -> None:
        moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        real(source, target)

    with lacking("rename of folders", errno.EPERM):
        with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with folder_aside(tmp_path / "x") as scratch:
                make(scratch)
        assert (tmp_path / "x" / "a").exists() and not disk.is_finished(tmp_path / "x")
        with folder_aside(tmp_path / "x") as scratch:
            make(scratch)
    assert disk.is_finished(tmp_path / "x") and sorted(os.listdir(tmp_path / "x")) == ["a", "b", "c"]
    assert os.listdir(tmp_path) == ["x"]


# -- claims


def _hold_and_count(folder: str, without: tuple[tuple[str, int], ...], times: int) -> None:
    """Raises a number that only one process at a time may raise."""
    with ExitStack() as stack:
        for call, code in without:
            stack.enter_context(lacking(call, code))
        counter = Path(folder) / "counter"
        for _ in range(times):
            with disk.held(Path(folder) / "claim", patience=60.0):
                inside = Path(folder) / "inside"
                inside.mkdir()  # fails where another process is inside
                counter.write_text(str(int(counter.read_text()) + 1))
                inside.rmdir()


def _write_all_first(folder: str, without: tuple[tuple[str, int], ...], mine: str) -> None:
    with ExitStack() as stack:
        for call, code in without:
            stack.enter_context(lacking(call, code))
        for number in range(40):
            path = Path(folder) / f"{number}"
            write_first(path, mine.encode() * 5000)
            assert len(set(path.read_text())) == 1 and path.stat().st_size == 5000


def in_processes(work: Any, arguments: list[tuple[Any, ...]]) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    children = [context.Process(target=work, args=one) for one in arguments]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * len(children)


@pytest.mark.parametrize("without", [(), WITHOUT_LOCKS, (("no fcntl", 1), ("utime", errno.EPERM))])
def test_a_claim_is_held_by_one_at_a_time(tmp_path, without):
    (tmp_path / "counter").write_text("0")
    in_processes(_hold_and_count, [(str(tmp_path), without, 12)] * 3)
    assert (tmp_path / "counter").read_text() == "36" and os.listdir(tmp_path) == ["counter"]


@pytest.mark.parametrize("without", [(), WITHOUT_LOCKS, (*WITHOUT_LOCKS, ("rename over", errno.EEXIST))])
def test_of_several_first_writers_one_wins_and_all_read_its_whole_file(tmp_path, without):
    in_processes(_write_all_first, [(str(tmp_path), without, mine) for mine in "abc"])
    assert sorted(map(int, os.listdir(tmp_path))) == list(range(40))


@pytest.mark.parametrize("without", [(), WITHOUT_LOCKS])
def test_threads_are_kept_apart_too(tmp_path, without):
    with ExitStack() as stack:
        for call, code in without:
            stack.enter_context(lacking(call, code))
        with disk.held(tmp_path / "claim"):
            busy = []

            def other() -> None:
                try:
                    with disk.held(tmp_path / "claim"):
                        pass
                except disk.Busy:
                    busy.append(1)

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert busy == [1]


HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from lacking import lacking
from stillroom import disk
with lacking({call!r}, {code}), disk.held(Path({path!r})):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("call", ["flock", "link"])
def test_a_claim_of_a_living_process_is_respected_and_that_of_a_killed_one_is_not(tmp_path, call):
    path = tmp_path / "claim"
    script = HOLDER.format(tests=str(Path(__file__).parent), call=call, code=errno.EOPNOTSUPP, path=str(path))
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with lacking(call, errno.EOPNOTSUPP):
            with pytest.raises(disk.Busy), disk.held(path):
                raise AssertionError("held twice")
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with disk.held(path):
                pass
    finally:
        holder.kill()
        holder.communicate()
    assert os.listdir(tmp_path) == []


def test_a_claim_of_another_machine_counts_while_it_is_renewed(tmp_path, monkeypatch):
    path = tmp_path / "claim"
    other = tmp_path / f"claim.{'0' * 12}.7.1234.{'f' * 12}"
    with lacking("flock", errno.ENOLCK):
        other.touch()
        with pytest.raises(disk.Busy), disk.held(path):
            pass
        assert other.exists()
        old = time.time() - disk.STALE_SECONDS - 5
        os.utime(other, (old, old))
        with disk.held(path):
            assert not other.exists()


@pytest.mark.parametrize("call", ["flock", "utime"])
def test_a_claim_is_renewed_while_it_is_held(tmp_path, monkeypatch, call):
    monkeypatch.setattr(disk, "BEAT_SECONDS", 0.02)
    with lacking("flock", errno.ENOSYS), lacking(call, errno.EPERM), disk.held(tmp_path / "claim"):
        (claim,) = tmp_path.iterdir()
        begun = claim.stat().st_mtime_ns
        deadline = time.monotonic() + 5
        while claim.stat().st_mtime_ns == begun and time.monotonic() < deadline:
            time.sleep(0.01)
        assert claim.stat().st_mtime_ns > begun


def test_a_lock_whose_file_its_holder_removed_is_not_taken_for_held(tmp_path):
    """The one who waited for a lock must not go on with the removed file while another one locks a new file."""
    path = tmp_path / "claim"
    real = disk._is_still
    answers = iter([False])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "_is_still", lambda *asked: next(answers, real(*asked)))
        with disk.held(path):
            assert path.exists()
    assert not path.exists()


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: cannot be written"):
        write_bytes(tmp_path / "pipe", b"x")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1
