"""The page of the first hour does what it says: every command and program of it, in order, on a little text."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from stillroom.cli.main import run

DOCS = Path(__file__).parents[1] / "docs"
PARTS = re.split(r"^## ", (DOCS / "first-hour.md").read_text(), flags=re.MULTILINE)[1:]
SECTIONS = [re.findall(r"^```(sh|python)\n(.*?)^```", part, re.MULTILINE | re.DOTALL) for part in PARTS]
TEXT = ("evaluation.md", "guide.md", "teachers.md")
WALKED = [number for number, blocks in enumerate(SECTIONS) if blocks]
MADE = {
    2: ("runs/mine/report.html", "corpus/corpus.json"),
    3: ("compared.html",),
    4: ("student/config.json",),
    5: ("runs/taught/report.html", "labels/manifest.json"),
}
"""What stands there after a section, by its place."""


class Walk:
    """The page walked as far as is asked for, each section once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.next = folder, 0

    def up_to(self, section: int) -> None:
        """Every section before this one that was not walked yet."""
        while self.next < section:
            self.section(self.next)

    def section(self, section: int) -> None:
        """Runs the commands and programs of a section."""
        self.next = section + 1
        with contextlib.chdir(self.folder):
            for kind, text in SECTIONS[section]:
                if kind == "python":
                    exec(compile(text, "first-hour.md", "exec"), {"__name__": "page"})
                else:
                    for line in text.splitlines():
                        _command(line)


def _command(line: str) -> None:
    program, *arguments = shlex.split(line)
    assert program == "stillroom", line
    with pytest.raises(SystemExit) as left:
        run(arguments)
    assert not left.value.code, line


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> Walk:
    folder = tmp_path_factory.mktemp("hour")
    (folder / "texts").mkdir()
    for name in TEXT:
        (folder / "texts" / name).write_text((DOCS / name).read_text())
    return Walk(folder)


@pytest.fixture
def walked_before(walk, section) -> Walk:
    walk.up_to(section)
    return walk


@pytest.mark.parametrize("section", WALKED)
def test_every_command_of_a_section_works_after_those_before_it(walked_before, section):
    walked_before.section(section)
    assert [name for name in MADE.get(section, ()) if not (walked_before.folder / name).is_file()] == []


def test_the_page_walks_through_every_verb_that_it_is_about():
    shown = {
        line.split()[1] for blocks in SECTIONS for kind, text in blocks if kind == "sh" for line in text.splitlines()
    }
    assert {"init", "config", "corpus", "study", "inspect", "evaluate", "report", "export", "label"} <= shown


def test_readme_leads_to_the_page():
    assert "docs/first-hour.md" in (DOCS.parent / "README.md").read_text()
