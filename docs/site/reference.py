"""The reference, generated from the code: the command line, every configuration field, and the public Python API.

The API is read off the source, so nothing of it is imported. Every function returns pages of Markdown by their names.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from named_numbers import ROOT

SOURCE = ROOT / "src" / "stillroom"
ROOMS = {
    "labels": "Labels: stores, codecs, exchange",
    "objectives": "Objectives: targets, the fused head, routing, schedules",
    "results": "Results: runs loaded, measures, comparisons",
    "models": "Models: building, loading, packed inputs",
    "teachers": "Teachers: live, exact, mixed",
    "corpora": "Corpora: text to tokens to batches",
    "evaluation": "Evaluation: suites, sampling, grading",
    "analysis": "Analysis: heads and losses",
    "training": "Training: step, loop, optimizers",
    "integrations": "Integrations: distillation in other people's trainers",
    "conformance": "Conformance: whether a loss or a trainer distils rightly",
}
Definition = ast.FunctionDef | ast.ClassDef


def reference_pages() -> dict[str, str]:
    """Every generated page by its place on the site."""
    api = {f"reference/api-{room}.md": _room_page(room, title) for room, title in ROOMS.items()}
    return {"reference/cli.md": command_page(), "reference/config.md": config_page(), **api}


def command_page() -> str:
    """Every verb with its arguments and options."""
    import typer

    from stillroom.cli.main import app

    parts = [
        "# Command line",
        "Made from the code. Every verb takes `--help`; mistakes end with exit code 2 and one sentence.",
    ]
    return "\n\n".join([*parts, *_verbs("stillroom", typer.main.get_command(app))]) + "\n"


def _verbs(name: str, command: Any) -> Iterator[str]:
    verbs = getattr(command, "commands", None)
    if verbs is None:
        yield from (f"## `{name}`", _marked(command.help or ""), _options(command))
        return
    for verb, inner in verbs.items():
        yield from _verbs(f"{name} {verb}", inner)


def _options(command: Any) -> str:
    rows = [_option(one) for one in getattr(command, "params", []) if one.name != "help"]
    return "\n".join(["| option | default | what it is |", "|---|---|---|", *rows])


def _option(one: Any) -> str:
    flags = ", ".join(one.opts) if one.opts[0].startswith("-") else ""
    names = " ".join(part for part in (flags, one.metavar or ("" if flags else one.name.upper())) if part)
    default = "" if one.default in (None, False, ()) or callable(one.default) else f"`{_cell(str(one.default))}`"
    return f"| `{_cell(names)}` | {default} | {_cell(_marked(getattr(one, 'help', None) or ''))} |"


def _marked(text: str) -> str:
    """Rich markup as Markdown."""
    return re.sub(r"\[bold\](.*?)\[/\]", lambda found: f"`{found[1]}`", text, flags=re.S).replace("<", "&lt;")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def config_page() -> str:
    """Every field of a study's configuration."""
    from stillroom.config import StudyConfig
    from stillroom.study.described import fields_of

    groups: dict[str, list[str]] = {}
    for name, one in fields_of(StudyConfig).items():
        default = "" if one.default is None else f"`{_cell(one.default)}`"
        row = f"| `{name}` | {_cell(_escaped(one.takes))} | {default} | {_cell(_escaped(one.text))} |"
        groups.setdefault(name.split(".")[0], []).append(row)
    parts = [
        f"## {name}\n\n| field | takes | default | what it is |\n|---|---|---|---|\n" + "\n".join(rows)
        for name, rows in groups.items()
    ]
    about = (
        "Made from the code. `NAME` stands for a name that the recipe gives. A name's last word is its unit where it "
        "has one; `--set FIELD=VALUE` changes any field, and `stillroom config FIELD` prints the same text."
    )
    return "\n\n".join(["# Configuration fields", about, *parts]) + "\n"


def _room_page(room: str, title: str) -> str:
    parts = [f"# {title}", f"`from stillroom.{room} import ...`. Made from the code."]
    for name, module in sorted(_exported(room).items()):
        parts += _entry(name, module)
    return "\n\n".join(parts) + "\n"


def _exported(room: str) -> dict[str, Path]:
    """Where every name of a room's ``__all__`` is defined."""
    tree = _parsed(SOURCE / room / "__init__.py")
    homes = {
        alias.asname or alias.name: one.module
        for one in ast.walk(tree)
        if isinstance(one, ast.ImportFrom) and one.module
        for alias in one.names
    }
    lists = [one.value for one in tree.body if isinstance(one, ast.Assign) and _is_named(one, "__all__")]
    public = {name for one in lists for name in ast.literal_eval(one)}
    return {name: _file_of(homes[name]) for name in public if name in homes and homes[name].startswith("stillroom")}


def _is_named(one: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in one.targets)


def _file_of(module: str) -> Path:
    place = ROOT / "src" / Path(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@functools.cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _entry(name: str, file: Path) -> list[str]:
    tree = _parsed(file)
    node = next((one for one in tree.body if isinstance(one, Definition) and one.name == name), None)
    if node is None:
        return [f"## `{name}`", f"A value of `{file.relative_to(ROOT / 'src')}`."]
    parts = [f"## `{name}`", f"```python\n{_signature(node)}\n```", _escaped(ast.get_docstring(node) or "")]
    if isinstance(node, ast.ClassDef):
        parts += [_fields(node), *_methods(node)]
    return [part for part in parts if part]


def _signature(node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
        if made is not None:
            return f"{node.name}({ast.unparse(made.args).removeprefix('self').removeprefix(', ')})"
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    end = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    flat = f"{node.name}({ast.unparse(node.args)}){end}"
    return flat if len(flat) <= 100 else flat.replace(", ", ",\n    ").replace("(", "(\n    ", 1)


def _fields(node: ast.ClassDef) -> str:
    rows = []
    for place, one in enumerate(node.body):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_"):
            below = node.body[place + 1] if place + 1 < len(node.body) else None
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            rows.append(
                f"| `{one.target.id}` | `{_cell(ast.unparse(one.annotation))}` | {_cell(_escaped(str(text)))} |"
            )
    return "\n".join(["| field | type | what it is |", "|---|---|---|", *rows]) if rows else ""


def _methods(node: ast.ClassDef) -> Iterator[str]:
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"):
            first = (ast.get_docstring(one) or "").partition("\n\n")[0]
            yield f"**`.{one.name}`** `{_cell(_signature(one))}`\n\n{_escaped(first)}"


def _escaped(text: str) -> str:
    """Plain text whose signs Markdown would read; code between double backticks stays."""
    parts = re.split(r"(``.*?``)", text, flags=re.S)
    return "".join(part if part.startswith("``") else re.sub(r"([*_\[\]<>`])", r"\\\1", part) for part in parts)
