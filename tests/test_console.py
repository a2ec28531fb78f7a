"""What is printed is what it is: no markup, no escape codes, no second line, on any terminal."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

import stillroom
from stillroom.console import Terminal, line
from stillroom.study.progress import StageDisplay

SOURCE = Path(stillroom.__file__).parent
HOSTILE = {
    "[/run]": "[/run]",
    "runs [v2]/[exp]": "runs [v2]/[exp]",
    "[red]x[/red]": "[red]x[/red]",
    ":smile:": ":smile:",
    "\x1b[31mred\x1b[0m": "\\x1b[31mred\\x1b[0m",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "a\u202eb": "a\\u202eb",
    "caf\udcff": "caf\\udcff",
    "a\rb": "a\\rb",
    "\x9b2J": "\\x9b2J",
    "ü 日本 α✓": "ü 日本 α✓",
}


def printed(*what: object, **options: object) -> str:
    stream = io.StringIO()
    console = Terminal(file=stream, width=200, force_terminal=True, color_system=None)
    console.print(*what, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_printed_as_it_is_wherever_it_stands(text):
    shown = HOSTILE[text]
    table = Table(title=text, caption=text)
    table.add_column(text)
    table.add_row(text)
    for place in (text, line("Report: ", (text, "bold")), table):
        output = printed(place)
        assert shown in output and "\x1b" not in output.replace("\x1b[0m", ""), output
    assert printed(table).count(shown) == 4
    raw = printed(Text(text))  # rich itself drops some signs, such as a bell's
    assert all(sign.isprintable() for sign in raw.strip("\n").replace("\x1b[0m", ""))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("console", [Terminal, Console])
def test_the_name_of_a_stage_is_printed_as_it_is(text, console):
    stream = io.StringIO()
    display = StageDisplay(console(file=stream, width=200))
    with display.stage(text):
        pass
    display.reused(text)
    assert stream.getvalue().count(HOSTILE[text]) == 3


@pytest.mark.parametrize("text", ["[/run]", "\x1b[2J", "a\nb"])
def test_the_name_on_a_bar_is_printed_as_it_is(text):
    stream = io.StringIO()
    display = StageDisplay(Terminal(file=stream, width=200, force_terminal=True, color_system=None))
    with display.stage(text) as update:
        update(1, 2)
        update(2, 2)
    seen = stream.getvalue()
    assert "[/run]" in seen or "\\x1b[2J" in seen or "a\\nb" in seen
    assert "\x1b[2J" not in seen


def test_a_progress_bar_of_a_terminal_takes_no_markup():
    stream = io.StringIO()
    columns = TextColumn("{task.description}", markup=False)
    with Progress(columns, console=Terminal(file=stream, force_terminal=True, color_system=None)) as progress:
        progress.add_task("[/x]\x1b[2J", total=1)
    assert "[/x]\\x1" in stream.getvalue() and "\x1b[2J" not in stream.getvalue()


def test_lines_of_a_longer_text_stay_lines():
    assert printed("a\n\tb\x1b") == "a\n        b\\x1b\n"


def trees() -> list[tuple[Path, ast.Module]]:
    return [(file, ast.parse(file.read_text())) for file in sorted(SOURCE.rglob("*.py"))]


def calls() -> list[tuple[str, str, ast.Call]]:
    """Every call of the package: its file and line, the name of what is called, and the call."""
    found = []
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else f".{node.func.attr}"
                found.append((f"{file.name}:{node.lineno}", name, node))
    return found


def test_every_console_is_a_terminal_of_ours():
    """A console of rich's own takes texts for markup; ``Console`` is for annotations alone."""
    assert [place for place, name, _ in calls() if name == "Console"] == []


def test_no_printed_text_holds_markup():
    """Options' help alone has markup, which typer reads and which holds nothing from outside."""
    printing = (".print", ".add_row", ".add_column", ".add_task", ".echo")
    found = [
        place
        for place, name, call in calls()
        if name in printing
        for part in ast.walk(call)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and "[/" in part.value
    ]
    assert found + [place for place, name, _ in calls() if name == ".from_markup"] == []


def test_nothing_is_written_past_the_consoles():
    """``print`` and ``typer.echo`` know no escaping; what is left prints the package's own texts in other processes."""
    processes = ("_namespaces.py", "_nobody.py", "_served.py", "_torch_facts.py", "_vllm_labels.py", "_vllm_worker.py")
    allowed = (*processes, "smollm2.py", "main.py", "jail.py")
    found = [place for place, name, _ in calls() if name in ("print", ".echo", ".secho")]
    assert [place for place in found if not place.startswith(allowed)] == []
