"""Byte symbols to few bytes: one zstd frame per column of a record, and pairs of numbers folded into one symbol.

Only the entropy coder of zstd (RFC 8878, Huffman-coded literals) is wanted here. A dictionary, fitted to a sample,
carries the code, so that a column need not bring its own. Imports no torch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zstandard

from stillroom.labels.codecs import huffman
from stillroom.labels.format.layout import Damaged

DICTIONARY_BYTES = 400
ESCAPE = 128
"""Symbol of a pair that is not among the commonest, as many as have a symbol below."""
_SAYS_SIZE = 0xE0
"""Bits of a frame's first byte that are 0 where the frame does not hold the size of its content."""
_COUNT = struct.Struct("<H")
_WRITTEN = np.dtype([("first", "u1"), ("second", "<u2")])


@dataclass(frozen=True)
class SymbolCoder:
    """Columns of uint8 symbols, each as one frame without magic number, size or checksum.

    A column of nothing but the ``usual`` symbol has no bytes.
    """

    usual: int = 0
    dictionary: bytes = b""

    @classmethod
    def train(cls, samples: Sequence[np.ndarray]) -> SymbolCoder:
        """A coder that fits some columns: with the code of their symbols, or whatever takes fewer bytes.

        The exact code knows only symbols that occur, and none above 128; a column with others brings its own code. The
        one of zstd's trainer knows all 256, which costs room.
        """
        counts = np.bincount(np.concatenate(samples), minlength=256)
        usual = int(counts.argmax())
        codes = (b"", huffman.dictionary(counts), _trained(samples))
        return min((cls(usual, code) for code in codes), key=lambda coder: sum(len(coder.encode(x)) for x in samples))

    @cached_property
    def _dictionary(self) -> zstandard.ZstdCompressionDict | None:
        return zstandard.ZstdCompressionDict(self.dictionary) if self.dictionary else None

    @cached_property
    def _code(self) -> huffman.Code | None:
        return huffman.code_of(self.dictionary)

    @cached_property
    def _compressor(self) -> zstandard.ZstdCompressor:
        parameters = zstandard.ZstdCompressionParameters(
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            strategy=zstandard.STRATEGY_GREEDY,
            window_log=17,
            hash_log=6,
            chain_log=6,
            search_log=1,
            min_match=7,
            write_content_size=False,
            write_checksum=False,
            write_dict_id=False,
        )
        return zstandard.ZstdCompressor(compression_params=parameters, dict_data=self._dictionary)

    @cached_property
    def _decompressor(self) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(dict_data=self._dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS)

    def encode(self, symbols: np.ndarray) -> bytes:
        """The frame of a column of uint8; nothing for an empty column and for one of the usual symbol alone."""
        if not len(symbols) or (symbols == self.usual).all():
            return b""
        frame = self._compressor.compress(symbols.tobytes())
        short = self._code.frame(symbols) if self._code is not None else None
        return frame if short is None or len(frame) <= len(short) else short

    def decode(self, frames: Sequence[bytes | memoryview], counts: Sequence[int]) -> np.ndarray:
        """The columns of several frames, one after another; ``counts`` are their symbols."""
        usual = bytes([self.usual])
        try:
            decompress = self._decompressor.decompress
            columns = [
                decompress(_sized(frame, count), count) if frame else usual * count
                for frame, count in zip(frames, counts, strict=True)
            ]
        except zstandard.ZstdError as error:
            raise Damaged(f"a column of a record cannot be decoded ({error}); label this shard again.") from error
        symbols = np.frombuffer(b"".join(columns), np.uint8)
        if len(symbols) != sum(counts):
            raise Damaged("a column of a record has another length than it should; label this shard again.")
        return symbols


