"""Files of rows: into which parts each may be cut, which fields it has, and its rows, by what it holds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from stillroom.corpora.sources.csv_rows import csv_cuts, csv_names, csv_rows
from stillroom.corpora.sources.file_formats import FileFormat
from stillroom.corpora.sources.json_rows import json_lines, json_values
from stillroom.corpora.sources.opening import file_size, has_ranges, is_url, stamp_of
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.table_files import group_sizes, table_rows, table_sample
from stillroom.corpora.sources.table_rows import Row, RowText
from stillroom.http import printable_url

_MARKS = {"csv": ",", "tsv": "\t"}
_PEEKED_ROWS, _PEEKED_BYTES = 1000, 1 << 20  # whose fields are the fields that there are
_FEWEST_REMOTE = 1 << 23  # bytes of a part behind an address: a request costs as much time as so many
_UNPACKED = 4  # bytes of text in a byte that is packed, about


def cut_file(file: str, format_: FileFormat, size: int) -> list[Part]:
    """The parts of a file, of about ``size`` bytes where it can be cut; hardly anything of it is read."""
    total = file_size(file)
    size = max(size, _FEWEST_REMOTE) if is_url(file) else max(size, 1)
    whole = [Part(file, size=(total or 0) * (_UNPACKED if format_.packing or format_.kind == "parquet" else 1))]
    if total == 0 and format_.kind not in ("parquet", "arrow"):
        return []
    if format_.packing or format_.kind == "json" or total is None:
        return whole
    if total > size and not has_ranges(file):
        return whole
    if format_.kind in ("text", "jsonl"):
        return _by_bytes(file, total, size)
    if total <= size or (is_url(file) and format_.kind != "parquet"):
        return whole
    if format_.kind in _MARKS:
        bounds = [0, *csv_cuts(file, _MARKS[format_.kind], size), total]
        pieces = [Part(file, start, stop, "bytes", stop - start) for start, stop in itertools.pairwise(bounds)]
        return [part for part in pieces if part.size]
    return _by_groups(file, group_sizes(file, format_.kind), size)


def _by_bytes(file: str, total: int, size: int) -> list[Part]:
    count = -(-total // size)
    bounds = [total * number // count for number in range(count + 1)]
    return [Part(file, start, stop, "bytes", stop - start) for start, stop in itertools.pairwise(bounds)]


def _by_groups(file: str, sizes: list[int], size: int) -> list[Part]:
    parts, start = [], 0
    for stop in range(1, len(sizes) + 1):
        if stop == len(sizes) or sum(sizes[start : stop + 1]) > size:
            parts.append(Part(file, start, stop, "groups", sum(sizes[start:stop])))
            start = stop
    return parts


def file_rows(part: Part, format_: FileFormat, text: RowText) -> Iterator[Row]:
    """The rows of a part, with the fields that ``text`` needs at least."""
    if format_.kind in _MARKS:
        return csv_rows(part, format_.packing, _MARKS[format_.kind], text)
    if format_.kind in ("parquet", "arrow"):
        return table_rows(part, format_.packing, format_.kind, text)
    return (json_values if format_.kind == "json" else json_lines)(part, format_.packing)


def fitted(file: str, format_: FileFormat, text: RowText) -> RowText:
    """How texts are made of the rows of a file, by the fields that it has."""
    return _fitted(stamp_of(file) if not is_url(file) else (file, 0, ""), format_, text)


@lru_cache(1 << 12)
def _fitted(stamp: tuple[str, int, str], format_: FileFormat, text: RowText) -> RowText:
    return text.fitted(_sample(stamp[0], format_), printable_url(stamp[0]))


def _sample(file: str, format_: FileFormat) -> Iterator[Mapping[str, Any]]:
    """Some rows, as far as fields go; none where the file is empty."""
    if format_.kind in _MARKS:
        names = csv_names(file, format_.packing, _MARKS[format_.kind])
        yield from [dict.fromkeys(names)] if names else []
    elif format_.kind in ("parquet", "arrow"):
        yield table_sample(file, format_.packing, format_.kind)
    else:
        peeked = Part(file, 0, _PEEKED_BYTES, "whole" if format_.packing else "bytes")
        read = json_values if format_.kind == "json" else json_lines
        rows = itertools.islice(read(peeked, format_.packing), _PEEKED_ROWS)
        yield from (values for _, values in rows if isinstance(values, Mapping))
