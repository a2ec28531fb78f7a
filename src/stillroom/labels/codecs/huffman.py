"""Huffman codes of byte symbols as zstd reads them (RFC 8878, sections 3.1.1.3.1, 4.2 and 5).

Zstd's compressor looks for repeats before it codes what is left, and a column of symbols that only look alike is longer
for it. So frames are written here: literals alone, coded by a code that stands in the dictionary. Any zstd decodes
them. Imports numpy only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MAX_BITS = 11
LAST_SYMBOL = 128
"""The highest symbol that a code can have whose lengths are written out plainly."""
MAX_SYMBOLS = 1 << 17
"""Symbols of one block."""
_LEAST_SYMBOLS = 6
_HEAD = struct.pack("<II", 0xEC30A437, 1 << 15)
_TAIL = bytes([0xF0, 0x03] * 3) + struct.pack("<III", 1, 4, 8) + bytes(8)
"""After the Huffman code: three codes of one symbol each, for repeats, which there are none of; offsets; content."""
_FRAME = bytes([0x00, 0x38])
"""No size, no checksum; a window of 128 KiB."""
_LAST_COMPRESSED = 0b101
_WITHOUT_CODE = 3


def lengths(counts: np.ndarray) -> np.ndarray:
    """Bits (256,) of each symbol in the best prefix code of at most ``MAX_BITS`` bits, 0 where it does not occur.

    Package-merge (Larmore and Hirschberg 1990): the cheapest coins of every denomination, paired over and over.
    """
    symbols = np.flatnonzero(counts).tolist()
    coins = sorted((int(counts[symbol]), (symbol,)) for symbol in symbols)
    paired: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(MAX_BITS):
        merged = sorted([*coins, *paired])
        paired = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(merged[0::2], merged[1::2], strict=False)]
    bits = np.zeros(256, np.int64)
    for _, members in paired[: len(symbols) - 1]:
        np.add.at(bits, list(members), 1)
    return bits


def dictionary(counts: np.ndarray) -> bytes:
    """A dictionary that holds the code of symbols that occur this often (256,); nothing where there is none to write.

    The code has every symbol up to the highest that occurs, but none above ``LAST_SYMBOL``.
    """
    counts = np.where(np.arange(256) <= LAST_SYMBOL, counts, 0)
    highest = int(np.flatnonzero(counts).max(initial=0))
    counts[:highest] = np.maximum(counts[:highest], 1)
    if np.count_nonzero(counts) < 2:
        return b""
    bits = lengths(counts)
    weights = np.where(bits > 0, bits.max() + 1 - bits, 0)
    listed = weights[: int(np.flatnonzero(weights)[-1])].astype(np.uint8)  # the last symbol's weight follows
    pairs = np.append(listed, np.zeros(len(listed) % 2, np.uint8))
    return _HEAD + bytes([127 + len(listed)]) + (pairs[0::2] << 4 | pairs[1::2]).tobytes() + _TAIL


@dataclass(frozen=True)
class Code:
    """A prefix code: ``bits`` (256,) of each symbol, 0 for symbols that it lacks."""

    bits: np.ndarray

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """The digits (256, MAX_BITS) of every symbol's code word, highest first, and which of them are there."""
        longest, start = int(self.bits.max()), 0
        digits = np.zeros((256, MAX_BITS), np.uint8)
        for length in range(longest, 0, -1):  # the longest words come first, each length by rising symbols
            for symbol in np.flatnonzero(self.bits == length).tolist():
                word = start >> (longest - length)
                digits[symbol, :length] = [word >> (length - 1 - place) & 1 for place in range(length)]
                start += 1 << (longest - length)
        return digits, np.arange(MAX_BITS) < self.bits[:, None]

    def frame(self, symbols: np.ndarray) -> bytes | None:
        """A frame of one block of these symbols, coded by this code; None where it does not serve."""
        count = len(symbols)
        if not _LEAST_SYMBOLS <= count < MAX_SYMBOLS or not self.bits[symbols].all():
            return None
        if count < 1 << 10:
            streams = self._stream(symbols)
            if len(streams) < 1 << 10:
                return _framed(count, streams, 0)
        step = (count + 3) // 4
        parts = [self._stream(symbols[start : start + step]) for start in range(0, 4 * step, step)]
        if max(len(part) for part in parts[:3]) >= 1 << 16:
            return None
        streams = struct.pack("<3H", *(len(part) for part in parts[:3])) + b"".join(parts)
        large = max(count, len(streams))
        return _framed(count, streams, 1 if large < 1 << 10 else 2 if large < 1 << 14 else 3)

    def _stream(self, symbols: np.ndarray) -> bytes:
        """Code words one after another behind a 1, read from the last byte's highest bit on."""
        digits, used = self._tables
        row = np.concatenate((np.ones(1, np.uint8), digits[symbols][used[symbols]]))
        return np.packbits(np.concatenate((np.zeros(-len(row) % 8, np.uint8), row)))[::-1].tobytes()


def _framed(count: int, streams: bytes, size_format: int) -> bytes:
    """A frame of one block of ``count`` literals without a code of their own, and no repeats."""
    width = (10, 10, 14, 18)[size_format]
    sizes = _WITHOUT_CODE | size_format << 2 | count << 4 | len(streams) << (4 + width)
    literals = sizes.to_bytes((4 + 2 * width + 7) // 8, "little") + streams
    block = _LAST_COMPRESSED | (len(literals) + 1) << 3
    return _FRAME + block.to_bytes(3, "little") + literals + b"\0"


def code_of(dictionary: bytes) -> Code | None:
    """The code of a dictionary that ``dictionary`` wrote; None of any other."""
    if len(dictionary) <= len(_HEAD) or dictionary[len(_HEAD)] < 128 or not dictionary.endswith(_TAIL):
        return None
    pairs = np.frombuffer(dictionary[len(_HEAD) + 1 : -len(_TAIL)], np.uint8)
    weights = np.zeros(256, np.int64)
    count = dictionary[len(_HEAD)] - 127
    weights[:count] = np.stack([pairs >> 4, pairs & 15], 1).reshape(-1)[:count]
    total = int((1 << weights[weights > 0] - 1).sum())
    longest = total.bit_length()  # the last symbol fills the sum up to a power of two
    weights[count] = ((1 << longest) - total).bit_length()
    return Code(np.where(weights > 0, longest + 1 - weights, 0))
