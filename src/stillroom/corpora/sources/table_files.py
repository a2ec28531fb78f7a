"""Rows of Parquet and Arrow files by pyarrow, and how many groups of rows they hold."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

from stillroom.arrow_tables import arrow, parquet_batches, parquet_file, rows_at_once, whole_table
from stillroom.corpora.sources.opening import is_url, unpacked
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.table_rows import Row, RowText, check_names
from stillroom.http import printable_url
from stillroom.types import Unreadable

_COPIED = 1 << 20


def table_sample(file: str, packing: str, kind: str) -> Mapping[str, Any]:
    """The columns of a file as those of a row; what they hold is not read."""
    with opened_table(file, packing, kind) as table:
        return _as_row(table.schema_arrow if kind == "parquet" else table.schema)


def _as_row(schema: Any) -> dict[str, Any]:
    return {field.name: _as_row(field.type) if hasattr(field.type, "fields") else None for field in schema}


def group_sizes(file: str, kind: str) -> list[int]:
    """Bytes of text in each row group or record batch, about."""
    with opened_table(file, "", kind) as table:
        if kind == "parquet":
            return [table.metadata.row_group(group).total_byte_size for group in range(table.num_row_groups)]
        return [batch.nbytes for batch in _arrow_batches(table, 0, None)]


def table_rows(part: Part, packing: str, kind: str, text: RowText) -> Iterator[Row]:
    """The rows of a part of a file, with the fields that are needed."""
    with opened_table(part.file, packing, kind) as table:
        names = column_names(table)
        columns = text.columns(names)
        check_names(names, columns, part.place)
        number, behind = 0, f" behind group {part.start}" if part.start else ""
        for batch in table_batches(table, part, columns):
            for values in _values(batch):
                number += 1
                where = f"row {number}{behind}"
                if isinstance(values, str):
                    yield where, Unreadable(f"{part.place}: {where} {values}; convert it.")
                else:
                    yield where, values


def column_names(table: Any) -> list[str]:
    """The columns of a table as ``opened_table`` gives it."""
    return (table.schema_arrow if hasattr(table, "schema_arrow") else table.schema).names


def table_batches(table: Any, part: Part, columns: list[str]) -> Iterator[Any]:
    """The record batches of a part of a table, with these columns."""
    stop = part.stop if part.unit == "groups" else None
    if hasattr(table, "num_row_groups"):
        yield from parquet_batches(table, part.place, range(table.num_row_groups)[part.start : stop], columns)
    else:
        yield from (batch.select(columns) for batch in _arrow_batches(table, part.start, stop))


def _values(batch: Any) -> Iterator[Mapping[str, Any] | str]:
    """The rows of a batch, each its fields or what is wrong with it."""
    step = rows_at_once(batch.nbytes, batch.num_rows)
    for start in range(0, batch.num_rows, step):
        yield from _fields(batch.slice(start, step))


def _fields(rows: Any) -> list[Any]:
    try:
        return rows.to_pylist()
    except UnicodeDecodeError as error:
        if rows.num_rows == 1:
            return [f"is not UTF-8 (byte {error.start} of a text)"]
        return [values for number in range(rows.num_rows) for values in _fields(rows.slice(number, 1))]


@contextlib.contextmanager
def opened_table(file: str, packing: str, kind: str) -> Iterator[Any]:
    """A ``ParquetFile``, or a reader of Arrow's file or stream format; of a local file nothing is copied."""
    pyarrow, place = arrow(file), printable_url(file)
    with unpacked(file, packing) as packed, _seekable(packed, packing) as stream:
        is_here = not packing and not is_url(file)
        if kind == "parquet":
            with parquet_file(file if is_here else stream, place) as table:
                yield table
            return
        with whole_table(place, "Arrow"):
            source = pyarrow.memory_map(file) if is_here else stream
            is_file = stream.read(6) == b"ARROW1"
            stream.seek(0)
            yield pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)


@contextlib.contextmanager
def _seekable(stream: BinaryIO, packing: str) -> Iterator[BinaryIO]:
    """The stream itself, or a copy on disk of one that is packed, in which nothing can be skipped."""
    if not packing:
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy, _COPIED)
        copy.seek(0)
        yield cast(BinaryIO, copy)


def _arrow_batches(table: Any, start: int, stop: int | None) -> Iterator[Any]:
    if hasattr(table, "num_record_batches"):
        yield from (table.get_batch(number) for number in range(table.num_record_batches)[start:stop])
    else:
        yield from (batch for number, batch in enumerate(table) if number >= start and (stop is None or number < stop))
