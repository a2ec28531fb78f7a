"""What the public rooms export says what it takes, gives and refuses: read off the source, so nothing is imported.

A sentence on what is returned, shapes of every tensor with letters that are explained, and the errors it raises.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "stillroom"
ROOMS = ("objectives", "labels", "results", "evaluation", "corpora", "integrations")
TENSOR = re.compile(r"\b(Tensor|NDArray|ndarray|Floats)\b")
SUFFIX = re.compile(r"_([A-Z][A-Za-z]*)$")
SHAPE = re.compile(
    r"\(\)|\(((?:n|len\(\w+\)|[A-Z]\w*)(?:, ?(?:n|[A-Z0-9]\w*)(?: [-+] 1)?)*,?)\)|\b([A-Z] [×x] [A-Z])\b"
)
GIVES = re.compile(r"\b(returns?|gives?|yields?|returned|is given|are given)\b", re.IGNORECASE)
NOUNS = frozenset(
    [
        "bits",
        "bytes",
        "numbers",
        "tokens",
        "labels",
        "its",
        "this",
        "rows",
        "items",
        "positions",
        "nats",
        "names",
        "sequences",
        "targets",
        "samples",
        "completions",
        "entries",
        "questions",
        "documents",
    ]
)
"""Plural nouns, and other first words in s, that name what is returned rather than what is done."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Public:
    """A public function, method or class, and the module that holds it."""

    name: str
    node: Function | ast.ClassDef
    module: ast.Module

    @property
    def text(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def around(self) -> str:
        """Where letters may be explained: here, in the class, or at the head of the module."""
        above = [one for one in self.module.body if isinstance(one, ast.ClassDef) and self.node in one.body]
        fields = [self.node] if isinstance(self.node, ast.ClassDef) else above
        words = [
            one.value.value
            for field in fields
            for one in field.body
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
        ]
        return "\n".join([ast.get_docstring(self.module) or "", self.text, *words])


def exported(room: str) -> dict[str, tuple[ast.Module, ast.stmt]]:
    """Where every name of a room's ``__all__`` is defined."""
    package = parsed(SOURCE / room / "__init__.py")
    (names,) = [
        ast.literal_eval(one.value)
        for one in package.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "__all__"
    ]
    homes = {
        alias.asname or alias.name: str(one.module)
        for one in ast.walk(package)
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    return {name: definition(homes[name], name) for name in names}


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def definition(module: str, name: str) -> tuple[ast.Module, ast.stmt]:
    file = SOURCE.parent / (module.replace(".", "/") + ".py")
    file = file if file.exists() else file.with_suffix("") / "__init__.py"
    tree = parsed(file)
    for one in tree.body:
        targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
        names = {part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)}
        if name in {getattr(one, "name", None), *names}:
            return tree, one
    for one in ast.walk(tree):  # handed on from where it is defined
        if isinstance(one, ast.ImportFrom) and name in [alias.name for alias in one.names]:
            return definition(str(one.module), name)
    raise AssertionError(f"{module} has no {name}")


def publics(room: str) -> Iterator[Public]:
    """Functions and classes of ``__all__``, and the public methods of these classes."""
    for name, (module, node) in exported(room).items():
        if isinstance(node, Function | ast.ClassDef):
            yield Public(name, node, module)
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, Function) and not inner.name.startswith("_"):
                yield Public(f"{name}.{inner.name}", inner, module)


def raised(one: Public) -> set[str]:
    """``UserError`` and its like, where it is raised here or in a private function of the module that is called."""
    helpers = {other.name: other for other in one.module.body if isinstance(other, Function)}
    seen, waiting, found = set(), [one.node], set()
    while waiting:
        node = waiting.pop()
        for inner in ast.walk(node):
            if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
                found.add(ast.unparse(inner.exc.func))
            name = ast.unparse(inner.func) if isinstance(inner, ast.Call) else ""
            if name.startswith("_") and name in helpers and name not in seen:
                seen.add(name)
                waiting.append(helpers[name])
    return {name for name in found if name in ("UserError", "Damaged")}


def tensors(one: Public) -> Iterator[str]:
    """Names of what it takes or holds that are tensors, and ``return``."""
    if isinstance(one.node, ast.ClassDef):
        given = [(ast.unparse(f.target), f.annotation) for f in one.node.body if isinstance(f, ast.AnnAssign)]
    else:
        arguments = one.node.args
        given = [(a.arg, a.annotation) for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        given.append(("return", one.node.returns))
    for name, annotation in given:
        if annotation is not None and TENSOR.search(ast.unparse(annotation)) and not name.startswith("_"):
            yield name


def faults(one: Public) -> Iterator[str]:
    """What a docstring lacks."""
    if not one.text:
        yield f"{one.name}: has no docstring"
        return
    names = list(tensors(one))
    about = one.around if isinstance(one.node, ast.ClassDef) else one.text
    for name in names:
        if not SUFFIX.search(name if name != "return" else one.node.name) and not SHAPE.search(about):
            yield f"{one.name}: no shape of {name}"
    shapes = [match.group(1) for name in names if (match := SUFFIX.search(name))]
    letters = {letter for shape in shapes for letter in re.sub(r"(?<=[A-Z])[a-z]+", "", shape)}
    letters |= {
        letter for shape in map(" ".join, SHAPE.findall(one.text)) for letter in re.findall(r"\b[A-Z]\b", shape)
    }
    for letter in sorted(letters):
        if not re.search(rf"\b{letter}\b(?: is| =|:)? [a-z(]", one.around):
            yield f"{one.name}: the letter {letter} is not explained"
    if isinstance(one.node, ast.ClassDef):
        return
    first = one.text.split()[0].lower().strip(".,:")
    does = first.endswith("s") and first not in NOUNS
    has_result = one.node.returns is not None and ast.unparse(one.node.returns) not in ("None", "NoReturn")
    if has_result and does and not GIVES.search(one.text):
        yield f"{one.name}: does not say what it returns"
    for error in sorted(raised(one)):
        if error not in one.text:
            yield f"{one.name}: does not say when it raises {error}"


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_public_says_what_it_takes_gives_and_refuses(room: str) -> None:
    found = list(publics(room))
    assert found
    assert [fault for one in found for fault in faults(one)] == []
