"""Texts from rows: one field of what a file or a dataset holds.

A row without text is left out and counted; a row whose field holds something else is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from stillroom.types import UserError

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands (``line 3``), and its fields."""

_PEEKED = 1000  # rows whose fields are the fields that there are
_SHOWN = 20  # fields of a sentence
_MARKS = frozenset(",;|\t")  # in the name of a lone field: columns that were not told apart


@dataclass
class RowCount:
    """How many rows were read, and how many of them held no text."""

    rows: int = 0
    without_text: int = 0


def row_texts(rows: Iterable[Row], field: str, place: str, count: RowCount) -> Iterator[str]:
    """The texts in ``field`` of the rows of ``place``, a file or a dataset, in order."""
    rows = iter(rows)
    first = list(islice(rows, _PEEKED))
    column = _column([values for _, values in first], field, place)
    for where, values in chain(first, rows):
        count.rows += 1
        text = _value(values, column)
        if text is None or text == "":
            count.without_text += 1
        else:
            yield _checked(text, f"{place}: {where}", column)


def _column(rows: list[Mapping[str, Any]], field: str, place: str) -> str:
    """The field to read: the one asked for where a row has it, or the only one where none was asked for."""
    if not rows or any(_has(row, field) for row in rows):
        return field
    names = dict.fromkeys(name for row in rows for name in row)
    marks = _MARKS.intersection(next(iter(names))) if len(names) == 1 else None
    if field == "text" and marks == set():
        return next(iter(names))
    known = list(dict.fromkeys(name for row in rows for name in _dotted(row)))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    found = f"{', '.join(known[:_SHOWN])}{more}" if known else "none"
    mend = "set field of this source to the one with the text"
    if marks:
        mend = f"if {min(marks)!r} parts its columns, save it with commas (.csv) or tabs (.tsv); else {mend}"
    raise UserError(f"{place}: its rows have no field {field!r}, only {found}; {mend}.")


def _dotted(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _has(row: Mapping[str, Any], field: str) -> bool:
    if field in row:
        return True
    head, _, rest = field.partition(".")
    inner = row.get(head)
    return bool(rest) and isinstance(inner, Mapping) and _has(inner, rest)


def _value(row: Mapping[str, Any], field: str) -> Any:
    """The value of a field, or of field b of field a for ``a.b``; None where there is none."""
    if field in row:
        return row[field]
    head, _, rest = field.partition(".")
    inner = row.get(head)
    return _value(inner, rest) if rest and isinstance(inner, Mapping) else None


def _checked(text: Any, place: str, column: str) -> str:
    if not isinstance(text, str):
        raise UserError(f"{place}: field {column!r} holds {shown(text)}, expected text; name another field.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{place}: field {column!r} holds half a surrogate pair (U+{ord(text[error.start]):04X}), which is no "
            "character, expected Unicode text; mend this row."
        ) from None
    return text


def shown(value: Any) -> str:
    """A value from outside with its type, short enough for a sentence."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
