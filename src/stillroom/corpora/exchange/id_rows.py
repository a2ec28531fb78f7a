"""Tables with a list of ids in every row, as ``datasets.map`` leaves them: Parquet, Arrow, and rows of the Hub's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stillroom.corpora.exchange.id_documents import IdDocuments, check_ids, split_documents
from stillroom.files import reading
from stillroom.types import UserError

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (".parquet", ".arrow")
_ROWS_AT_ONCE = 1000
_NAMES = ("input_ids", "tokens")


def count_groups(path: Path) -> int | None:
    """Row groups of a Parquet file or record batches of an Arrow file; None where only reading to the end tells."""
    with _table(path) as opened:
        return getattr(opened, "num_row_groups", None) or getattr(opened, "num_record_batches", None)


def id_rows(path: Path, field: str, groups: range | None, marks: tuple[int, ...], size: int) -> Iterator[IdDocuments]:
    """The documents of some row groups (None: of all), a thousand rows at once; a row is one, or several with marks."""
    row = 0
    with _table(path) as opened:
        name = _column(opened.schema_arrow if path.suffix == ".parquet" else opened.schema, field, path)
        for batch in _batches(opened, name, groups):
            lists = batch.column(name)
            yield _documents(lists, f"{path}: column {name}, after row {row}", marks, size)
            row += len(lists)


def _documents(lists: pa.Array, where: str, marks: tuple[int, ...], size: int) -> IdDocuments:
    from pyarrow import compute

    flat = lists.flatten()
    if flat.null_count:
        raise UserError(f"{where}: a list of ids holds null, expected ids alone; write the rows again without it.")
    ids = flat.to_numpy(zero_copy_only=False)
    of_rows = compute.list_value_length(lists)  # pyright: ignore[reportAttributeAccessIssue]
    lengths = of_rows.fill_null(0).to_numpy(zero_copy_only=False)
    check_ids(ids, size, where)
    return split_documents(ids, np.cumsum(lengths, dtype=np.int64), marks)


def _batches(opened: Any, name: str, groups: range | None) -> Iterator[Any]:
    if hasattr(opened, "iter_batches"):
        yield from opened.iter_batches(
            _ROWS_AT_ONCE, row_groups=None if groups is None else list(groups), columns=[name]
        )
    elif hasattr(opened, "get_batch"):
        chosen = range(opened.num_record_batches) if groups is None else groups
        yield from (opened.get_batch(number).select([name]) for number in chosen)
    else:
        yield from (batch.select([name]) for batch in opened)


def _column(schema: pa.Schema, field: str, path: Path) -> str:
    """The column of ids: the one asked for, one with a usual name, or the only one with lists of whole numbers."""
    held = [name for name in schema.names if _holds_ids(schema.field(name).type)]
    asked = (field,) if field != "text" else _NAMES
    found = [name for name in asked if name in held] or (held if field == "text" and len(held) == 1 else [])
    if not found:
        columns = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names) or "none"
        raise UserError(
            f"{path}: has no column {' or '.join(asked)} with a list of whole numbers in each row, its columns are "
            f"{columns}; set field of this source to the one that holds token ids."
        )
    return found[0]


def _holds_ids(kind: pa.DataType) -> bool:
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and types.is_integer(kind.value_type)


@contextlib.contextmanager
def _table(path: Path) -> Iterator[Any]:
    """An open table; whatever pyarrow says of it, then or while it is read, becomes a sentence."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path}: tables need one more package; pip install 'stillroom[parquet]'.") from error
    with reading(path, "a table of token ids"):
        try:
            with pa.memory_map(str(path)) as stream:
                if path.suffix == ".parquet":
                    yield parquet.ParquetFile(stream)
                elif stream.read(6) == b"ARROW1":
                    yield pa.ipc.open_file(stream)
                else:
                    stream.seek(0)
                    yield pa.ipc.open_stream(stream)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the file system's own
                raise
            said = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
            raise UserError(
                f"{path}: is no table that pyarrow reads, or is damaged ({said}); fetch it again."
            ) from error
