"""A record's bytes: how many bytes each column takes, then the columns.

Letters: N positions, T positions of a record, R records. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from stillroom.labels.codecs.symbols import SymbolCoder
from stillroom.labels.format.layout import Damaged


@dataclass(frozen=True)
class Columns:
    """One record as columns: symbols for the entropy coder, and plain bytes."""

    symbols: dict[str, np.ndarray] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)


def pack_record(columns: Columns, coders: Mapping[str, SymbolCoder], names: Sequence[str]) -> bytes:
    """Width of a size (1 byte: 2 or 4), sizes of the columns in the order of ``names``, columns."""
    parts = [coders[name].encode(columns.symbols[name]) if name in coders else columns.plain[name] for name in names]
    sizes = [len(part) for part in parts]
    width = 2 if max(sizes) < 1 << 16 else 4
    return bytes([width]) + np.array(sizes, f"<u{width}").tobytes() + b"".join(parts)


class PackedRecords:
    """R records of T positions each that are decoded together, column by column."""

    def __init__(
        self, payloads: Sequence[memoryview], coders: Mapping[str, SymbolCoder], names: Sequence[str], length: int
    ):
        self._coders, self.length = coders, length
        self._place = {name: place for place, name in enumerate(names)}
        self.count = len(payloads)
        self._parts = _parts(payloads, len(names))

    def __len__(self) -> int:
        """R."""
        return self.count

    def symbols(self, name: str, counts_R: np.ndarray | None = None) -> np.ndarray:
        """A column's symbols over all records; ``counts_R`` per record, T each where not given."""
        place = self._place[name]
        counts = [self.length] * self.count if counts_R is None else counts_R.tolist()
        return self._coders[name].decode([parts[place] for parts in self._parts], counts)

    def plain(self, name: str) -> list[memoryview]:
        """A plain column's bytes, one piece per record."""
        place = self._place[name]
        return [parts[place] for parts in self._parts]

    def joined(self, name: str) -> bytes:
        """A plain column's bytes over all records."""
        return b"".join(self.plain(name))

    def bits(self, name: str, width: int = 1) -> np.ndarray:
        """A plain column of ``width`` bits per position (N,), uint8; every record begins a byte of its own."""
        size = -(-width * self.length // 8)
        data = self.joined(name)
        if len(data) != size * len(self):
            raise Damaged("a column of bits has another length than it should; label this shard again.")
        flat = np.unpackbits(np.frombuffer(data, np.uint8)).reshape(len(self), 8 * size)
        flat = flat[:, : width * self.length].reshape(-1, width)
        return flat[:, 0] if width == 1 else np.packbits(flat, 1).reshape(-1) >> (8 - width)

    def per_record(self, sizes_N: np.ndarray) -> np.ndarray:
        """Sums (R,) int64 over the positions of each record."""
        return sizes_N.reshape(self.count, self.length).sum(1, dtype=np.int64)


def _parts(payloads: Sequence[memoryview], count: int) -> list[list[memoryview]]:
    """The columns of every record."""
    widths = {payload[0] if len(payload) else 0 for payload in payloads}
    if len(widths) > 1:  # records of different widths, one by one
        return [parts for payload in payloads for parts in _parts([payload], count)]
    width = widths.pop() if widths else 2
    start = 1 + count * width
    if width not in (2, 4) or min(map(len, payloads), default=start) < start:
        raise Damaged("a record is too short; label this shard again.")
    heads = b"".join([payload[1:start] for payload in payloads])
    ends = np.frombuffer(heads, f"<u{width}").reshape(-1, count).cumsum(1, dtype=np.int64) + start
    if ends[:, -1].tolist() != [len(payload) for payload in payloads]:
        raise Damaged("the columns of a record do not fill it; label this shard again.")
    return [
        [payload[begin:end] for begin, end in pairwise((start, *places))]
        for payload, places in zip(payloads, ends.tolist(), strict=True)
    ]
