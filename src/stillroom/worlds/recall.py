"""The recall world: bigram text in which a few triggers always repeat the answer that they were given first.

After trigger q the next token is its answer o, fresh in every sequence; after any other token it follows the bigram
row. So a bigram learner can do everything but the second and later answers, and those need an induction head (Bietti
et al. 2023, 2306.00802). Letters: B sequences, T positions, V characters, K triggers.

Every draw is a hash of (seed, number of the sequence, place), so a sequence is the same in whatever batch, order or
process it is asked for. Imports its text and options only; numpy, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stillroom.splitmix import STEP, scattered
from stillroom.worlds.recall_text import CharacterBigrams, library_bigrams

_DRAWS = ("fixed", "per-sequence")
_OUTPUTS = ("uniform", "row", "other")
_START, _TRIGGERS, _ANSWERS = 1 << 40, 1 << 41, 1 << 42
"""Places of the hash that no position of a sequence reaches."""
_32 = np.uint64(32)
_AT_A_TIME = 256
"""Sequences that are walked side by side: what a place reads and writes then stays in the cache."""


@dataclass(frozen=True)
class RecallOptions:
    """Knobs of the recall world."""

    characters: int = 65
    """V: the most frequent characters of the Python library's source."""
    triggers: int = 5
    """K."""
    draw: Literal["fixed", "per-sequence"] = "fixed"
    """``fixed``: the K most frequent characters. ``per-sequence``: drawn from the unigram, none twice."""
    skip: int = 0
    """The most frequent characters that are no triggers when those are ``fixed``: 1 spares the space, a fifth of all
    text, so that no answer is so frequent that it can be guessed without looking back."""
    outputs: Literal["uniform", "row", "other"] = "uniform"
    """Where a trigger's answer is drawn from, once per sequence: all characters alike, the trigger's own bigram row, or
    all characters alike but the trigger itself."""

    def __post_init__(self) -> None:
        if not 0 < self.triggers < self.characters:
            raise ValueError(f"triggers is {self.triggers}, expected 1 to {self.characters - 1} of the characters")
        if not 0 <= self.skip <= self.characters - self.triggers:
            raise ValueError(f"skip is {self.skip}, expected 0 to {self.characters - self.triggers}")
        for name, choices in (("draw", _DRAWS), ("outputs", _OUTPUTS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}")


@dataclass(frozen=True)
class RecallSample:
    """B sequences and the truth about each."""

    tokens_BT: NDArray[np.int64]
    process_BT: NDArray[np.int32]
    """What made the token: 0 the bigram row, n the n-th occurrence of the trigger before it."""
    triggers_BK: NDArray[np.int64]
    answers_BK: NDArray[np.int64]

    @property
    def asks_BT(self) -> NDArray[np.int32]:
        """``process_BT`` one place earlier: n where the *next* token is the answer to the n-th occurrence, else 0."""
        asks = np.zeros_like(self.process_BT)
        asks[:, :-1] = self.process_BT[:, 1:]
        return asks


@dataclass(frozen=True)
class _Alias:
    """Walker's tables: one 64-bit hash draws from any row with a single look-up, whatever V is.

    The upper half of hash · V (in 32.32 fixed point) is a column and the lower half decides between it and the other
    outcome of its place, so a probability is right to 2^-32.
    """

    threshold: NDArray[np.uint32]
    """For row · V + column: the column stays where the lower half is below this."""
    other: NDArray[np.int64]
    """For row · V + column: the other outcome."""
    width: int

    def split(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Column and lower half of each hash. Overwrites ``hashes``."""
        np.right_shift(hashes, _32, out=hashes)
        np.multiply(hashes, np.uint64(self.width), out=hashes)
        return (hashes >> _32).view(np.int64), hashes.astype(np.uint32)

    def draw(self, row_N: NDArray[np.int64], hash_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """A column of each row. Overwrites ``hash_N``."""
        column_N, low_N = self.split(hash_N)
        place_N = row_N * self.width + column_N
        return np.where(low_N < self.threshold[place_N], column_N, self.other[place_N])


def _alias(rows_RV: NDArray[np.float64]) -> _Alias:
    """Tables for rows that sum to 1 (Vose 1991)."""
    width = rows_RV.shape[1]
    accept_RV = np.ones_like(rows_RV)
    other_RV = np.tile(np.arange(width), (len(rows_RV), 1))
    for row, probabilities in enumerate(rows_RV):
        left = probabilities * width
        small = [int(column) for column in np.flatnonzero(left < 1)]
        large = [int(column) for column in np.flatnonzero(left >= 1)]
        while small and large:
            low, high = small.pop(), large.pop()
            accept_RV[row, low], other_RV[row, low] = left[low], high
            left[high] -= 1 - left[low]
            (small if left[high] < 1 else large).append(high)
    threshold_RV = np.minimum(np.round(accept_RV * 2.0**32), 2.0**32 - 1).astype(np.uint32)
    return _Alias(threshold_RV.ravel(), other_RV.ravel(), width)


class RecallWorld:
    """The recall world over given bigrams; by default those of the Python library's characters."""

    def __init__(self, options: RecallOptions = RecallOptions(), bigrams: CharacterBigrams | None = None) -> None:
        self.options = options
        self.bigrams = library_bigrams(options.characters) if bigrams is None else bigrams
        self.fixed_K = np.argsort(-self.bigrams.unigram_V, kind="stable")[options.skip :][: options.triggers]
        # Rows V to 2V - 1 are certain of one token each: a trigger's answer is a walk through one of them.
        self._rows = _alias(np.concatenate([self.bigrams.rows_VV, np.eye(self.vocab_size)]))
        self._start = _alias(self.bigrams.unigram_V[None])

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.bigrams.characters)

    def sample(self, numbers: Sequence[int] | NDArray[np.int64], length: int, seed: int) -> RecallSample:
        """The sequences with these numbers, ``length`` tokens each.

        The first token is drawn from the unigram. Sequences of one seed are independent of one another, and of those of
        another seed.
        """
        numbers_B = np.asarray(numbers, dtype=np.uint64)
        triggers_BK = self._triggers(numbers_B, seed)
        answers_BK = self._answers(triggers_BK, numbers_B, seed)
        tokens_BT = np.empty((len(numbers_B), length), dtype=np.int64)
        process_BT = np.zeros((len(numbers_B), length), dtype=np.int32)
        for begin in range(0, len(numbers_B), _AT_A_TIME):
            part = slice(begin, begin + _AT_A_TIME)
            tokens_TB = self._walk(triggers_BK[part], answers_BK[part], _states(seed, numbers_B[part]), length)
            tokens_BT[part] = tokens_TB.T
            process_BT[part, 1:] = occurrences(tokens_TB[:-1], triggers_BK[part]).T
        return RecallSample(tokens_BT, process_BT, triggers_BK, answers_BK)

    def _walk(
        self,
        triggers_BK: NDArray[np.int64],
        answers_BK: NDArray[np.int64],
        state_B: NDArray[np.uint64],
        length: int,
    ) -> NDArray[np.unsignedinteger[Any]]:
        """Tokens (T, B), one place of all sequences at a time: the answer after a trigger, else the bigram row.

        Whatever does not depend on the token before is done for all places at once; a place then costs seven calls on
        B numbers.
        """
        size, num = self.vocab_size, len(state_B)
        row_BV = np.tile(np.arange(size) * size, (num, 1))  # the row that follows a token, as its place in the tables
        np.put_along_axis(row_BV, triggers_BK, (answers_BK + size) * size, axis=1)
        following, first_B = row_BV.ravel(), np.arange(num) * size
        tokens_TB = np.empty((length, num), dtype=np.uint8 if size <= 256 else np.uint16)
        column_TB, low_TB = self._rows.split(_hashes(state_B, np.arange(1, length, dtype=np.uint64)))
        now_B = self._start.draw(
            np.zeros(num, dtype=np.int64), _hashes(state_B, np.array([_START], dtype=np.uint64))[0]
        )
        tokens_TB[0] = now_B
        place_B, threshold_B, keeps_B = np.empty_like(now_B), np.empty(num, dtype=np.uint32), np.empty(num, dtype=bool)
        for place, (column_B, low_B) in enumerate(zip(column_TB, low_TB, strict=True), 1):
            np.add(first_B, now_B, out=place_B)
            following.take(place_B, out=now_B, mode="clip")
            np.add(now_B, column_B, out=place_B)
            self._rows.threshold.take(place_B, out=threshold_B, mode="clip")
            self._rows.other.take(place_B, out=now_B, mode="clip")
            np.less(low_B, threshold_B, out=keeps_B)
            np.copyto(now_B, column_B, where=keeps_B)
            tokens_TB[place] = now_B
        return tokens_TB

    def _triggers(self, numbers_B: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
        count = self.options.triggers
        if self.options.draw == "fixed":
            return np.broadcast_to(self.fixed_K, (len(numbers_B), count)).copy()
        places = np.arange(self.vocab_size, dtype=np.uint64) + np.uint64(_TRIGGERS)
        uniform_BV = np.maximum(uniforms(seed, numbers_B[:, None], places[None]), 1e-300)
        # Exponential clocks: the first K to ring are K draws from the unigram without replacement.
        clock_BV = -np.log(uniform_BV) / self.bigrams.unigram_V
        return np.argsort(clock_BV, axis=1, kind="stable")[:, :count]

    def _answers(self, triggers_BK: NDArray[np.int64], numbers_B: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
        size = self.vocab_size
        places = np.arange(triggers_BK.shape[1], dtype=np.uint64) + np.uint64(_ANSWERS)
        if self.options.outputs == "row":
            hash_BK = scattered(_states(seed, numbers_B)[:, None] + places[None] * STEP)
            return self._rows.draw(triggers_BK.ravel(), hash_BK.ravel()).reshape(triggers_BK.shape)
        uniform_BK = uniforms(seed, numbers_B[:, None], places[None])
        if self.options.outputs == "uniform":
            return (uniform_BK * size).astype(np.int64)
        answers_BK = (uniform_BK * (size - 1)).astype(np.int64)
        return answers_BK + (answers_BK >= triggers_BK)  # the trigger itself is stepped over


def occurrences(tokens_TB: NDArray[np.unsignedinteger[Any]], triggers_BK: NDArray[np.int64]) -> NDArray[np.int32]:
    """The n of a place that holds the n-th occurrence of one of its sequence's triggers, else 0 (T, B)."""
    counts = np.int16 if len(tokens_TB) < 2**15 else np.int32
    found_TB = np.zeros(tokens_TB.shape, dtype=counts)
    for trigger_B in triggers_BK.T.astype(tokens_TB.dtype):
        is_trigger_TB = tokens_TB == trigger_B
        found_TB += np.cumsum(is_trigger_TB, axis=0, dtype=counts) * is_trigger_TB
    return found_TB.astype(np.int32)


def uniforms(seed: int, numbers: NDArray[np.uint64], places: NDArray[np.uint64] | int) -> NDArray[np.float64]:
    """Numbers in [0, 1) that depend on the seed, the sequence's number and the place alone (SplitMix64)."""
    bits = scattered(_states(seed, numbers) + np.asarray(places, dtype=np.uint64) * STEP)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _states(seed: int, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What every draw of a sequence starts from."""
    key = np.uint64((seed * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & (2**64 - 1))
    return scattered(numbers * STEP ^ key)


def _hashes(state_B: NDArray[np.uint64], places_T: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 random bits of every sequence at every place, (T, B)."""
    return scattered(state_B + (places_T * STEP)[:, None])
