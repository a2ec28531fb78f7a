"""Tables with a list of ids in every row, as ``datasets.map`` leaves them: Parquet, Arrow, and rows of the Hub's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from stillroom.corpora.exchange.id_documents import IdDocuments, check_ids, split_documents
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.table_files import opened_table, table_batches
from stillroom.types import UserError

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (".parquet", ".arrow")
_NAMES = ("input_ids", "tokens")


def id_rows(part: Part, field: str, marks: tuple[int, ...], size: int) -> Iterator[IdDocuments]:
    """The documents of a part of a table; a row is one, or several with marks."""
    kind, row = PurePath(part.file).suffix[1:], 0
    with opened_table(part.file, "", kind) as table:
        name = _column(table.schema_arrow if kind == "parquet" else table.schema, field, part.place)
        for batch in table_batches(table, part, [name]):
            lists = batch.column(name)
            yield _documents(lists, f"{part.place}: column {name}, after row {row}", marks, size)
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


def _column(schema: pa.Schema, field: str, place: str) -> str:
    """The column of ids: the one asked for, one with a usual name, or the only one with lists of whole numbers."""
    held = [name for name in schema.names if _holds_ids(schema.field(name).type)]
    asked = (field,) if field != "text" else _NAMES
    found = [name for name in asked if name in held] or (held if field == "text" and len(held) == 1 else [])
    if not found:
        columns = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names) or "none"
        raise UserError(
            f"{place}: has no column {' or '.join(asked)} with a list of whole numbers in each row, its columns are "
            f"{columns}; set field of this source to the one that holds token ids."
        )
    return found[0]


def _holds_ids(kind: pa.DataType) -> bool:
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and types.is_integer(kind.value_type)
