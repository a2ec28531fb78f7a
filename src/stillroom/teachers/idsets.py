"""Sets of token ids, one per position, in few bits: the order of a set is not kept, so it need not be paid for.

The vocabulary is ranked by how often the teacher names a token. Ranks are cut into groups of about equal mass, each a
power of two long. A set is sorted; each member becomes the step from the previous member's group (the first: its
group), a byte for the entropy coder, and its place within the group, plain bits. For members drawn from the ranking's
own distribution the steps are geometric whatever the group. Large sets get more groups, so that their steps are
distributed like those of small sets and one code fits all.
Letters: V vocabulary, N positions, E members, R records, C classes of set sizes. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from stillroom.teachers.layout import Damaged

MAX_GROUPS = 256
UNSEEN = 0.3
"""Mass given to every token beside its count, so that tokens the sample lacks are cut into groups as well."""


RARE = 2
"""A token that occurs less often than this in the sample is ranked by its id."""


def ranked(ids_E: np.ndarray, vocab_size: int) -> np.ndarray:
    """Token ids (V,) from the commonest; ties, and tokens that hardly occur, in the order of their ids.

    The ids of a byte-level BPE are in the order of merging, hence roughly in that of frequency: for rare tokens they
    are the better ranking, and one that the codebook need not write down.
    """
    counts = np.bincount(ids_E, minlength=vocab_size)
    return np.argsort(-np.where(counts < RARE, 0, counts), kind="stable").astype(np.int32)


def group_bits(counts_V: np.ndarray, num_groups: int) -> np.ndarray:
    """Bits of the places within each group (at most ``num_groups``, uint8), for tokens counted in rank order."""
    size = len(counts_V)
    mass = np.concatenate(([0.0], np.cumsum(counts_V + UNSEEN)))
    bits: list[int] = []
    start = 0
    while start < size:
        left = num_groups - len(bits)
        share = (mass[-1] - mass[start]) / left
        width = 0
        while start + (1 << width) < size and (
            left == 1 or mass[min(start + (2 << width), size)] - mass[start] <= share
        ):
            width += 1
        bits.append(width)
        start += 1 << width
    return np.array(bits, np.uint8)


@dataclass(frozen=True)
class _Tables:
    """Bits, first rank (C·256,) by class and group; id by rank, padded with -1 to whole groups; rank by id.

    All int64: numpy gathers and sums that kind without converting, which is what decoding spends its time on.
    """

    bits: np.ndarray
    first: np.ndarray
    ids: np.ndarray
    rank: np.ndarray


@dataclass(frozen=True)
class SetCoder:
    """Sets of ids to steps and bits, and back; class c of sizes holds the sets of 2^c to 2^(c+1) - 1 members."""

    ids_by_rank: np.ndarray  # int32 (V,)
    bits: tuple[np.ndarray, ...]  # of every class, uint8, one per group

    @classmethod
    def train(cls, ids_by_rank: np.ndarray, ids_E: np.ndarray, sizes_N: np.ndarray, num_groups: Sequence[int]) -> Self:
        """Groups of about equal mass for a sample of sets; ``num_groups`` by class, the last for all above as well."""
        class_E = np.repeat(_class_of(sizes_N, len(num_groups)), sizes_N)
        size = len(ids_by_rank)
        counts = [
            np.bincount(ids_E[class_E == number], minlength=size)[ids_by_rank] for number in range(len(num_groups))
        ]
        return cls(ids_by_rank, tuple(group_bits(*pair) for pair in zip(counts, num_groups, strict=True)))

    @cached_property
    def _tables(self) -> _Tables:
        bits = np.zeros((len(self.bits), MAX_GROUPS), np.int64)
        sizes = [1 << of_class.astype(np.int64) for of_class in self.bits]
        past_end = max(int(size.sum()) for size in sizes)
        first = np.full(bits.shape, past_end, np.int64)  # a group that does not exist leads past the vocabulary
        for number, (of_class, size) in enumerate(zip(self.bits, sizes, strict=True)):
            bits[number, : len(of_class)] = of_class
            first[number, : len(of_class)] = np.cumsum(size) - size
        ids = np.full(past_end + 1, -1, np.int64)
        ids[: len(self.ids_by_rank)] = self.ids_by_rank
        rank = np.empty(len(self.ids_by_rank), np.int64)
        rank[self.ids_by_rank] = np.arange(len(rank))
        return _Tables(bits.reshape(-1), first.reshape(-1), ids, rank)

    def rank(self, ids: np.ndarray) -> np.ndarray:
        """Ranks of ids."""
        return self._tables.rank[ids]

    @cached_property
    def _group_of_rank(self) -> np.ndarray:
        """Group (C, V) of every rank, uint8."""
        size = len(self.ids_by_rank)
        groups = [np.repeat(np.arange(len(bits)), 1 << bits.astype(np.int64))[:size] for bits in self.bits]
        return np.stack(groups).astype(np.uint8)

    def _base(self, sizes_N: np.ndarray) -> np.ndarray:
        """Where the tables of each set's class begin, int64."""
        return _class_of(sizes_N, len(self.bits)) << 8

    def encode(self, ids_E: np.ndarray, sizes_N: np.ndarray) -> tuple[np.ndarray, bytes]:
        """Steps (E,) uint8 and the packed places within groups. Each set of ``ids_E`` is sorted by rank already."""
        tables = self._tables
        rank_E = tables.rank[ids_E]
        base_E = np.repeat(self._base(sizes_N), sizes_N)
        group_E = self._group_of_rank[base_E >> 8, rank_E]
        step_E = np.diff(group_E, prepend=np.uint8(0))
        starts = np.cumsum(sizes_N, dtype=np.int64) - sizes_N
        starts = starts[sizes_N > 0]
        step_E[starts] = group_E[starts]
        index_E = base_E + group_E
        return step_E, pack_bits(rank_E - tables.first[index_E], tables.bits[index_E])

    def decode(
        self, step_E: np.ndarray, sizes_N: np.ndarray, record_R: np.ndarray, packed: Sequence[bytes | memoryview]
    ) -> np.ndarray:
        """Ids (E,), int64, of the sets of R records, one after another.

        Arguments: ``sizes_N`` members of every set, ``record_R`` members of every record, ``packed`` one piece of
        packed places per record.
        """
        tables = self._tables
        running = np.cumsum(step_E.astype(np.int64))
        before = np.concatenate((np.zeros(1, np.int64), running))[np.cumsum(sizes_N) - sizes_N]
        index = running - np.repeat(before - self._base(sizes_N), sizes_N)
        place = unpack_bits(np.take(tables.bits, index, mode="clip"), record_R, packed)
        found = np.take(tables.ids, np.take(tables.first, index, mode="clip") + place, mode="clip")
        if len(found) and int(found.min()) < 0:
            raise Damaged("a set of ids leaves the vocabulary; label this shard again.")
        return found


