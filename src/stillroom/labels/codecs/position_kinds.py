"""Kinds of positions, each with a ranking of the vocabulary of its own: what makes sets of ids cheap to name.

After "import" a teacher names other tokens than inside a number. A mixture of a few distributions over the vocabulary
is fitted to a sample; every position says which one of them names its ids in the fewest bits, one symbol for all of
its ids, and they are coded by that kind's ranking.
Letters: V vocabulary, C kinds, N positions, E entries. Imports numpy only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np

from stillroom.labels.format.layout import Damaged

UNSEEN = 0.3
"""Count of a token that the sample lacks."""
RARE = 2
"""A token that occurs less often than this in the sample is ranked by its id.

The ids of a byte-level BPE are in the order of merging, hence roughly in that of frequency.
"""
RARE_IN_KIND = 3
"""A token that occurs less often than this among a kind's positions is ranked as if it did not occur there."""
POSITIONS_PER_KIND = 512
"""Positions of the sample that a kind needs."""
SMOOTHING = 20.0
"""Positions' worth of entries of all kinds together that are added to those of each."""
MAX_SHIFT = 31
MAX_NUMBERS = 1 << 27
"""Most kinds times tokens of a codebook that is read: 64 kinds of two million tokens."""
_ROUNDS = 10
_COST_UNIT = 16
"""Parts of a bit in which costs are counted: whole numbers, so that every machine chooses the same kinds."""
_CHUNK = 1 << 16
_SIZES = struct.Struct("<BIII")
_FAR = 255


