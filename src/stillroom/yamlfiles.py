"""YAML as it is read here: plain values only, every key once, of bounded size; anything else ends in a sentence.

What a file may hold are mappings, lists, texts, numbers, booleans and null. YAML's dates stay texts, its other types
are refused, and aliases may not make a small file large.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from stillroom.files import read_bytes
from stillroom.types import UserError

_MOST_BYTES = 2 * 2**20
_MOST_NODES = 200_000
"""Values in a document, those behind an alias counted at each place where it stands."""
_MOST_DEPTH = 64
_MOST_BITS = 1000
"""Of a whole number: Python would not print one of thousands of digits."""
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_TAG = "tag:yaml.org,2002:"


class _Refused(yaml.MarkedYAMLError):
    """YAML that says something that is not wanted here."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """Plain values; keys once; bounded depth and size."""

    yaml_constructors = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in {_TAG + kind for kind in _PLAIN}
    }
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise _Refused(f"is nested more than {_MOST_DEPTH} levels deep", self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, Any]] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _Refused(f"field {key.value[:40]!r} is given twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def construct_document(self, node: Node) -> Any:
        _check_size(node, {})
        return super().construct_document(node)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        if node.tag not in self.yaml_constructors:
            raise _Refused(
                f"holds a value of type {node.tag.replace(_TAG, '!!')}, expected a plain one", node.start_mark
            )
        try:
            value = super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError):
            raise _Refused(f"{str(node.value)[:40]!r} is no {node.tag.removeprefix(_TAG)}", node.start_mark) from None
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise _Refused("holds a whole number of more than 300 digits", node.start_mark)
        return value


def _check_size(node: Node, sizes: dict[int, int | None]) -> int:
    """Values in and below a node; refuses too many, and a node that is inside itself."""
    if id(node) in sizes:
        known = sizes[id(node)]
        if known is None:
            raise _Refused("an alias stands inside what it stands for", node.start_mark)
        return known
    sizes[id(node)] = None
    size = 1
    for part in node.value if isinstance(node, CollectionNode) else ():
        size += sum(_check_size(inner, sizes) for inner in (part if isinstance(part, tuple) else (part,)))
    if size > _MOST_NODES:
        raise _Refused(f"holds more than {_MOST_NODES:,} values, its aliases counted", node.start_mark)
    sizes[id(node)] = size
    return size


def parse_yaml(text: str | bytes, where: str, wanted: str = "YAML") -> Any:
    """The value that a YAML text holds; a ``UserError`` that names the line where it is damaged or not plain."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {_problem(error)}; expected {wanted}, mend it.") from None
    except RecursionError:
        raise UserError(f"{where}: is nested too deeply; expected {wanted}, mend it.") from None


def _problem(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if isinstance(error, _Refused):
        return f"line {mark.line + 1}: {problem}" if mark else str(problem)
    if mark is None or problem is None:
        return f"is not valid YAML ({' '.join(str(error).split())})"
    return f"is not valid YAML (line {mark.line + 1}: {problem})"


def read_yaml(path: Path, wanted: str = "a YAML file") -> Any:
    """The value of a YAML file in UTF-8 or UTF-16; a ``UserError`` that names file and line otherwise."""
    data = read_bytes(path, wanted, most=_MOST_BYTES)
    return parse_yaml(data.removeprefix(b"\xef\xbb\xbf"), str(path), wanted)
