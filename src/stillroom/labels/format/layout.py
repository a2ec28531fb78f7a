"""The bytes of shards and of the index: where everything lies, and how damage is noticed.

The specification is ``docs/design/label-store.md``; integers are little-endian. Imports numpy and xxhash only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from stillroom.files import read_bytes, reading
from stillroom.types import UserError

SCHEMA = 3
"""Version of the format; a reader refuses a store of any other one."""
SHARD_MAGIC = b"STILLSHD"
INDEX_MAGIC = b"STILLIDX"
CHECK_BYTES = 8
_SHARD_HEADER = struct.Struct("<8sIIII8sQQdd")
"""Magic, schema, records, T, reserved, codebook hash, then ``ShardCounts``."""
_INDEX_HEADER = struct.Struct("<8sIIQ")  # magic, schema, reserved, records
TABLE = np.dtype([("key", "V16"), ("length", "<u4")])
"""One record of a shard: its key and the bytes that it takes, checksum included."""
COLUMNS = (("high", "<u8"), ("low", "<u8"), ("shard", "<u4"), ("length", "<u4"), ("offset", "<u8"))
"""Columns of the index, each contiguous over all records, sorted by key.

The key's halves are numbers that sort like it, in the machine's own byte order: numpy would copy all of a column in
another one before it searches there."""


class Damaged(UserError):
    """A file of the store does not hold what was written to it."""


def checksum(*parts: bytes | memoryview) -> bytes:
    """The 8-byte xxh3 hash of some bytes."""
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.digest()


def record_keys(tokens_BT: np.ndarray) -> np.ndarray:
    """Keys (B,) of 16 bytes: xxh3_128 of each sequence's ids as little-endian int32."""
    rows_BT = np.ascontiguousarray(tokens_BT, dtype="<i4")
    return np.array([xxhash.xxh3_128_digest(row) for row in rows_BT], dtype="S16").view("V16")


def key_halves(keys_B: np.ndarray) -> np.ndarray:
    """Keys as two native uint64 (B, 2), big-endian halves first to last, so that they sort like the bytes."""
    return np.ascontiguousarray(keys_B).view(">u8").reshape(-1, 2).astype(np.uint64)


class ShardCounts(NamedTuple):
    """Sums over the positions of a shard, so that a store can be summed up without being decoded."""

    entries: int = 0
    targets: int = 0
    entropy_nats: float = 0.0
    gold_nats: float = 0.0

    def plus(self, other: ShardCounts) -> ShardCounts:
        """Field by field."""
        return ShardCounts(
            self.entries + other.entries,
            self.targets + other.targets,
            self.entropy_nats + other.entropy_nats,
            self.gold_nats + other.gold_nats,
        )


@dataclass(frozen=True)
class ShardTable:
    """What a shard says of itself: record keys, where in the file each record lies, and its sums."""

    keys: np.ndarray  # V16 (R,)
    offsets: np.ndarray  # uint64 (R,)
    lengths: np.ndarray  # uint32 (R,)
    counts: ShardCounts


def pack_shard(
    keys: np.ndarray, payloads: Sequence[bytes], sequence_length: int, codebook: bytes, counts: ShardCounts
) -> bytes:
    """The bytes of a shard; every record carries a checksum of its key and payload."""
    header = _SHARD_HEADER.pack(SHARD_MAGIC, SCHEMA, len(payloads), sequence_length, 0, codebook, *counts)
    records = [payload + checksum(key.tobytes(), payload) for key, payload in zip(keys, payloads, strict=True)]
    table = np.empty(len(records), TABLE)
    table["key"] = keys
    table["length"] = [len(record) for record in records]
    return b"".join((header, *records, table.tobytes(), checksum(header, table.tobytes())))


def shard_tokens(path: Path) -> int:
    """Tokens of a shard: records times T, by its header alone; 0 where it has none, or was just removed."""
    try:
        with path.open("rb") as stream:
            _, _, num_records, length, *_ = _SHARD_HEADER.unpack(stream.read(_SHARD_HEADER.size))
    except (OSError, struct.error):
        return 0
    return num_records * length


def read_table(data: memoryview | bytes, name: str, codebook: bytes | None = None) -> ShardTable:
    """The table of a shard from its bytes; raises ``Damaged`` when anything but a record is not as written."""
    if len(data) < _SHARD_HEADER.size + CHECK_BYTES or bytes(data[:8]) != SHARD_MAGIC:
        raise damaged(name, "it does not begin like a shard")
    _, schema, num_records, _, _, book, *counts = _SHARD_HEADER.unpack(data[: _SHARD_HEADER.size])
    start = len(data) - CHECK_BYTES - num_records * TABLE.itemsize
    if start < _SHARD_HEADER.size:
        raise damaged(name, "it is shorter than its table")
    raw = bytes(data[start:-CHECK_BYTES])
    if checksum(bytes(data[: _SHARD_HEADER.size]), raw) != bytes(data[-CHECK_BYTES:]):
        raise damaged(name, "its table does not match its checksum")
    check_schema(schema, name)
    if codebook is not None and book != codebook:
        raise damaged(name, "it was written with another codebook than the store's")
    table = np.frombuffer(raw, TABLE)
    ends = _SHARD_HEADER.size + np.cumsum(table["length"], dtype=np.uint64)
    if len(ends) and int(ends[-1]) != start:
        raise damaged(name, "its records do not fill it")
    return ShardTable(
        keys=np.ascontiguousarray(table["key"]),
        offsets=ends - table["length"],
        lengths=table["length"],
        counts=ShardCounts(*counts),
    )


