"""The rules of the house, read off the source: one name for one thing, short functions, typed signatures."""

from __future__ import annotations

import ast
import functools
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "stillroom"
LINES, PARAMETERS, MEDIAN = 50, 8, 8
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source file, its path under the package and its room: the folder, or the file itself at the top."""

    place: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.place.parts[0]

    def functions(self, node: ast.AST | None = None, place: str = "") -> Iterator[tuple[str, Function]]:
        for inner in ast.iter_child_nodes(node or self.tree):
            if isinstance(inner, Function | ast.ClassDef):
                name = f"{place}.{inner.name}" if place else inner.name
                if isinstance(inner, Function):
                    yield name, inner
                yield from self.functions(inner, name)
            else:
                yield from self.functions(inner, place)


@functools.cache
def _modules() -> list[Module]:
    files = sorted(SOURCE.rglob("*.py"))
    return [Module(file.relative_to(SOURCE), ast.parse(file.read_text())) for file in files]


def _parameters(function: Function) -> list[ast.arg]:
    found = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    found += [more for more in (function.args.vararg, function.args.kwarg) if more is not None]
    return [one for one in found if one.arg not in ("self", "cls")]


def same_module_names(modules: list[Module]) -> Iterator[str]:
    """No two modules of one name, ``__init__`` apart."""
    places = defaultdict(list)
    for module in modules:
        places[module.place.stem].append(str(module.place))
    yield from (
        f"{name}: {', '.join(found)}" for name, found in places.items() if len(found) > 1 and name != "__init__"
    )


def same_public_names(modules: list[Module]) -> Iterator[str]:
    """No two public classes or functions of one name in different rooms; a recipe has the name that is typed."""
    places = defaultdict(list)
    for module in modules:
        for node in module.tree.body:
            is_public = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if is_public and module.room != "recipes":
                places[node.name].append(module)
    for name, found in sorted(places.items()):
        if len({module.room for module in found}) > 1:
            yield f"{name}: {', '.join(str(module.place) for module in found)}"


def long_functions(modules: list[Module]) -> Iterator[str]:
    """No function above 50 lines."""
    for module in modules:
        for name, function in module.functions():
            if (function.end_lineno or 0) - function.lineno + 1 > LINES:
                yield f"{module.place} {name}"


def many_parameters(modules: list[Module]) -> Iterator[str]:
    """No function with more than eight parameters; a command's are its options."""
    for module in modules:
        for name, function in module.functions():
            if len(_parameters(function)) > PARAMETERS and module.room != "cli":
                yield f"{module.place} {name}"


def _untyped_aliases(module: Module) -> set[str]:
    """Other names that a module gives ``dict[str, Any]``."""
    assigned = [part for part in module.tree.body if isinstance(part, ast.Assign | ast.AnnAssign)]
    return {
        target.id
        for part in assigned
        if part.value is not None and "dict[str, Any]" in ast.unparse(part.value)
        for target in (part.targets if isinstance(part, ast.Assign) else [part.target])
        if isinstance(target, ast.Name)
    }


def untyped_records(modules: list[Module]) -> Iterator[str]:
    """No ``dict[str, Any]`` in a public signature, nor another name for it."""
    aliases = {name for module in modules for name in _untyped_aliases(module)}
    for module in modules:
        for name, function in module.functions():
            annotations = [one for one in (*(p.annotation for p in _parameters(function)), function.returns) if one]
            text = " ".join(map(ast.unparse, annotations))
            named = {part.id for one in annotations for part in ast.walk(one) if isinstance(part, ast.Name)}
            is_untyped = "dict[str, Any]" in text or named & aliases
            if is_untyped and not any(part.startswith("_") for part in name.split(".")):
                yield f"{module.place} {name}"


RULES = (same_module_names, same_public_names, long_functions, many_parameters, untyped_records)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds(rule) -> None:
    assert list(rule(_modules())) == [], rule.__doc__


def test_half_of_all_functions_have_eight_lines_or_fewer() -> None:
    lengths = [(one.end_lineno or 0) - one.lineno + 1 for module in _modules() for _, one in module.functions()]
    assert statistics.median(lengths) <= MEDIAN


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        (same_public_names, "def rows(): ...", "class rows: ..."),
        (long_functions, "def long():\n" + "    pass\n" * 50, ""),
        (many_parameters, "def wide(a, b, c, d, e, f, g, h, *, i): ...", ""),
        (untyped_records, "Values = dict[str, Any]\ndef read() -> list[Values]: ...", ""),
        (untyped_records, "class Run:\n    def read(self) -> list[dict[str, Any]]: ...", ""),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_breach_is_seen(rule, first: str, second: str) -> None:
    found = [Module(Path(f"{room}/a.py"), ast.parse(text)) for room, text in (("one", first), ("two", second))]
    assert len(list(rule(found))) == 1
    assert list(same_module_names(found)) == ["a: one/a.py, two/a.py"]
