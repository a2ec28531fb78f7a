"""Texts from rows: a field of what a file or a dataset holds, or several put together.

A row without text is left out and counted, and so is one that a filter leaves out; a row whose field holds something
else is refused.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from string import Formatter
from typing import TYPE_CHECKING, Any

from stillroom.types import Unreadable, UserError

if TYPE_CHECKING:
    from stillroom.corpora.sources.source_config import SourceConfig

Row = tuple[str, Mapping[str, Any] | Unreadable]
"""Where a row stands (``line 3``), and its fields or why it cannot be read."""

_SHOWN = 20  # fields of a sentence
_MARKS = frozenset(",;|\t")  # in the name of a lone field: columns that were not told apart
_CONDITION = re.compile(r"\s*(.+?)\s*(==|!=|>=|<=|>|<)\s*(.*?)\s*", re.DOTALL)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass
class RowCount:
    """How many rows were read, and how many of them gave no text."""

    rows: int = 0
    without_text: int = 0
    """Nothing, or nothing but blanks, where the text should be."""
    filtered: int = 0
    """Left out by ``where``."""
    damaged: int = 0
    """Rows, sections of text and rests of files that could not be read, where they are to be skipped."""

    def tell(self, now: RowCount, since: RowCount) -> None:
        """Adds what one count has grown by."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(now, name) - getattr(since, name))

    def __add__(self, other: RowCount) -> RowCount:
        return RowCount(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


@dataclass(frozen=True)
class Condition:
    """What a field must be for a row to be read: ``score >= 3``, ``lang == en``."""

    name: str
    sign: str
    value: float | str | bool

    @classmethod
    def of(cls, text: str) -> Condition:
        """A condition as it is written; a ``ValueError`` where it is none."""
        found = _CONDITION.fullmatch(text)
        if found is None or not found[3]:
            raise ValueError(f"{text!r} is no condition; write one like 'score >= 3' or 'lang == en'")
        try:
            value = json.loads(found[3])
        except ValueError:
            value = found[3]
        return cls(found[1], found[2], value if isinstance(value, float | int | str | bool) else found[3])

    def holds(self, row: Mapping[str, Any], place: str) -> bool:
        """Whether a row is wanted; one that has nothing there is not."""
        found = _value(row, self.name)
        return found is not None and _SIGNS[self.sign](self._alike(found, place), self.value)

    def _alike(self, found: Any, place: str) -> Any:
        """What was found as the kind of thing that it is compared with."""
        if isinstance(self.value, bool):
            return str(found).lower() == "true" if isinstance(found, str) else found
        if isinstance(self.value, str):
            return found if isinstance(found, str) else str(found)
        try:
            return float(found)
        except (TypeError, ValueError):
            raise Unreadable(
                f"{place}: field {self.name!r} holds {shown(found)}, expected a number to compare with {self.value}; "
                "mend this row or the condition in where."
            ) from None


def template_parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """A template as texts, each with the field that follows it (or None); a ``ValueError`` where it is none."""
    parts = tuple(Formatter().parse(template))
    if any(form or conversion or name == "" for _, name, form, conversion in parts):
        raise ValueError("write fields as {name} or {a.b}, without a format, and braces of the text twice: {{ and }}")
    if not any(name for _, name, _, _ in parts):
        raise ValueError("it names no field; write one like '{title}\\n\\n{body}'")
    return tuple((text, name) for text, name, _, _ in parts)


@dataclass(frozen=True)
class RowText:
    """How a text is made of a row, and which rows are wanted."""

    field: str = "text"
    template: tuple[tuple[str, str | None], ...] = ()
    conditions: tuple[Condition, ...] = ()
    skips: bool = False
    """Rows that cannot be read are counted instead of refused."""

    @classmethod
    def of(cls, source: SourceConfig) -> RowText:
        """What the configuration of a source asks for."""
        template = () if source.template is None else template_parts(source.template)
        return cls(source.field, template, tuple(map(Condition.of, source.where)), source.errors == "skip")

    @property
    def text_names(self) -> list[str]:
        """The fields that the text is made of."""
        return [name for _, name in self.template if name] if self.template else [self.field]

    @property
    def names(self) -> list[str]:
        """Every field that is needed."""
        return list(dict.fromkeys([*self.text_names, *(condition.name for condition in self.conditions)]))

    def columns(self, names: list[str]) -> list[str]:
        """Which of a table's columns are needed."""
        needed = {name if name in names else name.partition(".")[0] for name in self.names}
        return [name for name in names if name in needed]

    def fitted(self, sample: Iterable[Mapping[str, Any]], place: str) -> RowText:
        """The same for rows of which these are some: their only field is the text's where none was asked for.

        Raises a ``UserError`` that lists the fields where one that is needed is in none of them.
        """
        rows: list[Mapping[str, Any]] = []
        missing = self.names
        for row in sample:
            rows.append(row)
            missing = [name for name in missing if not _has(row, name)]
            if not missing:
                return self
        if not rows:
            return self
        names = list(dict.fromkeys(name for row in rows for name in row))
        marks = _MARKS.intersection(names[0]) if len(names) == 1 else None
        if missing == ["text"] and self.field == "text" and not self.template and marks == set():
            return replace(self, field=names[0])
        raise UserError(_without(rows, missing[0], place, marks, is_text=missing[0] in self.text_names))

    def texts(self, rows: Iterable[Row], place: str, count: RowCount) -> Iterator[str]:
        """The texts of rows of a file or a dataset, in order."""
        for where, values in rows:
            count.rows += 1
            try:
                if isinstance(values, Unreadable):
                    raise values
                text = self._text(values, f"{place}: {where}", count)
            except Unreadable:
                if not self.skips:
                    raise
                count.damaged += 1
            else:
                if text is not None:
                    yield text

    def _text(self, row: Mapping[str, Any], place: str, count: RowCount) -> str | None:
        if not all(condition.holds(row, place) for condition in self.conditions):
            count.filtered += 1
            return None
        text = self._filled(row, place) if self.template else _checked(_value(row, self.field), place, self.field)
        if not text or text.isspace():
            count.without_text += 1
            return None
        return text

    def _filled(self, row: Mapping[str, Any], place: str) -> str:
        """The template with the row's fields in it; nothing where all of them are empty."""
        found = {name: _spelt(_value(row, name), place, name) for name in self.text_names}
        if not any(found.values()):
            return ""
        return "".join(text + (found[name] if name else "") for text, name in self.template)


def check_names(names: list[str], wanted: list[str], place: str) -> None:
    """Refuses a table that has a needed column more than once."""
    for name in wanted:
        if names.count(name) > 1:
            raise UserError(f"{place}: has {names.count(name)} columns {name!r}, expected one; rename the others.")


def _without(rows: list[Mapping[str, Any]], name: str, place: str, marks: frozenset[str] | None, is_text: bool) -> str:
    known = list(dict.fromkeys(name for row in rows for name in _dotted(row)))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    found = f"{', '.join(known[:_SHOWN])}{more}" if known else "none"
    mend = "set field of this source to the one with the text" if is_text else "name one of them in where"
    if marks:
        mend = f"if {min(marks)!r} parts its columns, save it with commas (.csv) or tabs (.tsv); else {mend}"
    return f"{place}: its rows have no field {name!r}, only {found}; {mend}."


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


def _spelt(value: Any, place: str, column: str) -> str:
    """A field as it stands in a template."""
    if isinstance(value, int | float):
        return str(value)
    return _checked(value, place, column)


def _checked(text: Any, place: str, column: str) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise Unreadable(f"{place}: field {column!r} holds {shown(text)}, expected text; name another field.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        found = (
            "half a surrogate pair" if not 0xDC80 <= half <= 0xDCFF else "what is not UTF-8, or half a surrogate pair"
        )
        raise Unreadable(
            f"{place}: field {column!r} holds {found} (U+{half:04X}), which is no character, expected Unicode text; "
            "mend this row."
        ) from None
    return text


def shown(value: Any) -> str:
    """A value from outside with its type, short enough for a sentence."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
