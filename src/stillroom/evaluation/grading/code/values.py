"""Values that another process tells in text, read without running anything: Python literals and a few known calls.

The text is what ``_sandboxed`` writes, and it may lie about anything but what it says: nothing in it is called but the
types below, on plain values, and nothing in it can be large that is not long. Imports nothing of stillroom.
"""

from __future__ import annotations

import array
import ast
import datetime
import math
import threading
import warnings
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

_PARSING = threading.Lock()
_HELD = (list, tuple, set, frozenset, dict, str, bytes)
"""What a container is made from; a range, which is short to say, might be longer than memory."""


@dataclass(frozen=True)
class Symbol:
    """Something that has a name and no literal: a member of an enumeration, or a type."""

    kind: Literal["enum", "type"]
    owner: str
    name: str


@dataclass(frozen=True)
class Fields:
    """An instance of a dataclass: the name of its class, and the values of its fields."""

    owner: str
    values: dict[str, Any]


def parse_python(text: str, mode: Literal["exec", "eval"] = "exec") -> Any:
    """``ast.parse`` that keeps to itself what it thinks of a text's escapes and comparisons.

    Errors are the parser's: ``SyntaxError``, ``ValueError``, ``RecursionError``, ``MemoryError``.
    """
    with _PARSING, warnings.catch_warnings():  # which changes filters for every thread while it lasts
        warnings.simplefilter("ignore")
        return ast.parse(text, mode=mode)


def read_value(text: str) -> Any:
    """The value that a text tells; ``ValueError`` where it tells none."""
    try:
        return value_of(parse_python(text, "eval").body)
    except (SyntaxError, TypeError, MemoryError, RecursionError, OverflowError, ArithmeticError) as error:
        raise ValueError(f"no value ({type(error).__name__})") from None


def value_of(node: ast.expr) -> Any:
    """The value of an expression of literals and known calls; ``ValueError`` or ``TypeError`` where it is another."""
    match node:
        case ast.Constant():
            return node.value
        case ast.List(elts=parts):
            return [value_of(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(value_of(part) for part in parts)
        case ast.Set(elts=parts):
            return {value_of(part) for part in parts}
        case ast.Dict(keys=keys, values=values):
            return {_key(key): value_of(value) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            number = _number(value_of(operand))
            return -number if isinstance(node.op, ast.USub) else +number
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
            return _complex(_number(value_of(left)), value_of(right), isinstance(node.op, ast.Add))
        case ast.Name(id="inf" | "nan" as name):
            return float(name)
        case ast.Attribute(value=ast.Name(id="math"), attr="nan"):
            return math.nan
        case ast.Attribute(attr="utc"):
            return datetime.timezone.utc  # noqa: UP017  one name for 3.10's sake and that of repr
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="datetime"), attr=name)):
            return _call(name, node)
    raise ValueError("neither a literal nor a known call")


def _key(node: ast.expr | None) -> Any:
    if node is None:
        raise ValueError("an unpacking is no literal")
    return value_of(node)


def _number(value: Any) -> Any:
    if type(value) not in (int, float, complex):
        raise ValueError("a sign belongs to a number")
    return value


def _complex(real: Any, imaginary: Any, plus: bool) -> complex:
    if type(imaginary) is not complex or type(real) is complex:
        raise ValueError("a sum is no literal but that of a complex number")
    return real + imaginary if plus else real - imaginary


def _call(name: str, node: ast.Call) -> Any:
    make = _CALLS.get(name)
    if make is None or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"{name} is no known call")
    return make(*(value_of(one) for one in node.args), **{str(one.arg): value_of(one.value) for one in node.keywords})


def _container(make: Callable[[Any], Any]) -> Callable[..., Any]:
    def of(held: Any = ()) -> Any:
        if not isinstance(held, _HELD):
            raise ValueError("a container is made from one that is spelt out")
        return make(held)

    return of


def _from_text(make: Callable[[str], Any]) -> Callable[..., Any]:
    def of(text: Any) -> Any:
        if type(text) is not str:
            raise ValueError("expected a text")
        return make(text)

    return of


def _float(text: str) -> float:
    return float(text)


def _fraction(numerator: int, denominator: int = 1) -> Fraction:
    if type(numerator) is not int or type(denominator) is not int:
        raise ValueError("a fraction is of whole numbers")
    return Fraction(numerator, denominator)


def _array(code: str, held: list[Any] | None = None) -> array.array[Any]:
    return array.array(code, [] if held is None else list(held))


def _bytearray(held: bytes = b"") -> bytearray:
    if type(held) is not bytes:
        raise ValueError("expected bytes")
    return bytearray(held)


_CALLS: dict[str, Callable[..., Any]] = {
    "set": _container(set),
    "frozenset": _container(frozenset),
    "tuple": _container(tuple),
    "list": _container(list),
    "dict": _container(dict),
    "Counter": _container(Counter),
    "OrderedDict": _container(OrderedDict),
    "deque": _container(deque),
    "range": range,
    "slice": slice,
    "bytearray": _bytearray,
    "array": _array,
    "complex": complex,
    "float": _from_text(_float),
    "Fraction": _fraction,
    "Decimal": _from_text(Decimal),
    "date": datetime.date,
    "time": datetime.time,
    "datetime": datetime.datetime,
    "timedelta": datetime.timedelta,
    "timezone": datetime.timezone,
    "enum_member": lambda owner, name: Symbol("enum", owner, name),
    "type_named": lambda owner, name: Symbol("type", owner, name),
    "dataclass_instance": Fields,
}
"""What a text may call, each as Python itself means it; the last three are ``_sandboxed``'s own."""


def is_close(found: Any, expected: Any, relative: float, absolute: float) -> bool:
    """``math.isclose`` of two real numbers; False for whatever is none."""
    numbers = (int, float, Fraction, Decimal)
    if not isinstance(found, numbers) or not isinstance(expected, numbers):
        return False
    return math.isclose(found, expected, rel_tol=relative, abs_tol=absolute)
