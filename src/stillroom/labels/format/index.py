"""Gathers the tables of all shards into one sorted index, in memory that does not grow with the store.

Records are dealt into buckets by the first bits of their key, on disk; each bucket is sorted on its own and the sorted
buckets, one after another, are the index. Imports no torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xxhash

from stillroom import disk
from stillroom.files import disk_errors
from stillroom.labels.format.layout import CHECK_BYTES, COLUMNS, ShardTable, index_header, index_size, key_halves

BUCKET_RECORDS = 1 << 20
"""Records that are sorted at one time."""
ENTRY = np.dtype(list(COLUMNS))


def write_index(path: Path, tables: Callable[[], Iterator[tuple[int, ShardTable]]], num_records: int) -> int:
    """Writes the index of ``num_records`` records and returns how many distinct sequences it holds.

    A sequence that occurs more than once is indexed where it came first. ``tables`` gives (shard number, table) in
    order. The file appears complete or not at all.
    """
    with (
        disk_errors(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".index.", ignore_cleanup_errors=True) as scratch,
    ):
        buckets = _deal(Path(scratch), tables(), num_records)
        columns = {name: (Path(scratch) / name).open("w+b") for name, _ in COLUMNS}
        count = 0
        for bucket in buckets:
            entries = _first_of_each(np.fromfile(bucket, ENTRY))
            count += len(entries)
            for name, _ in COLUMNS:
                columns[name].write(np.ascontiguousarray(entries[name]).tobytes())
        target = Path(scratch) / "whole"
        _join(target, list(columns.values()), count)
        disk.let_all_read(target)
        disk.replace(target, path)
    return count


def _deal(scratch: Path, tables: Iterator[tuple[int, ShardTable]], num_records: int) -> list[Path]:
    """Files of entries; all keys of one are below all keys of the next."""
    bits = max(0, (max(1, num_records) - 1) // BUCKET_RECORDS).bit_length()
    paths = [scratch / f"bucket-{number}" for number in range(1 << bits)]
    handles = [path.open("wb") for path in paths]
    for shard, table in tables:
        entries = np.empty(len(table.keys), ENTRY)
        halves_R2 = key_halves(table.keys)
        entries["high"], entries["low"] = halves_R2[:, 0], halves_R2[:, 1]
        entries["shard"], entries["length"], entries["offset"] = shard, table.lengths, table.offsets
        bucket_R = (halves_R2[:, 0] >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(entries), int)
        for number in np.unique(bucket_R):
            handles[number].write(entries[bucket_R == number].tobytes())
    for handle in handles:
        handle.close()
    return paths


def _first_of_each(entries: np.ndarray) -> np.ndarray:
    """Entries sorted by key, the first occurrence of each."""
    ordered = entries[np.lexsort((entries["offset"], entries["shard"], entries["low"], entries["high"]))]
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = (ordered["high"][1:] != ordered["high"][:-1]) | (ordered["low"][1:] != ordered["low"][:-1])
    return ordered[is_first]


def _join(target: Path, columns: list, count: int) -> None:
    state = xxhash.xxh3_64()
    with target.open("wb") as whole:
        for piece in _pieces(index_header(count), columns):
            state.update(piece)
            whole.write(piece)
        whole.write(state.digest())
        whole.flush()
        disk.flush(whole.fileno())
    assert target.stat().st_size == index_size(count), CHECK_BYTES


def _pieces(header: bytes, columns: list) -> Iterator[bytes]:
    yield header
    for column in columns:
        column.seek(0)
        while piece := column.read(1 << 22):
            yield piece
        column.close()