def _sized(frame: bytes | memoryview, count: int) -> bytes | memoryview:
    """The frame, if it says nothing of its size or the size that is expected: what it says would be allocated."""
    if frame[0] & _SAYS_SIZE:
        size = zstandard.get_frame_parameters(frame, format=zstandard.FORMAT_ZSTD1_MAGICLESS).content_size
        if size not in (count, zstandard.CONTENTSIZE_UNKNOWN):
            raise Damaged("a column of a record has another length than it should; label this shard again.")
    return frame


def _trained(samples: Sequence[np.ndarray]) -> bytes:
    """A dictionary by zstd's trainer; nothing where the sample is too small for it."""
    pieces: list[Any] = [sample.tobytes() for sample in samples if len(sample) >= 8]
    try:
        return zstandard.train_dictionary(DICTIONARY_BYTES, pieces, k=64, d=8, steps=1).as_bytes()
    except zstandard.ZstdError:
        return b""


@dataclass(frozen=True)
class PairCoder:
    """Two numbers, below 256 and below 65,536, as one symbol.

    The 128 commonest pairs have one each, others are written out after the column. Two numbers that go together cost
    less as a pair than each on its own. ``first``, ``second`` hold the pairs.
    """

    first: np.ndarray  # int32 (at most 255,)
    second: np.ndarray  # int32

    @classmethod
    def train(cls, first_N: np.ndarray, second_N: np.ndarray) -> PairCoder:
        """The commonest pairs of a sample."""
        pairs, counts = np.unique(np.stack([first_N, second_N], -1).astype(np.int32), axis=0, return_counts=True)
        kept = pairs[np.argsort(-counts, kind="stable")[:ESCAPE]]
        return cls(np.ascontiguousarray(kept[:, 0]), np.ascontiguousarray(kept[:, 1]))

    def encode(self, first_N: np.ndarray, second_N: np.ndarray) -> tuple[np.ndarray, bytes]:
        """Symbols (N,) uint8, and the pairs written out (3 bytes each)."""
        known = _pair_key(self.first, self.second)
        order = np.argsort(known)
        wanted = _pair_key(first_N, second_N)
        place = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
        symbol = order[place]
        is_known = known[symbol] == wanted
        rest = np.empty(int((~is_known).sum()), _WRITTEN)
        rest["first"], rest["second"] = first_N[~is_known], second_N[~is_known]
        return np.where(is_known, symbol, ESCAPE).astype(np.uint8), rest.tobytes()

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        tables = np.zeros((2, 256), np.int32)
        tables[0, : len(self.first)], tables[1, : len(self.second)] = self.first, self.second
        return tables[0], tables[1]

    def decode(self, symbols_N: np.ndarray, rest: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Both numbers (N,), int32; ``rest`` are the pairs written out, of all columns in order."""
        first_table, second_table = self._tables
        index = symbols_N.astype(np.intp)
        first_N, second_N = first_table.take(index), second_table.take(index)
        escaped = np.flatnonzero(symbols_N == ESCAPE)
        if len(rest) != len(escaped) * _WRITTEN.itemsize:
            raise Damaged("a column of a record lacks pairs that it names; label this shard again.")
        pairs = np.frombuffer(rest, _WRITTEN)
        first_N[escaped], second_N[escaped] = pairs["first"], pairs["second"]
        return first_N, second_N

    def to_bytes(self) -> bytes:
        """Number of pairs (u16), then the first numbers, then the second (i32 each)."""
        return _COUNT.pack(len(self.first)) + self.first.astype("<i4").tobytes() + self.second.astype("<i4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> PairCoder:
        """The inverse of ``to_bytes``."""
        (count,) = _COUNT.unpack(data[:2])
        if count > ESCAPE or len(data) != _COUNT.size + 8 * count:
            raise Damaged("the codebook's pairs have another number than they should; label into a new folder.")
        numbers = np.frombuffer(data, "<i4", 2 * count, 2).astype(np.int32)
        return cls(numbers[:count], numbers[count:])


def _pair_key(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first.astype(np.int64) << 32 | (second.astype(np.int64) & 0xFFFFFFFF)
