"""Entropy and gold log-probability in one byte and one bit each, with a stated error; the gold rank exactly.

Levels are even in the square root up to 12.25 nats, so that small entropies, which routing compares, keep their order:
an error of at most sqrt(x)/128 nats at x nats. Above, levels are 0.5 nats apart up to 44 nats.
Letters: N positions, R records. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillroom.labels.codecs.id_sets import pack_bits, unpack_bits

_EVEN = 448
"""Levels that are even in the square root."""
LEVELS = np.concatenate(
    ((np.arange(_EVEN) / 128.0) ** 2, (_EVEN - 1) ** 2 / 128.0**2 + 0.5 * np.arange(1, 513 - _EVEN))
)
LEVELS = LEVELS.astype(np.float32)
"""Nats of each of 512 levels."""
_MIDDLES = (LEVELS[1:].astype(np.float64) + LEVELS[:-1]) / 2
GUESS_LEVELS = 256
MIDDLE = np.uint8(64)
"""The symbol of a level that is as was guessed."""


def level(nats_N: np.ndarray) -> np.ndarray:
    """The nearest level (int64) of each value of at least 0 nats."""
    return np.searchsorted(_MIDDLES, nats_N)


def typical(context_N: np.ndarray, number_N: np.ndarray) -> np.ndarray:
    """The mean number (256,), rounded to uint8, seen in each context: what a reader expects before it reads."""
    totals = np.bincount(context_N, weights=number_N, minlength=GUESS_LEVELS)[:GUESS_LEVELS]
    counts = np.bincount(context_N, minlength=GUESS_LEVELS)[:GUESS_LEVELS]
    return np.round(totals / np.maximum(counts, 1)).astype(np.uint8)


def to_symbols(nats_N: np.ndarray, guess_N: np.ndarray | np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """Symbols (N,) uint8 and bits (N,): the upper byte of the level minus the guess plus ``MIDDLE``, its lowest bit."""
    level_N = level(nats_N)
    return ((level_N >> 1) - guess_N + MIDDLE).astype(np.uint8), (level_N & 1).astype(np.uint8)


def from_symbols(symbol_N: np.ndarray, bit_N: np.ndarray, guess_N: np.ndarray | np.uint8) -> np.ndarray:
    """Nats (N,) float32: the inverse of ``to_symbols``."""
    level_N = (symbol_N + guess_N - MIDDLE).astype(np.intp)  # uint8 until here, wraps
    level_N <<= 1
    level_N |= bit_N
    return LEVELS.take(level_N, mode="clip")


_EXACT = 32
"""Classes of ranks that hold one rank each; class 32 + j holds the 2^(5 + j) ranks from 2^(5 + j) - 1 on."""


def rank_class(rank_N: np.ndarray) -> tuple[np.ndarray, bytes]:
    """Class (N,) of each rank (-1 = none), and the packed places of the ranks within their classes."""
    number_N = rank_N.astype(np.int64) + 1
    bits_N = np.where(number_N < _EXACT, 0, np.frexp(number_N)[1] - 1)
    class_N = np.where(bits_N > 0, _EXACT - 5 + bits_N, number_N)
    return class_N, pack_bits(number_N - (1 << bits_N), bits_N)


def rank_of_class(class_N: np.ndarray, num_records: int, packed: Sequence[bytes | memoryview]) -> np.ndarray:
    """Ranks (N,) int32: the inverse of ``rank_class`` for records that lie one after another."""
    is_wide_N = class_N >= _EXACT
    wide = np.flatnonzero(is_wide_N)
    bits_E = class_N.take(wide) - (_EXACT - 5)
    record_R = is_wide_N.reshape(num_records, -1).sum(1)
    rank_N = class_N - 1
    rank_N[wide] = unpack_bits(bits_E, record_R, packed) + (1 << bits_E) - 1
    return rank_N
