"""First, plain codec: columns under zstd."""

from __future__ import annotations

import struct

import numpy as np
import zstandard

from stillroom.config import LabelsConfig
from stillroom.teachers.rows import Rows, join

_SIZES = struct.Struct("<III")


class Codec:
    """Records to bytes and back."""

    def __init__(self, config: LabelsConfig, vocab_size: int):
        self.config = config
        self.vocab_size = vocab_size

    @classmethod
    def train(cls, config: LabelsConfig, vocab_size: int, rows: Rows) -> Codec:
        """A codec fitted to a sample of rows."""
        return cls(config, vocab_size)

    def to_bytes(self) -> bytes:
        """The codebook."""
        return struct.pack("<I", self.vocab_size)

    @classmethod
    def from_bytes(cls, data: bytes, config: LabelsConfig) -> Codec:
        """The codec of a codebook."""
        return cls(config, struct.unpack("<I", data)[0])

    def encode(self, tokens_T: np.ndarray, rows: Rows) -> bytes:
        """One record."""
        kind = np.uint8 if self.config.codec == "sampled" else np.float32
        columns = [
            tokens_T.astype("<i4"), rows.num_N, rows.entropy_N, rows.gold_logprob_N, rows.gold_rank_N,
            rows.ids_E, rows.values_E.astype(kind),
        ]  # fmt: skip
        if rows.tail_N is not None:
            columns.append(rows.tail_N)
        body = b"".join(column.tobytes() for column in columns)
        return _SIZES.pack(len(rows), len(rows.ids_E), len(body)) + zstandard.compress(body, 3)

    def decode(self, payloads: list[memoryview]) -> Rows:
        """Rows of several records, one after another."""
        return join([self._one(payload) for payload in payloads])

    def tokens(self, payload: memoryview) -> np.ndarray:
        """The token ids of a record, int32 (T,)."""
        length, _, size = _SIZES.unpack(payload[:12])
        return np.frombuffer(zstandard.decompress(payload[12:], size), np.int32, length)

    def _one(self, payload: memoryview) -> Rows:
        length, entries, size = _SIZES.unpack(payload[:12])
        body = zstandard.decompress(payload[12:], size)
        value = np.uint8 if self.config.codec == "sampled" else np.float32
        start = 4 * length

        def take(kind: type, count: int) -> np.ndarray:
            nonlocal start
            column = np.frombuffer(body, kind, count, start)
            start += column.nbytes
            return column

        return Rows(
            num_N=take(np.uint16, length),
            entropy_N=take(np.float32, length),
            gold_logprob_N=take(np.float32, length),
            gold_rank_N=take(np.int32, length),
            ids_E=take(np.int32, entries),
            values_E=take(value, entries),
            tail_N=None if self.config.codec == "sampled" else take(np.float32, length),
        )
