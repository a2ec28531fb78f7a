"""One way from JSON to a frozen dataclass and back: what a file lacks, or holds in another form, is told in a sentence.

A field named ``others`` keeps the keys of an object that its class does not declare, so that nothing is lost that a
newer version or somebody else's suite wrote. A field that ends in ``_`` is called without it in the file, where that is
a word of Python's own; see ``PASS`` and ``BREAK``. Imports no torch and no numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic import Field as Called

from stillroom import types
from stillroom.files import read_json, read_json_lines, write_json
from stillroom.types import UserError

Json: TypeAlias = "Mapping[str, Json] | list[Json] | tuple[Json, ...] | str | int | float | None"
"""What a JSON file holds; objects are mappings."""
D = TypeVar("D")
PASS, BREAK = (Called(validation_alias=word) for word in ("pass", "break"))
_SOMETIMES = "written only where it says something"


def with_nan(value: object) -> object:
    """An estimate of a file, with NaN where it holds null."""
    if not isinstance(value, dict):
        return value
    return {name: math.nan if number is None else number for name, number in value.items()}


Estimate = Annotated[types.Estimate, BeforeValidator(with_nan)]
"""An estimate as a file holds it: null, which reads as NaN, where there is no number."""


def sometimes(default: Any = None) -> Any:
    """A field that is left out of the file where it holds its default; a class makes the default anew each time."""
    metadata = {_SOMETIMES: True}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@functools.cache
def _adapter(kind: type[D]) -> TypeAdapter[D]:
    return TypeAdapter(kind)


def from_json(kind: type[D], value: object, path: Path) -> D:
    """The JSON value of ``path`` as a dataclass of this kind.

    Raises:
        UserError: a part is missing or of another form; the sentence names the file and the part.
    """
    try:
        return _adapter(kind).validate_python(_with_others(kind, value))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the whole file"
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise UserError(f"{path}: {name} does not fit ({message}); run the command that made it again.") from None


def _with_others(kind: type, value: object) -> object:
    names = {one.name for one in fields(kind)} if is_dataclass(kind) else set()
    if "others" not in names or not isinstance(value, dict):
        return value
    known = {name: inner for name, inner in value.items() if name in names and name != "others"}
    return known | {"others": {name: inner for name, inner in value.items() if name not in known}}


def read(kind: type[D], path: Path) -> D:
    """``from_json`` of a file; it is missing or damaged, or does not fit: ``UserError``."""
    return from_json(kind, read_json(path), path)


def read_lines(kind: type[D], path: Path) -> tuple[D, ...]:
    """``from_json`` of every line of a ``.jsonl`` file."""
    return tuple(from_json(kind, value, path) for value in read_json_lines(path))


def write(path: Path, value: object) -> None:
    """Writes ``as_json`` of a dataclass to a file, which appears complete or not at all."""
    write_json(path, as_json(value))


def as_json(value: Any) -> Any:
    """A value of dataclasses, mappings and sequences as what ``write_json`` takes; keys become text.

    A class with an ``as_dict`` of its own says what it is in JSON, which has no NaN and no infinity.
    """
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if is_dataclass(value):
        kept = {one.name: as_json(getattr(value, one.name)) for one in fields(value) if not _left_out(one, value)}
        kept = {name.rstrip("_"): inner for name, inner in kept.items()}
        return {name: inner for name, inner in kept.items() if name != "others"} | kept.get("others", {})
    if isinstance(value, Mapping):
        return {f"{key:g}" if isinstance(key, float) else str(key): as_json(inner) for key, inner in value.items()}
    return [as_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def _left_out(one: Field[Any], value: object) -> bool:
    if not one.metadata.get(_SOMETIMES):
        return False
    default = one.default if one.default is not MISSING else one.default_factory()  # type: ignore[misc]
    return getattr(value, one.name) == default
