"""Every script answers ``--help``, so that no option is ever taken for a path that is then written."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def begins(part: ast.stmt) -> bool:
    """Whether a statement is what a file does when it is run."""
    return isinstance(part, ast.If) and ast.unparse(part.test) == "__name__ == '__main__'"


SCRIPTS = [
    file
    for folder in ("src", "experiments", "benchmarks", "docs", "examples", "tests/models")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if "__main__" in (text := file.read_text()) and any(map(begins, ast.parse(text).body))
    if not file.stem.startswith("_")  # those answer this package alone, by their standard input
]


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(file.relative_to(ROOT)) for file in SCRIPTS])
def test_a_script_reads_its_arguments_before_it_does_anything(script):
    text = script.read_text()
    assert "parse_args()" in text, f"{script} takes what it is given without reading it"
    assert "sys.argv[" not in text


@pytest.mark.parametrize("folder", ["experiments", "benchmarks", "docs", "examples"])
def test_what_scripts_take_from_the_package_is_there(folder):
    asked = {
        (part.module, name.name)
        for file in sorted((ROOT / folder).rglob("*.py"))
        for part in ast.walk(ast.parse(file.read_text()))
        if isinstance(part, ast.ImportFrom) and (part.module or "").startswith("stillroom")
        for name in part.names
    }
    homes = {home: importlib.import_module(home) for home, _ in asked}
    missing = [
        f"{home}.{name}"
        for home, name in sorted(asked)
        if not hasattr(homes[home], name) and importlib.util.find_spec(f"{home}.{name}") is None
    ]
    assert missing == []


def test_help_of_the_teacher_in_a_package_is_help_and_no_folder(tmp_path):
    command = [sys.executable, "-m", "stillroom.teachers.smollm2", "--help"]
    shown = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and shown.stdout.startswith("usage: python -m stillroom.teachers.smollm2 [-h] FOLDER")
    assert not list(tmp_path.iterdir())
