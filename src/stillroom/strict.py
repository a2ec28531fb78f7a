"""Strict typed configuration: objects that refuse what they do not know, in one sentence, with overrides and YAML.

Every component has its configuration beside its code, made of what is here; ``config`` puts them together. Imports no
torch, so that ``--help`` and ``--dry-run`` stay quick.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import types
import typing
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from stillroom.files import fingerprint
from stillroom.types import UserError, printable
from stillroom.yamlfiles import parse_yaml

MANY = 10**15
"""More than anything that is counted here comes to; what is larger would overflow somewhere."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0, le=MANY)]
Count = Annotated[int, Field(ge=0, le=MANY)]
Items = Annotated[int, Field(gt=0, le=1_000_000)]
"""How many items are measured: each is held in memory."""
Length = Annotated[int, Field(gt=0, le=65_536)]
"""Tokens of an item that is measured."""
PositiveFloat = Annotated[float, Field(gt=0.0)]
Factor = Annotated[float, Field(gt=0.0, le=1e6)]
"""A multiple of something."""
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A softmax temperature: outside of this, logits divided by it are not finite or all alike."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What both torch and numpy take as a seed."""
ADDED_LATER = "added later"
"""Marks a field, ``name: Annotated[kind, ADDED_LATER] = default``, that came after artifacts had been made: where it
holds its default it is left out, so that they keep their names. Its default can therefore never change."""
M = TypeVar("M", bound=BaseModel)
C = TypeVar("C", bound="Strict")
V = TypeVar("V")

_MOST_NAME_BYTES = 100
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
"""Names that are devices in every folder of some systems."""


def _is_name(name: str) -> str:
    """A name that is safe as a folder's: one visible line without separators."""
    stripped = name.strip(" ")
    if not name or name != stripped or name[-1] == ".":
        problem = "is empty, or begins or ends with a space, or ends with a point"
    elif printable(name) != name or any(sign in name for sign in "/\\:"):
        problem = "holds a slash, a backslash, a colon or a sign that cannot be seen"
    elif name[0] in ".-~":
        problem = "begins with a point, a hyphen or a tilde"
    elif len(name.encode()) > _MOST_NAME_BYTES:
        problem = f"takes {len(name.encode())} bytes"
    elif name.partition(".")[0].lower() in _DEVICES:
        problem = "is the name of a device on some systems"
    else:
        return name
    raise ValueError(
        f"the name {problem}; it becomes that of a folder, so give letters, digits and signs such as _ - + . @ of at "
        f"most {_MOST_NAME_BYTES} bytes"
    )


def _names_apart(named: dict[str, V]) -> dict[str, V]:
    """Refuses names that some file systems take for the same one."""
    seen: dict[str, str] = {}
    for name in named:
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            raise ValueError(f"{seen[folded]!r} and {name!r} are one name on some file systems; rename one")
        seen[folded] = name
    return named


Name = Annotated[str, AfterValidator(_is_name)]
"""A name that becomes part of a path."""
Named = Annotated[dict[Name, V], AfterValidator(_names_apart)]
"""Things by name, where names become folders."""


@functools.cache
def _takes_bool(kind: type[BaseModel], field: str) -> bool:
    return _mentions_bool(kind.model_fields[field].annotation)


def _mentions_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_mentions_bool, typing.get_args(annotation)))


def _holds_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_bool, value)))


class Strict(BaseModel):
    """A frozen configuration object that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name is not None and _holds_bool(value) and not _takes_bool(cls, info.field_name):
            raise ValueError("should be no true or false")
        return value

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        later = {name: field for name, field in type(self).model_fields.items() if ADDED_LATER in field.metadata}
        idle = {
            name for name, field in later.items() if getattr(self, name) == field.get_default(call_default_factory=True)
        }
        return {name: value for name, value in handler(self).items() if name not in idle}

    def canonical(self) -> dict[str, JsonValue]:
        """Plain JSON-able values of every field, defaults included, but for fields ``ADDED_LATER``."""
        return self.model_dump(mode="json")

    def worked_out(self) -> tuple[str, ...]:
        """Dotted names of fields that follow from others as long as nobody sets them."""
        return ()

    def fingerprint(self) -> str:
        """A hash of every field: two objects with the same fingerprint ask for the same thing."""
        return fingerprint(self.canonical())


def explain(error: ValidationError, root: type[BaseModel], where: str) -> UserError:
    """The first problem of a pydantic error as one sentence with the field's dotted name."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path)
    count = len(error.errors())
    more = f" (and {count - 1} more)" if count > 1 else ""
    if first["type"] == "extra_forbidden":
        names = field_names(root, path[:-1])
        return UserError(f"{where}: {dotted} is not a field here{nearest(path[-1], names)}{more}.")
    if first["type"] == "invalid_key":
        return UserError(f"{where}: {dotted} is no text and so no name of a field{more}.")
    if path and path[-1] == "[key]":
        del path[-1]
        dotted = ".".join(path)
    if first["type"] == "missing":
        return UserError(f"{where}: {dotted} is missing{more}; give it a value.")
    found = first.get("input")
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    message = message[:1].lower() + message[1:]
    if not dotted:
        return UserError(f"{where}: {message}{more}.")
    shown = ":" if isinstance(found, Mapping | BaseModel) else f" is {short(found)},"
    return UserError(f"{where}: {dotted}{shown} {message}{more}.")


