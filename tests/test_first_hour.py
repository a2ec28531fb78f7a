"""The page of the first hour does what it says: every command and program of it, in order, on a little text."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stillroom.cli.main import run

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", (DOCS / "first-hour.md").read_text(), re.MULTILINE | re.DOTALL)
TEXT = ("correctness.md", "evaluation.md", "guide.md", "teachers.md")


def test_every_command_of_the_page_works_in_its_order(tmp_path, monkeypatch, capsys):
    (tmp_path / "texts").mkdir()
    for name in TEXT:
        (tmp_path / "texts" / name).write_text((DOCS / name).read_text())
    monkeypatch.chdir(tmp_path)
    done = []
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "first-hour.md", "exec"), {"__name__": "page"})
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "stillroom", line
            with pytest.raises(SystemExit) as left:
                run(arguments)
            assert not left.value.code, (line, capsys.readouterr().err)
            done.append(arguments[0])
    assert {"init", "config", "corpus", "study", "inspect", "evaluate", "report", "export", "label"} <= set(done)
    made = (
        "runs/mine/report.html",
        "compared.html",
        "student/config.json",
        "runs/taught/report.html",
        "labels/manifest.json",
    )
    assert [name for name in made if not (tmp_path / name).is_file()] == []


def test_readme_leads_to_the_page():
    assert "docs/first-hour.md" in (DOCS.parent / "README.md").read_text()