def is_whole(record: memoryview, key: bytes) -> bool:
    """Whether the checksum of a record holds."""
    return len(record) >= CHECK_BYTES and checksum(key, record[:-CHECK_BYTES]) == record[-CHECK_BYTES:]


def open_record(record: bytes | memoryview, key: bytes, name: str) -> memoryview:
    """The payload of a record whose checksum holds; raises ``Damaged`` otherwise."""
    view = memoryview(record)
    if not is_whole(view, key):
        raise damaged(name, f"the record of sequence {key.hex()[:12]} does not match its checksum")
    return view[:-CHECK_BYTES]


def record_payloads(data: memoryview | bytes, name: str, codebook: bytes) -> list[memoryview]:
    """The payloads of a shard in order; raises ``Damaged`` when any byte of it is not as written."""
    table, view = read_table(data, name, codebook), memoryview(data)
    places = zip(table.keys, table.offsets.tolist(), table.lengths.tolist(), strict=True)
    return [open_record(view[start : start + length], key.tobytes(), name) for key, start, length in places]


def shard_name(shard: int) -> str:
    """Path of a shard inside the store."""
    return f"shards/{shard:08d}.bin"


def read_codebook(path: Path) -> bytes:
    """The codebook without its checksum; raises ``Damaged`` when that does not hold."""
    data = read_bytes(path, "the codebook of a label store")
    if checksum(data[:-CHECK_BYTES]) != data[-CHECK_BYTES:]:
        raise Damaged(f"{path}: is damaged (it does not match its checksum); label into a new folder.")
    return data[:-CHECK_BYTES]


def damaged(name: str, what: str) -> Damaged:
    """The error of a damaged file: what is wrong with it and what mends it."""
    return Damaged(f"{name}: is damaged ({what}); run the label command again, which makes anew what is damaged.")


def check_schema(schema: int, name: str) -> None:
    """Refuses a file of another version of the format."""
    if schema > SCHEMA:
        raise UserError(f"{name}: has schema {schema}, this version reads {SCHEMA}; upgrade stillroom to read it.")
    if schema < SCHEMA:
        raise UserError(
            f"{name}: has schema {schema}, this version reads {SCHEMA}; run the label command into a new folder, or "
            "read it with stillroom before labels took fewer bytes."
        )


class Index:
    """All records of a store, sorted by key and memory-mapped: finds where a sequence lies."""

    def __init__(self, path: Path):
        self.path = path
        with reading(path, "the index of a label store"):
            size = path.stat().st_size
        if size < _INDEX_HEADER.size + CHECK_BYTES:
            raise damaged(str(path), "it is too short")
        self._bytes = np.memmap(path, np.uint8, mode="r")
        magic, schema, _, count = _INDEX_HEADER.unpack(self._bytes[: _INDEX_HEADER.size].tobytes())
        if magic != INDEX_MAGIC or size != index_size(count):
            raise damaged(str(path), "its size does not fit what it says it holds")
        check_schema(schema, str(path))
        self.columns: dict[str, np.ndarray] = {}
        start = _INDEX_HEADER.size
        for name, kind in COLUMNS:
            end = start + count * np.dtype(kind).itemsize
            self.columns[name] = self._bytes[start:end].view(np.ndarray).view(kind)
            start = end

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.columns["high"])

    def find(self, keys_B: np.ndarray) -> np.ndarray:
        """Row (B,) of each key in the index, -1 where it has none."""
        halves_B2 = key_halves(keys_B)
        high, low = self.columns["high"], self.columns["low"]
        if not len(high):
            return np.full(len(halves_B2), -1)
        rows_B = high.searchsorted(halves_B2[:, 0])
        near_B = np.minimum(rows_B, len(high) - 1)
        is_found_B = (high[near_B] == halves_B2[:, 0]) & (low[near_B] == halves_B2[:, 1])
        found_B = np.where(is_found_B, near_B, -1)
        for place in np.flatnonzero(~is_found_B).tolist():
            row, (upper, lower) = int(rows_B[place]), halves_B2[place].tolist()
            while row < len(high) and high[row] == upper:  # only where 64 bits collide
                if low[row] == lower:
                    found_B[place] = row
                    break
                row += 1
        return found_B

    def keys(self, rows: np.ndarray | slice) -> np.ndarray:
        """Keys (V16) of some rows."""
        high, low = self.columns["high"][rows], self.columns["low"][rows]
        return np.stack([high, low], 1).astype(">u8").view("V16").reshape(-1)

    def verify(self) -> None:
        """Reads the whole file and raises ``Damaged`` unless its checksum holds."""
        if checksum(self._bytes[:-CHECK_BYTES].data) != self._bytes[-CHECK_BYTES:].tobytes():
            raise damaged(str(self.path), "it does not match its checksum")


def index_size(count: int) -> int:
    """Bytes of an index of ``count`` records."""
    return _INDEX_HEADER.size + count * sum(np.dtype(kind).itemsize for _, kind in COLUMNS) + CHECK_BYTES


def index_header(count: int) -> bytes:
    """The first bytes of an index of ``count`` records."""
    return _INDEX_HEADER.pack(INDEX_MAGIC, SCHEMA, 0, count)
