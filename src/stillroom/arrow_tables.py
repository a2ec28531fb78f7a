"""Parquet read by pyarrow, a few megabytes at a time; whatever it says of a damaged file is one sentence.

Imports pyarrow only when a table is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from stillroom.types import Unreadable, UserError

_ROWS = 1000
_BATCH_BYTES = 1 << 24
_PAGE_BYTES = 1 << 20  # of a column that are fetched at a time


def arrow(place: str) -> Any:
    """The module ``pyarrow``; a ``UserError`` that names what to install where there is none. ``place`` needs it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{place}: reading or writing such a table needs one more package; pip install 'stillroom[parquet]'."
        ) from error
    return pyarrow


@contextlib.contextmanager
def whole_table(place: str, kind: str = "Parquet", by: str = "pyarrow") -> Iterator[None]:
    """Turns whatever the library ``by`` raises of a damaged table, which is of many kinds, into a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise Unreadable(
            f"{place}: cannot be read as {kind} by {by} ({why}); expected a whole file: fetch or write it again."
        ) from error


def parquet_file(source: Any, place: str) -> Any:
    """A ``ParquetFile`` of a path or an open file; a column is never held whole, and checksums are looked at."""
    parquet = arrow(place).parquet
    with whole_table(place):
        return parquet.ParquetFile(source, buffer_size=_PAGE_BYTES, pre_buffer=False, page_checksum_verification=True)


def parquet_batches(
    file: Any, place: str, groups: Sequence[int] | None = None, columns: list[str] | None = None, most: int = _ROWS
) -> Iterator[Any]:
    """Record batches of some row groups (all) and columns (all), of at most ``most`` rows and about 16 MiB."""
    for group in range(file.num_row_groups) if groups is None else groups:
        with whole_table(f"{place}, row group {group}"):
            found = file.metadata.row_group(group)
            rows = rows_at_once(found.total_byte_size, found.num_rows, most)
            yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)


def rows_at_once(size: int, rows: int, most: int = _ROWS) -> int:
    """How many of so many rows of ``size`` bytes together are held at one time."""
    return max(1, min(most, _BATCH_BYTES * max(1, rows) // max(1, size)))
