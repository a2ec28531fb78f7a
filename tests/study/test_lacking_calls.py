"""The main jobs on file systems that lack hard links, locks, renaming of folders and more, two processes at once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom.config import to_yaml
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.verifying import verify

TESTS = Path(__file__).parents[1]
ALL = "link,flock,fsync,chmod,symlink,rename of folders,rename over"


def start(*command: str, calls: str = ALL, code: int = errno.EOPNOTSUPP) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TESTS / "lacking.py"), calls, str(code), *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, errors = process.communicate(timeout=280)
    assert "Traceback" not in errors + out, errors
    return process.returncode, errors


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """The study of seconds, as a file of its own."""
    path = tmp_path_factory.mktemp("recipe") / "micro.yaml"
    path.write_text(to_yaml(resolve_recipe(str(TESTS / "micro.py")), "study"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("calls", [ALL, "no fcntl,link,utime"])
def test_two_studies_at_once_end_alike_where_calls_are_lacking(recipe, tmp_path, calls):
    command = ["study", str(recipe), "--out", str(tmp_path / "run"), "--artifacts", str(tmp_path / "artifacts")]
    codes = [1]
    while codes != [0, 0]:
        ended = [finish(process) for process in [start(*command, calls=calls), start(*command, calls=calls)]]
        codes = [code for code, _ in ended]
        assert all(code == 0 or (code == 2 and "another process is making" in errors) for code, errors in ended), ended
        assert 0 in codes
    assert not any(one.faults for one in verify(tmp_path / "run"))
    assert not list(tmp_path.rglob(".*"))
    report = (tmp_path / "run" / "report.html").read_bytes()
    assert finish(start("report", str(tmp_path / "run"), calls=calls))[0] == 0
    assert (tmp_path / "run" / "report.html").read_bytes() == report


def test_two_processes_that_label_at_once_make_one_store_where_calls_are_lacking(tmp_path):
    command = ["label", "world:bigram", "--tokens", "8192", "--length", "64", "--out", str(tmp_path / "labels")]
    ended = [finish(process) for process in [start(*command), start(*command)]]
    assert [code for code, _ in ended] == [0, 0], ended
    (found,) = verify(tmp_path / "labels")
    assert found.what == "label store" and not found.faults
    assert not [name for name in os.listdir(tmp_path / "labels") if name.startswith(".")]
