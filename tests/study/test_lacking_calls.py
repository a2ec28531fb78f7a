"""The main jobs on file systems that lack hard links, locks, renaming of folders and more, two processes at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from forked import finish, start
from stillroom.config import to_yaml
from stillroom.study.needs import NEEDED
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.verifying import verify

TESTS = Path(__file__).parents[1]
ALL = "link,flock,fsync,chmod,symlink,rename of folders,rename over"


def at_once(folder: Path, num: int, *command: str, calls: str = ALL) -> list[tuple[int | None, str]]:
    """The same command so many times at once; exit codes and words."""
    files = [folder / f"errors-{number}.txt" for number in range(num)]
    started = [start(list(command), file, lacks=calls, code=errno.EOPNOTSUPP) for file in files]
    ended = [finish(process, file) for process, file in zip(started, files, strict=True)]
    assert not any("Traceback" in words for _, words in ended), ended
    return ended


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
    ended = at_once(tmp_path, 2, *command, calls=calls)
    assert [code for code, _ in ended] == [0, 0], ended
    assert not any(one.faults for one in verify(tmp_path / "run"))
    assert [one.name for one in tmp_path.rglob(".*")] == [NEEDED]  # nothing half made is left
    report = (tmp_path / "run" / "report.html").read_bytes()
    assert [code for code, _ in at_once(tmp_path, 1, "report", str(tmp_path / "run"), calls=calls)] == [0]
    assert (tmp_path / "run" / "report.html").read_bytes() == report


def test_two_processes_that_label_at_once_make_one_store_where_calls_are_lacking(tmp_path):
    command = ["label", "world:bigram", "--tokens", "8192", "--length", "64", "--out", str(tmp_path / "labels")]
    ended = at_once(tmp_path, 2, *command)
    assert [code for code, _ in ended] == [0, 0], ended
    (found,) = verify(tmp_path / "labels")
    assert found.what == "label store" and not found.faults
    assert not [name for name in os.listdir(tmp_path / "labels") if name.startswith(".")]