def _class_of(sizes_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Class of every set, int64: floor(log2 of its size), at most the last."""
    sizes = np.minimum(sizes_N, (1 << num_classes) - 1).astype(np.intp)
    return np.frexp(np.arange(1 << num_classes))[1].clip(min=1)[sizes].astype(np.int64) - 1


def pack_bits(values_E: np.ndarray, bits_E: np.ndarray) -> bytes:
    """Values of ``bits_E`` bits each, one after another from the lowest bit of the first byte on."""
    total = int(bits_E.sum())
    start_E = np.cumsum(bits_E) - bits_E
    flat = np.zeros(total, np.uint8)
    for bit in range(int(bits_E.max(initial=0))):
        has = bits_E > bit
        flat[start_E[has] + bit] = (values_E[has] >> bit) & 1
    return np.packbits(flat, bitorder="little").tobytes()


def unpack_bits(bits_E: np.ndarray, record_R: np.ndarray, packed: Sequence[bytes | memoryview]) -> np.ndarray:
    """Values (E,) int64 of R packed pieces that lie one after another; piece r holds ``record_R[r]`` values."""
    if not len(bits_E):
        return np.zeros(0, np.int64)
    running = np.cumsum(bits_E)
    ends_R = np.cumsum(record_R)
    used_R = np.concatenate((np.zeros(1, np.int64), running))[np.stack([ends_R - record_R, ends_R])]
    sizes_R = np.array([len(piece) for piece in packed], np.int64)
    if ((used_R[1] - used_R[0] + 7) // 8 != sizes_R).any():
        raise Damaged("packed places of ids have another length than they should; label this shard again.")
    shift_R = 8 * (np.cumsum(sizes_R) - sizes_R) - used_R[0]
    start_E = running - bits_E
    start_E += np.repeat(shift_R, record_R)
    data = b"".join(packed)
    words = np.frombuffer(data + bytes(-len(data) % 4 + 8), "<u4")
    pairs = words[:-1] | words[1:].astype(np.uint64) << np.uint64(32)
    value_E = (np.take(pairs, start_E >> 5, mode="clip") >> (start_E & 31).view(np.uint64)).view(np.int64)
    value_E &= (1 << bits_E) - 1
    return value_E