def short(value: Any) -> str:
    """A value as it is quoted in a sentence."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def nearest(name: str, choices: list[str]) -> str:
    """A hint for a misspelt name: the nearest choice where one is near, and the choices where they are few."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; expected one of {', '.join(choices)}" if choices else ""


def _model_of(annotation: Any) -> Any:
    """The model, or the annotation of a mapping's values, inside an annotation; None where there is neither."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = typing.get_origin(annotation)
    if origin is dict:
        return annotation
    if origin in (typing.Union, types.UnionType):
        return next((found for part in typing.get_args(annotation) if (found := _model_of(part))), None)
    return None


def field_names(root: type[BaseModel], path: list[str]) -> list[str]:
    """The fields of the model that a dotted path leads to; empty where it leads to none."""
    current: Any = root
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = None if field is None else _model_of(field.annotation)
        elif typing.get_origin(current) is dict:
            current = _model_of(typing.get_args(current)[1])
        if current is None:
            return []
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def parse(kind: type[M], values: Any, where: str) -> M:
    """A configuration from plain values; a ``UserError`` that names the field where they do not fit."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: holds {type(values).__name__}, expected a mapping of fields of {kind.__name__}.")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, kind, where) from None


def override(config: C, assignments: list[str]) -> C:
    """The configuration with ``dotted.name=value`` assignments applied; values are read as YAML."""
    values, named = _plain(config), []
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise UserError(f"--set {assignment}: no '=' found, expected dotted.name=value.")
        named.append(name.strip())
        _assign(values, type(config), named[-1].split("."), _scalar(text, assignment), assignment)
    return _parse_given(config, values, "--set", named) if assignments else config


def asked_again(config: C, where: str) -> C:
    """The configuration with every rule asked again: ``model_copy`` asks none."""
    return _parse_given(config, _plain(config), where, [])


def _plain(value: Any) -> Any:
    """Objects as mappings of what they hold, whether or not it fits them."""
    if isinstance(value, Strict):
        return {name: _plain(inner) for name, inner in vars(value).items()}
    return {name: _plain(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _parse_given(config: C, values: dict[str, Any], where: str, named: list[str]) -> C:
    """From values, without those that were worked out and that no name sets."""
    for field in config.worked_out():
        if not any(f"{name}.".startswith(f"{field}.") for name in named):
            *path, last = field.split(".")
            inner = functools.reduce(lambda found, part: found[part], path, values)
            del inner[last]
    return parse(type(config), values, where)


def _scalar(text: str, assignment: str) -> Any:
    value = parse_yaml(text, f"--set {assignment}", "a YAML value, quoted where it is text with signs")
    if isinstance(value, str) and re.search(r"\d", value):  # YAML 1.1 takes 1e-3 for text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], root: type[BaseModel], path: list[str], value: Any, assignment: str) -> None:
    current: Any = values
    for depth, part in enumerate(path):
        if not isinstance(current, dict) or (part not in current and not _may_be_new(root, path, depth)):
            prefix = ".".join(path[:depth])
            given: list[str] = list(current) if isinstance(current, dict) else []
            choices = list(dict.fromkeys([*given, *field_names(root, path[:depth])]))
            within = f" of {prefix}" if prefix else ""
            elsewhere = [] if prefix else list(itertools.islice(_named(current, path), 3))
            hint = f"; did you mean {' or '.join(elsewhere)}?" if elsewhere else nearest(part, choices)
            raise UserError(f"--set {assignment}: {part} is not a field{within}{hint}.")
        if depth == len(path) - 1:
            current[part] = value
        else:
            if current.get(part) is None:  # an optional object, such as routing, that is now asked for
                current[part] = {}
            current = current[part]


def _named(values: Any, path: list[str], place: str = "") -> Iterator[str]:
    """Dotted names of fields further inside that end as ``path`` does."""
    for name, inner in values.items() if isinstance(values, dict) else ():
        if place and name == path[0]:
            yield f"{place}{'.'.join(path)}"
        yield from _named(inner, path, f"{place}{name}.")


def _may_be_new(root: type[BaseModel], path: list[str], depth: int) -> bool:
    """Whether a name without a value may be set: a field of an optional object, or anything in a mapping for others."""
    return path[depth] in field_names(root, path[:depth]) or not {"options", "overrides"}.isdisjoint(path[:depth])


def to_yaml(config: Strict, kind: str) -> str:
    """The resolved configuration as YAML, with the kind of object on top, so that it runs again as it is."""
    return yaml.safe_dump({"kind": kind, **config.canonical()}, sort_keys=False, allow_unicode=True, width=120)
