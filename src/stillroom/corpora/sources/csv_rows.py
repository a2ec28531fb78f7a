"""Rows of CSV whose first line names the columns, and where such a file may be cut."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from stillroom.corpora.sources.json_rows import LONGEST
from stillroom.corpora.sources.opening import opened, unpacked
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.table_rows import Row, RowText, check_names
from stillroom.types import Unreadable

_CHUNK = 1 << 20
_QUOTE, _NEWLINE = 34, 10


def csv_names(file: str, packing: str, mark: str) -> list[str]:
    """The columns of a file."""
    with unpacked(file, packing) as stream, _text(stream) as text:
        return next((cells for cells, _ in _lines(text, mark, file)), [])


def csv_rows(part: Part, packing: str, mark: str, text: RowText) -> Iterator[Row]:
    """The rows of a part of a file whose columns ``mark`` parts."""
    names = csv_names(part.file, packing, mark)
    check_names(names, text.names, part.place)
    with _span(part, packing) as stream, _text(stream) as lines:
        behind = f" behind byte {part.start}" if part.start else ""
        for cells, line in itertools.islice(_lines(lines, mark, part.place), 0 if part.start else 1, None):
            where = f"the row that ends at line {line}{behind}"
            if len(cells) == len(names):
                yield where, dict(zip(names, cells, strict=True))
            else:
                yield where, Unreadable(_ragged(f"{part.place}: {where}", len(cells), len(names), mark))


def _ragged(place: str, found: int, wanted: int, mark: str) -> str:
    return f"{place} has {found} cells, expected the {wanted} of the first line; quote texts that hold {mark!r}."


@contextlib.contextmanager
def _span(part: Part, packing: str) -> Iterator[BinaryIO]:
    """The bytes of a part, which begins and ends with a row."""
    with unpacked(part.file, packing) as stream:
        if part.unit == "whole":
            yield stream
        else:
            stream.seek(part.start)
            yield io.BytesIO(stream.read(part.stop - part.start))


def _text(stream: BinaryIO) -> io.TextIOWrapper:
    """The text of a stream; a byte that is not UTF-8 becomes half a surrogate pair, which is refused later."""
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lines(text: io.TextIOWrapper, mark: str, file: str) -> Iterator[tuple[list[str], int]]:
    """The cells of every row that is not empty, and the number of the line at which it ends."""
    csv.field_size_limit(LONGEST)
    reader = csv.reader(text, delimiter=mark, strict=True)
    try:
        yield from ((cells, reader.line_num) for cells in reader if cells)
    except csv.Error as error:
        raise Unreadable(
            f"{file}: line {reader.line_num} is not valid CSV ({error}); mend it or save it again."
        ) from error


def csv_cuts(file: str, mark: str, size: int) -> list[int]:
    """Bytes at which rows begin, about ``size`` apart; none where quotes do not tell which line ends end rows.

    A quote opens a text that may hold line ends only where it follows a mark, a line end or a quote. Where every quote
    that would open one does, the number of quotes before a line end tells whether a text is open there.
    """
    before_opening = np.frombuffer(f'{mark}\n\r"'.encode(), np.uint8)
    cuts: list[int] = []
    begin, is_open, last = 0, 0, _NEWLINE
    with opened(file) as handle:
        while chunk := handle.read(_CHUNK):
            data = np.frombuffer(chunk, np.uint8)
            quotes = np.flatnonzero(data == _QUOTE)
            previous = np.concatenate(([np.uint8(last)], data[:-1]))
            if not np.isin(previous[quotes[is_open::2]], before_opening).all():
                return []
            ends = np.flatnonzero(data == _NEWLINE)
            ends = ends[(np.searchsorted(quotes, ends) + is_open) % 2 == 0] + begin + 1
            while len(ends) and ends[-1] >= (wanted := (cuts[-1] if cuts else 0) + size):
                cuts.append(int(ends[np.searchsorted(ends, wanted)]))
            begin, is_open, last = begin + len(chunk), (is_open + len(quotes)) % 2, int(data[-1])
    return cuts
