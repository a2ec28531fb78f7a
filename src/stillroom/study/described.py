"""What every field of a configuration is: its description, the values that it takes, and its default.

Descriptions are the texts that stand under the fields in the source, so that they are written once. Imports no torch.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import itertools
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stillroom.strict import MANY, Strict
from stillroom.types import UserError

NAME = "NAME"
"""What stands for a name that a recipe gives, as in ``arms.NAME.alpha``."""
_NO_CHOICE = "no choice of this name"


@dataclass(frozen=True)
class Described:
    """A field by its dotted name: what it takes, what it is without being set, and what it is for."""

    name: str
    takes: str
    default: str | None
    """None where a value must be given."""
    text: str
    is_group: bool
    """Whether it holds fields of its own."""


def described(kind: type[BaseModel], prefix: str = "", default: Any = None) -> Iterator[Described]:
    """Every field of a configuration and of what it holds, outer before inner.

    ``default`` is the object that stands where nothing is set, if there is one.
    """
    for name, field in kind.model_fields.items():
        value = getattr(default, name, None) if default is not None else _default_of(field)
        inner, is_named = inside(field.annotation)
        shown = None if default is None and field.is_required() else _shown(value, inner)
        text = texts_of(kind).get(name) or _first_sentence(inner)
        yield Described(prefix + name, _takes(kind, name, field, inner, is_named), shown, text, inner is not None)
        if inner is not None:
            place = f"{prefix}{name}.{NAME}." if is_named else f"{prefix}{name}."
            yield from described(inner, place, value if isinstance(value, inner) else None)


@functools.cache
def fields_of(kind: type[BaseModel]) -> dict[str, Described]:
    """Every field of a kind of configuration by its dotted name."""
    return {one.name: one for one in described(kind)}


def valued(config: BaseModel, prefix: str = "", general: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every field of an object: its dotted name, the name by which it is described, and its value."""
    for name in type(config).model_fields:
        value, kind = getattr(config, name), inside(type(config).model_fields[name].annotation)
        yield prefix + name, general + name, value
        if isinstance(value, BaseModel):
            yield from valued(value, f"{prefix}{name}.", f"{general}{name}.")
        elif kind[1] and kind[0] is not None:
            for key, inner in value.items():
                yield from valued(inner, f"{prefix}{name}.{key}.", f"{general}{name}.{NAME}.")


def found_by(asked: str, names: Iterable[str], recipes: Sequence[str] = ()) -> list[str]:
    """Names that one stands for: itself with what is inside it, else whatever ends in it.

    Any name does where one may be given. Of none the nearest are told, of ``recipes`` too where one could be meant.
    """
    parts, names = asked.split("."), list(names)
    within = [name for name in names if _begins(name.split("."), parts)]
    found = within or [name for name in names if name.split(".")[-len(parts) :] == parts]
    if found:
        return found
    known = list(dict.fromkeys([*recipes, *names, *(name.rpartition(".")[2] for name in names)]))
    close = difflib.get_close_matches(asked, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "stillroom config lists what there is."
    raise UserError(f"{asked}: is no {'recipe and no ' if recipes else ''}field of a configuration; {hint}")


def _begins(name: list[str], parts: list[str]) -> bool:
    return len(name) >= len(parts) and all(own in (part, NAME) for own, part in zip(name, parts, strict=False))


def inside(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The configuration that a field holds, and whether it holds several by name; None where it holds a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return inside(parts[1])[0], True
    if origin in (typing.Union, types.UnionType):
        return next((found for part in parts if (found := inside(part))[0] is not None), (None, False))
    return None, False


@functools.cache
def texts_of(kind: type[BaseModel]) -> dict[str, str]:
    """The text under every field of a class and of those that it is made of."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one not in (object, BaseModel, Strict) and issubclass(one, BaseModel):
            found |= _written(one)
    return found


def _written(kind: type) -> dict[str, str]:
    (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for field, below in itertools.pairwise(body):
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
            found[field.target.id] = " ".join(text.split()).replace("``", "")
    return found


def _first_sentence(kind: type | None) -> str:
    text = " ".join(inspect.cleandoc(kind.__doc__ or "").split()) if kind is not None else ""
    return text.replace("``", "")


def _default_of(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _shown(value: Any, inner: type | None) -> str:
    if isinstance(value, BaseModel) or (inner is not None and isinstance(value, Mapping)):
        return "its fields' own" if value else "none"
    return plain(value)


def plain(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {plain(inner)}' for name, inner in value.items())}}}"
    return str(value)


def _takes(kind: type[BaseModel], name: str, field: FieldInfo, inner: type | None, is_named: bool) -> str:
    """The values that a field takes, in words."""
    if inner is not None:
        return "one by each name that you give" if is_named else "fields of its own"
    optional = " or none" if type(None) in typing.get_args(field.annotation) else ""
    return (_choices(kind, name, field.annotation) or _plain_kind(field.annotation, _bounds(field))) + optional


def _plain_kind(annotation: Any, bounds: tuple[float, float, bool, bool]) -> str:
    low, high, above, below = bounds
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return _plain_kind(parts[0], bounds)
    if annotation not in (int, float):
        words = {bool: "true or false", str: "text", tuple: "a list", list: "a list", dict: "values by name"}
        return words.get(typing.get_origin(annotation) or annotation, "a value")
    word = "a whole number" if annotation is int else "a number"
    if low > -math.inf:
        word += f" above {low:,g}" if above else f" of at least {low:,g}"
    if high < MANY:
        top = f"{high:,.0f}" if annotation is int else f"{high:,g}"
        word += f"{' and' if low > -math.inf else ''} below {top}" if below else f", at most {top}"
    return word


def _bounds(field: FieldInfo) -> tuple[float, float, bool, bool]:
    """Lowest and highest value, and whether they themselves are left out."""
    limits = [*field.metadata]
    for part in typing.get_args(field.annotation):
        limits += [limit for one in getattr(part, "__metadata__", ()) for limit in getattr(one, "metadata", [one])]
    lowest = {limit.gt: True for limit in limits if hasattr(limit, "gt")} | {
        limit.ge: False for limit in limits if hasattr(limit, "ge")
    }
    highest = {limit.lt: True for limit in limits if hasattr(limit, "lt")} | {
        limit.le: False for limit in limits if hasattr(limit, "le")
    }
    low, high = max(lowest, default=-math.inf), min(highest, default=math.inf)
    return low, high, lowest.get(low, False), highest.get(high, False)


def _choices(kind: type[BaseModel], name: str, annotation: Any) -> str:
    """The names that a field takes, where they are a list: written in its type, or told by its own rule."""
    for part in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(part) is typing.Literal:
            return "one of " + ", ".join(map(str, typing.get_args(part)))
    several = typing.get_origin(annotation) is tuple
    if not several and annotation is not str:
        return ""
    try:
        kind.model_validate({name: [_NO_CHOICE] if several else _NO_CHOICE})
    except (ValidationError, UserError) as error:
        told = str(error).partition("expected one of ")[2].splitlines()
        listed = told[0].partition(" [type=")[0].rstrip(".") if told else ""
        return f"{'any' if several else 'one'} of {listed}" if listed else ""
    return ""
