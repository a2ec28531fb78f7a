"""The page on students of any architecture does what it says, and its table is that of the tests."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stillroom.cli.main import run
from student_table import KINDS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "students.md").read_text()
BLOCKS = re.findall(r"^```(sh|json)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| ([\w-]+) \| [^|]+ \| (\w+) \| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)


def test_every_command_of_the_page_works_in_its_order(tmp_path, monkeypatch, capsys):
    (tmp_path / "texts").mkdir()
    for name in ("correctness.md", "evaluation.md", "guide.md"):
        (tmp_path / "texts" / name).write_text((DOCS / name).read_text())
    monkeypatch.chdir(tmp_path)
    for kind, text in BLOCKS:
        if kind == "json":
            Path("qwen3.json").write_text(text)
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "stillroom", line
            with pytest.raises(SystemExit) as left:
                run(arguments)
            assert not left.value.code, (line, capsys.readouterr().err)
    told = capsys.readouterr().out
    assert all(name in told for name in ("student.config", "student.overrides", "student.like_teacher.depth"))


def test_the_table_of_the_page_is_that_of_the_tests():
    said = [(kind.name, kind.no_heads, kind.no_tensor, kind.no_width) for kind in KINDS.values()]
    assert [(name, *("yes" if one is None else "refused" for one in no)) for name, *no in said] == ROWS
