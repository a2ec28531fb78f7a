"""Rows of files: JSON, JSON lines, CSV, Parquet and Arrow, packed or not; whatever is wrong with one is a sentence."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stillroom.corpora.sources.table_rows import Row, shown
from stillroom.files import reading
from stillroom.packed import DAMAGES, UNPACKERS
from stillroom.types import UserError

_BATCH = 1000  # rows of a table in memory


def file_rows(path: Path, field: str) -> Iterator[Row]:
    """The rows of a file, read as its name says (JSON lines where it says nothing); tables give ``field`` alone."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    unpack = UNPACKERS.get(suffixes[-1]) if suffixes else None
    kind = (suffixes[:-1] if unpack else suffixes)[-1:]
    reader = _READERS.get(kind[0] if kind else "", _json_rows)
    with reading(path, "a file of rows"), path.open("rb") as handle, _undamaged(path):
        yield from reader(path, unpack(handle) if unpack else handle, field)


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Turns what unpackers and parsers say of a damaged file into a sentence."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error.reason}), expected rows in UTF-8; convert it.") from error
    except DAMAGES as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file system's own, not an unpacker's
            raise
        raise UserError(f"{path}: is damaged or no packed file ({error}); expected rows; fetch it again.") from error


def _json_rows(path: Path, stream: BinaryIO, field: str) -> Iterator[Row]:
    """One object a line, or one list of objects."""
    lines = (line for line in enumerate(stream, 1) if line[1].strip())
    for number, line in lines:
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.lstrip().startswith(b"["):
            values = _parsed(path, line + stream.read(), f"from line {number} on")
            yield from ((f"item {place}", _object(path, f"item {place}", item)) for place, item in enumerate(values, 1))
            return
        yield f"line {number}", _object(path, f"line {number}", _parsed(path, line, f"line {number}"))


def _parsed(path: Path, data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {where} is not UTF-8 (byte {error.start} of it); convert the file.") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(
            f"{path}: {where} is not valid JSON ({reason}); expected one object a line, or one list of objects; mend "
            "it, or fetch the file again."
        ) from error


def _object(path: Path, where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{path}: {where} holds {shown(value)}, expected an object with a text in one of its fields.")
    return value


def _separated(delimiter: str) -> Callable[[Path, BinaryIO, str], Iterator[Row]]:
    """A reader of CSV whose first line names the columns."""

    def rows(path: Path, stream: BinaryIO, field: str) -> Iterator[Row]:
        csv.field_size_limit(2**31 - 1)
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            lines = _lines(path, reader)
            names = next(lines, [])
            if names.count(field) > 1:
                raise UserError(f"{path}: has {names.count(field)} columns {field!r}, expected one; rename the others.")
            for cells in lines:
                where = f"the row that ends at line {reader.line_num}"
                if len(cells) != len(names):
                    raise UserError(
                        f"{path}: {where} has {len(cells)} cells, expected the {len(names)} of the first line; quote "
                        f"texts that hold {delimiter!r}."
                    )
                yield where, dict(zip(names, cells, strict=True))

    return rows


def _lines(path: Path, reader: Any) -> Iterator[list[str]]:
    """The lines of a CSV reader but empty ones."""
    try:
        yield from (cells for cells in reader if cells)
    except csv.Error as error:
        raise UserError(
            f"{path}: line {reader.line_num} is not valid CSV ({error}); mend it or save it again."
        ) from error


def _table_rows(open_batches: Callable[[Any, BinaryIO, str], Iterator[Any]]) -> Callable[..., Iterator[Row]]:
    """A reader of Parquet or Arrow by pyarrow."""

    def rows(path: Path, stream: BinaryIO, field: str) -> Iterator[Row]:
        try:
            import pyarrow
        except ImportError as error:
            raise UserError(
                f"{path}: reading this kind of table needs one more package; pip install 'stillroom[parquet]'."
            ) from error
        number = 0
        try:
            for batch in open_batches(pyarrow, stream, field):
                for values in batch.to_pylist():
                    number += 1
                    yield f"row {number}", values
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(
                f"{path}: is no table that pyarrow reads, or is damaged ({_first_line(error)}); fetch it again."
            ) from error

    return rows


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]


def _wanted(names: list[str], field: str) -> list[str]:
    """The columns to read: the field's alone, or all where it is not there, so that they can be named."""
    column = field if field in names else field.partition(".")[0]
    return [column] if column in names else names


def _parquet_batches(pyarrow: Any, stream: BinaryIO, field: str) -> Iterator[Any]:
    from pyarrow import parquet

    file = parquet.ParquetFile(stream)
    yield from file.iter_batches(_BATCH, columns=_wanted(file.schema_arrow.names, field))


def _arrow_batches(pyarrow: Any, stream: BinaryIO, field: str) -> Iterator[Any]:
    """Record batches of the file or of the stream format."""
    if stream.peek(6)[:6] == b"ARROW1":  # type: ignore[attr-defined]
        file = pyarrow.ipc.open_file(stream)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
    else:
        batches = iter(pyarrow.ipc.open_stream(stream))
    for batch in batches:
        yield batch.select(_wanted(batch.schema.names, field))


_READERS: dict[str, Callable[[Path, BinaryIO, str], Iterator[Row]]] = {
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".jsonlines": _json_rows,
    ".json": _json_rows,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _table_rows(_parquet_batches),
    ".arrow": _table_rows(_arrow_batches),
    ".feather": _table_rows(_arrow_batches),
}

ROW_SUFFIXES = frozenset(_READERS)
"""Ends of names of files that hold rows."""
