"""Rows of JSON: an object a line, or objects one after another or in one list, a few megabytes at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from stillroom.corpora.sources.opening import opened, unpacked
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.table_rows import Row, shown
from stillroom.types import Unreadable

LONGEST = 1 << 27
"""Bytes of a line or an object."""
_CHUNK = 1 << 20  # characters
_BLANK = " \t\r\n"
_EXPECTED = "expected one object a line, or one list of objects; mend it, or fetch the file again"


def json_lines(part: Part, packing: str) -> Iterator[Row]:
    """The rows of a part of a file of lines, each an object."""
    if part.unit == "whole":
        with unpacked(part.file, packing) as stream:
            yield from _rows(stream, part)
    else:
        yield from _rows(io.BytesIO(_whole_lines(part)), part)


def _rows(stream: BinaryIO, part: Part) -> Iterator[Row]:
    behind = f" behind byte {part.start}" if part.start else ""
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        where = f"line {number}{behind}"
        if len(line) == LONGEST:
            raise Unreadable(f"{part.place}: {where} is longer than {LONGEST >> 20} MiB; {_EXPECTED}.")
        if number == 1 and not part.start:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield where, _line(line, f"{part.place}: {where}")


def _whole_lines(part: Part) -> bytes:
    """The lines that begin in a part."""
    begin = max(0, part.start - 1)
    with opened(part.file, 1 << 18) as handle:
        handle.seek(begin)
        data = handle.read(part.stop - begin)
        first = data.find(b"\n") + 1 if part.start else 0
        if (part.start and not first) or first == len(data):
            return b""
        if not data.endswith(b"\n"):
            data += handle.readline(LONGEST)
    return data[first:]


def _line(line: bytes, place: str) -> Any:
    try:
        return _object(json.loads(line.decode("utf-8")), place)
    except UnicodeDecodeError as error:
        return Unreadable(f"{place} is not UTF-8 (byte {error.start} of it); convert the file.")
    except (ValueError, RecursionError) as error:
        return Unreadable(f"{place} is not valid JSON ({_reason(error)}); {_EXPECTED}.")


def _object(value: Any, place: str) -> Any:
    if isinstance(value, dict):
        return value
    return Unreadable(f"{place} holds {shown(value)}, expected an object with a text in one of its fields.")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def json_values(part: Part, packing: str) -> Iterator[Row]:
    """The rows of a file of objects one after another, over any number of lines, or of one list of them."""
    with unpacked(part.file, packing) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        for number, value in enumerate(_values(_Text(text, part.place)), 1):
            yield f"item {number}", _object(value, f"{part.place}: item {number}")


class _Text:
    """The text of a file from the place that reading has come to."""

    def __init__(self, stream: TextIO, file: str) -> None:
        self._stream, self.file, self.held, self.place = stream, file, "", 0

    def more(self) -> bool:
        """Reads on, as much again as is held; whether there was anything."""
        held = self.held[self.place :]
        try:
            data = self._stream.read(max(_CHUNK, len(held)))
        except UnicodeDecodeError as error:
            raise Unreadable(
                f"{self.file}: is not UTF-8 ({error.reason}), expected rows in UTF-8; convert it."
            ) from None
        self.held, self.place = held + data, 0
        return bool(data) and len(held) < LONGEST

    def next(self) -> str:
        """The next sign that is not blank, or nothing at the end."""
        while True:
            while self.place < len(self.held) and self.held[self.place] in _BLANK:
                self.place += 1
            if self.place < len(self.held) or not self.more():
                return self.held[self.place : self.place + 1]


def _values(text: _Text) -> Iterator[Any]:
    is_list = text.next() == "["
    text.place += is_list
    for number in range(1, 1 << 62):
        sign = text.next()
        if sign == ("]" if is_list else ""):
            break
        if is_list and number > 1:
            if sign != ",":
                raise _broken(
                    text, number, "no comma or end of the list follows it" if sign else "it ends inside a list"
                )
            text.place += 1
            text.next()
        yield _value_at(text, number)
    text.place += is_list
    if is_list and text.next():
        raise _broken(text, number, "something follows the list")


def _value_at(text: _Text, number: int) -> Any:
    while True:
        try:
            value, text.place = json.JSONDecoder().raw_decode(text.held, text.place)
            return value
        except (ValueError, RecursionError) as error:
            if isinstance(error, RecursionError) or not text.more():
                raise _broken(text, number, _reason(error)) from None


def _broken(text: _Text, number: int, reason: str) -> Unreadable:
    return Unreadable(f"{text.file}: item {number} is not valid JSON ({reason}); {_EXPECTED}.")