@dataclass(frozen=True)
class Rankings:
    """The rankings of all kinds; kind 0 alone where a sample was too small for more.

    ``level_V``: half octaves of how often a token occurs in the sample. ``shift_CV``: octaves by which the token is
    commoner in a kind than a token that the kind lacks.
    """

    level_V: np.ndarray  # uint8, by id
    shift_CV: np.ndarray  # uint8, by kind and id
    prior_C: np.ndarray  # uint16, sixteenths of a bit that naming the kind takes

    @classmethod
    def train(cls, ids_E: np.ndarray, num_N: np.ndarray, vocab_size: int, max_kinds: int) -> Rankings:
        """Rankings fitted to a sample of sets by hard expectation maximisation; the same sample gives the same ones."""
        counts_V = np.bincount(ids_E, minlength=vocab_size)
        level_V = _levels(counts_V)
        kinds = int(np.clip(len(num_N) // POSITIONS_PER_KIND, 1, max_kinds))
        one = cls(level_V, np.zeros((1, vocab_size), np.uint8), np.zeros(1, np.uint16))
        return one if kinds == 1 else _fitted(one, ids_E, num_N.astype(np.int64), kinds)

    @property
    def num_kinds(self) -> int:
        """C."""
        return len(self.shift_CV)

    @cached_property
    def shared_order(self) -> np.ndarray:
        """Ids (V,) from the commonest over all kinds, ties in the order of ids."""
        return np.argsort(-self.level_V.astype(np.int16), kind="stable").astype(np.int32)

    @cached_property
    def ids_by_rank_CV(self) -> np.ndarray:
        """Ids from the commonest in each kind, int32; ties in the order of ``shared_order``."""
        shared = self.shared_order
        score_CV = (self.level_V.astype(np.int16) + 2 * self.shift_CV)[:, shared]
        return shared[np.argsort(-score_CV, axis=1, kind="stable")]

    @cached_property
    def rank_CV(self) -> np.ndarray:
        """Rank of every id in each kind, int64."""
        rank_CV = np.empty(self.ids_by_rank_CV.shape, np.int64)
        np.put_along_axis(rank_CV, self.ids_by_rank_CV.astype(np.int64), np.arange(len(self.level_V))[None], 1)
        return rank_CV

    @cached_property
    def mass_CV(self) -> np.ndarray:
        """Probability that an entry of each kind is a token."""
        weight_CV = np.exp2(self.level_V / 2.0 + self.shift_CV)
        return weight_CV / weight_CV.sum(1, keepdims=True)

    @cached_property
    def _cost_VC(self) -> np.ndarray:
        return np.ascontiguousarray(np.round(-np.log2(self.mass_CV.T) * _COST_UNIT).astype(np.int32))

    def choose(self, ids_E: np.ndarray, num_N: np.ndarray) -> np.ndarray:
        """The kind (N,) that names each position's ids in the fewest bits, int64."""
        if self.num_kinds == 1:
            return np.zeros(len(num_N), np.int64)
        return (_sums(self._cost_VC, ids_E, num_N.astype(np.int64)) + self.prior_C).argmin(1)

    def checked(self, symbol_N: np.ndarray) -> np.ndarray:
        """Kinds as they were read, int64; raises ``Damaged`` for one that there is not."""
        if int(symbol_N.max()) >= self.num_kinds:
            raise Damaged("a position is of a kind that the codebook lacks; label this shard again.")
        return symbol_N.astype(np.int64)

    def shared(self) -> Rankings:
        """The ranking over all kinds together."""
        return Rankings(self.level_V, np.zeros((1, len(self.level_V)), np.uint8), np.zeros(1, np.uint16))

    def to_bytes(self) -> bytes:
        """Number of kinds (u8), V, gaps G, shifts S (u32); levels by id; costs of naming a kind (u16); gaps; shifts.

        Shifts above 0 stand token by token in the order of ``shared_order``, kind by kind. Before each of them ``gap``
        zeros are passed over; a gap of ``_FAR`` has no shift behind it.
        """
        shifts = self.shift_CV[:, self.shared_order].T.reshape(-1)
        used = np.flatnonzero(shifts)
        zeros = np.diff(used, prepend=-1) - 1
        gaps = np.full(int((zeros // _FAR).sum()) + len(used), _FAR, np.uint8)
        gaps[np.cumsum(zeros // _FAR + 1) - 1] = zeros % _FAR
        sizes = _SIZES.pack(self.num_kinds, len(self.level_V), len(gaps), len(used))
        parts = (self.level_V.tobytes(), self.prior_C.astype("<u2").tobytes(), gaps.tobytes(), shifts[used].tobytes())
        return sizes + b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of ``to_bytes``."""
        kinds, vocab_size, num_gaps, num_shifts = _SIZES.unpack_from(data)
        ends = np.cumsum([_SIZES.size, vocab_size, 2 * kinds, num_gaps, num_shifts]).tolist()
        if len(data) != ends[-1] or not 0 < kinds * vocab_size <= MAX_NUMBERS:
            raise Damaged("the codebook's rankings have another length than they should; label into a new folder.")
        level_V, prior, gaps, shifts = (np.frombuffer(data[begin:end], np.uint8) for begin, end in pairwise(ends))
        passed = np.cumsum(gaps, dtype=np.int64)[gaps < _FAR]
        by_rank = np.zeros(vocab_size * kinds, np.uint8)
        by_rank[passed + np.arange(num_shifts)] = shifts
        shift_CV = np.zeros((kinds, vocab_size), np.uint8)
        shift_CV[:, np.argsort(-level_V.astype(np.int16), kind="stable")] = by_rank.reshape(vocab_size, kinds).T
        return cls(level_V, shift_CV, prior.view("<u2").astype(np.uint16))


def _levels(counts_V: np.ndarray) -> np.ndarray:
    kept_V = np.where(counts_V < RARE, 0, counts_V)
    return np.round(2 * np.log2(1 + kept_V / UNSEEN)).clip(0, 255).astype(np.uint8)


def _fitted(one: Rankings, ids_E: np.ndarray, num_N: np.ndarray, kinds: int) -> Rankings:
    vocab_size = len(one.level_V)
    mass_V = one.mass_CV[0]
    kind_N = _nearest_seed(ids_E, num_N, mass_V, kinds)
    weight = SMOOTHING * len(ids_E) / len(num_N)
    for _ in range(_ROUNDS):
        counts_CV, prior_C = _counted(ids_E, num_N, kind_N, kinds, vocab_size)
        mass_CV = counts_CV + weight * mass_V
        cost_VC = -np.log2(mass_CV / mass_CV.sum(1, keepdims=True)).T
        kind_N = (_sums(np.ascontiguousarray(cost_VC, np.float32), ids_E, num_N) + prior_C).argmin(1)
    counts_CV, prior_C = _counted(ids_E, num_N, kind_N, kinds, vocab_size)
    shift_CV = np.round(np.log2(1 + counts_CV / (weight * mass_V))).clip(0, MAX_SHIFT)
    shift_CV[:, one.level_V == 0] = 0
    shift_CV[counts_CV < RARE_IN_KIND] = 0
    return Rankings(one.level_V, shift_CV.astype(np.uint8), np.round(prior_C * _COST_UNIT).astype(np.uint16))


def _nearest_seed(ids_E: np.ndarray, num_N: np.ndarray, mass_V: np.ndarray, kinds: int) -> np.ndarray:
    """A first guess: the nearest of as many large sets, taken evenly from the sample."""
    large = np.flatnonzero(num_N >= np.median(num_N))
    seeds = large[np.linspace(0, len(large) - 1, kinds).astype(np.int64)]
    ends_N = np.cumsum(num_N)
    cost_VC = np.repeat(-np.log2(0.5 * mass_V)[:, None], kinds, 1).astype(np.float32)
    for kind, seed in enumerate(seeds.tolist()):
        ids = ids_E[ends_N[seed] - num_N[seed] : ends_N[seed]]
        cost_VC[ids, kind] = -np.log2(0.5 * mass_V[ids] + 0.5 / len(ids))
    return _sums(cost_VC, ids_E, num_N).argmin(1)


def _counted(
    ids_E: np.ndarray, num_N: np.ndarray, kind_N: np.ndarray, kinds: int, vocab_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Entries (C, V) of each kind, and bits (C,) that naming the kind takes."""
    counts = np.bincount(np.repeat(kind_N, num_N) * vocab_size + ids_E, minlength=kinds * vocab_size)
    positions_C = np.bincount(kind_N, minlength=kinds) + 1.0
    return counts.reshape(kinds, vocab_size).astype(np.float64), -np.log2(positions_C / positions_C.sum())


def _sums(cost_VC: np.ndarray, ids_E: np.ndarray, num_N: np.ndarray) -> np.ndarray:
    """Costs (N, C) summed over the entries of each position, which has at least one."""
    return np.concatenate(
        [np.add.reduceat(cost_VC[ids_E[entries]], starts, axis=0) for entries, starts in _pieces(num_N)]
    )


def _pieces(num_N: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Entries of some whole positions, and where each position starts among them."""
    ends_N = np.cumsum(num_N)
    first, total = 0, len(num_N)
    while first < total:
        begin = int(ends_N[first] - num_N[first])
        last = max(first + 1, int(np.searchsorted(ends_N, begin + _CHUNK, side="right")))
        starts = ends_N[first:last] - num_N[first:last] - begin
        yield slice(begin, int(ends_N[last - 1])), starts
        first = last
