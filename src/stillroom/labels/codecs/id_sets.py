"""Sets of token ids, one per position, in few bits: the order of a set is not kept, so it need not be paid for.

Each kind of position ranks the vocabulary by how often the teacher names a token there (``kinds``). Ranks are cut into
groups of about equal mass, each a power of two long. A set is sorted; each member becomes the step from the previous
member's group (the first: its group), a byte for the entropy coder, and its place within the group, plain bits. For
members drawn from the ranking's own distribution the steps are geometric whatever the group. Large sets get more
groups, so that their steps are distributed like those of small sets and one code fits all.
Letters: V vocabulary, C kinds, S classes of set sizes, N positions, E members, R records. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from stillroom.labels.codecs.position_kinds import Rankings
from stillroom.labels.format.layout import Damaged

MAX_GROUPS = 256
MAX_CLASSES = 16
_BITS = 6
"""Bits of a table's entry that hold a number of bits."""
KIND_SHARE = 0.1
"""Share of a sample's counts that its kind's ranking is given beside them when groups are cut, and a least number."""
KIND_ENTRIES = 100.0


def group_bits(mass_V: np.ndarray, num_groups: int) -> np.ndarray:
    """Bits of the places within each group (at most ``num_groups``, uint8), for masses above 0 in rank order."""
    size = len(mass_V)
    mass = np.concatenate(([0.0], np.cumsum(mass_V)))
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
class SetCoder:
    """Sets of ids to steps and bits, and back.

    Class s of sizes holds the sets of 2^s to 2^(s+1) - 1 members, the last class all larger ones as well.
    """

    rankings: Rankings
    bits: tuple[tuple[np.ndarray, ...], ...]  # of every kind and class, uint8, one per group

    @classmethod
    def train(
        cls, rankings: Rankings, ids_E: np.ndarray, sizes_N: np.ndarray, kind_N: np.ndarray, num_groups: Sequence[int]
    ) -> Self:
        """Groups of about equal mass for a sample of sets; ``num_groups`` by class."""
        class_E = np.repeat(_class_of(sizes_N, len(num_groups)), sizes_N)
        kind_E = np.repeat(kind_N, sizes_N)
        size = len(rankings.level_V)
        bits = []
        for kind, (order, mass_V) in enumerate(zip(rankings.ids_by_rank_CV, rankings.mass_CV, strict=True)):
            of_kind = []
            for number, groups in enumerate(num_groups):
                counts_V = np.bincount(ids_E[(kind_E == kind) & (class_E == number)], minlength=size)
                expected_V = (KIND_SHARE * counts_V.sum() + KIND_ENTRIES) * mass_V
                of_kind.append(group_bits((counts_V + expected_V)[order], groups))
            bits.append(tuple(of_kind))
        return cls(rankings, tuple(bits))

    def to_parts(self, name: str) -> dict[str, bytes]:
        """Parts of a codebook, by class: length of each kind's groups (u16), then bits of all, kind after kind."""
        return {
            f"groups.{name}.{number}": np.array([len(of[number]) for of in self.bits], "<u2").tobytes()
            + b"".join(of[number].tobytes() for of in self.bits)
            for number in range(len(self.bits[0]))
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes], name: str, rankings: Rankings) -> Self:
        """The inverse of ``to_parts``."""
        by_class, num_kinds = [], rankings.num_kinds
        for part in parts:
            if part.rpartition(".")[0] == f"groups.{name}":
                ends = np.cumsum(np.frombuffer(parts[part], "<u2", num_kinds), dtype=np.int64)
                bits = np.frombuffer(parts[part], np.uint8, offset=2 * num_kinds)
                if ends[-1] != len(bits):
                    raise ValueError(f"{part} has another length than it should")
                by_class.append(np.split(bits, ends[:-1]))
        return cls(rankings, tuple(tuple(of_kind) for of_kind in zip(*by_class, strict=True)))

    def is_sound(self) -> bool:
        """Whether each kind's and class's groups of ranks hold the vocabulary, and less than twice as many ranks."""
        size = len(self.rankings.level_V)
        groups = [of for of_kind in self.bits for of in of_kind]
        return (
            len(self.bits) == self.rankings.num_kinds
            and 0 < len(self.bits[0]) <= MAX_CLASSES
            and all(len(of) <= MAX_GROUPS and int(of.max(initial=0)) < 32 for of in groups)
            and all(size <= int((1 << of.astype(np.int64)).sum()) <= 2 * size for of in groups)
        )

    @cached_property
    def _decoder(self) -> SetDecoder:
        return SetDecoder((self,))

    @cached_property
    def _groups(self) -> tuple[np.ndarray, np.ndarray]:
        """First rank and bits of every group, int64 (C·S·256,) each."""
        first, bits = np.zeros((2, len(self.bits), len(self.bits[0]), MAX_GROUPS), np.int64)
        for kind, of_kind in enumerate(self.bits):
            for number, of_class in enumerate(of_kind):
                sizes = 1 << of_class.astype(np.int64)
                first[kind, number, : len(of_class)] = np.cumsum(sizes) - sizes
                bits[kind, number, : len(of_class)] = of_class
        return first.reshape(-1), bits.reshape(-1)

    @cached_property
    def _group_of_rank(self) -> np.ndarray:
        """Group (C, S, V) of every rank, uint8."""
        size = len(self.rankings.level_V)
        groups = [
            [np.repeat(np.arange(len(of)), 1 << of.astype(np.int64))[:size] for of in of_kind] for of_kind in self.bits
        ]
        return np.array(groups, np.uint8)

    def base(self, sizes_N: np.ndarray, kind_N: np.ndarray | None) -> np.ndarray:
        """Where the tables of each set's kind and class begin, int64."""
        base_N = self._base_of_size.take(sizes_N, mode="clip")
        if kind_N is not None:
            base_N += len(self.bits[0]) * MAX_GROUPS * kind_N
        return base_N

    @cached_property
    def _base_of_size(self) -> np.ndarray:
        """Where the tables of a size's class begin, up to the smallest size of the last class."""
        num_classes = len(self.bits[0])
        return MAX_GROUPS * _class_of(np.arange(1 << num_classes), num_classes)

    def encode(self, ids_E: np.ndarray, sizes_N: np.ndarray, kind_N: np.ndarray) -> tuple[np.ndarray, bytes]:
        """Steps (E,) uint8 and the packed places within groups. Each set is sorted by its kind's ranks already."""
        step_E, place_E, bits_E = self.steps(ids_E, sizes_N, kind_N)
        return step_E, pack_bits(place_E, bits_E)

    def steps(
        self, ids_E: np.ndarray, sizes_N: np.ndarray, kind_N: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps (E,) uint8, places within groups and their bits (E,), int64."""
        kind_E = np.repeat(kind_N, sizes_N)
        rank_E = self.rankings.rank_CV[kind_E, ids_E]
        base_E = np.repeat(self.base(sizes_N, kind_N), sizes_N)
        group_E = self._group_of_rank.reshape(-1, len(self.rankings.level_V))[base_E >> 8, rank_E]
        step_E = np.diff(group_E, prepend=np.uint8(0))
        starts = np.cumsum(sizes_N, dtype=np.int64) - sizes_N
        starts = starts[sizes_N > 0]
        step_E[starts] = group_E[starts]
        first, bits = self._groups
        index_E = base_E + group_E
        return step_E, rank_E - first[index_E], bits[index_E]

    def decode(
        self,
        step_E: np.ndarray,
        sizes_N: np.ndarray,
        kind_N: np.ndarray | None,
        record_R: np.ndarray,
        packed: Sequence[bytes | memoryview],
    ) -> np.ndarray:
        """Ids (E,), int64, of the sets of R records, one after another.

        Arguments: ``sizes_N`` members of every set, ``kind_N`` its kind (None: all of kind 0), ``record_R`` members of
        every record, ``packed`` one piece of packed places per record.
        """
        return self._decoder.decode([step_E], [sizes_N], kind_N, record_R[None], packed)


class SetDecoder:
    """Decodes several lists of sets of the same positions at once, each list by a coder of its own.

    One table over all lists says of every group of ranks where it begins among the ids and how many bits a place in it
    has: one look-up per member. All int64, as numpy gathers and sums that kind without converting.
    """

    def __init__(self, coders: Sequence[SetCoder]):
        self._coders = coders
        rankings = coders[0].rankings
        groups = [of for coder in coders for of_kind in coder.bits for of in of_kind]
        stride = 1 + max(int((1 << of.astype(np.int64)).sum()) for of in groups)
        self._ids = np.full((rankings.num_kinds, stride), -1, np.int32)
        self._ids[:, : len(rankings.level_V)] = rankings.ids_by_rank_CV
        tables = [self._table(coder, stride) for coder in coders]
        self._starts = np.cumsum([0, *(len(table) for table in tables)]).tolist()
        self._table_of_groups = np.concatenate(tables)
        self._ids = self._ids.reshape(-1)

    @staticmethod
    def _table(coder: SetCoder, stride: int) -> np.ndarray:
        """First place in the ids and bits (the lower ``_BITS``) by kind, class and group."""
        table = np.empty((len(coder.bits), len(coder.bits[0]), MAX_GROUPS), np.int64)
        for kind, of_kind in enumerate(coder.bits):
            table[kind] = (kind + 1) * stride - 1 << _BITS  # no such group: leads past the vocabulary
            for number, of_class in enumerate(of_kind):
                sizes = 1 << of_class.astype(np.int64)
                first = kind * stride + np.cumsum(sizes) - sizes
                table[kind, number, : len(of_class)] = first << _BITS | of_class
        return table.reshape(-1)

    def decode(
        self,
        steps: Sequence[np.ndarray],
        sizes: Sequence[np.ndarray],
        kind_N: np.ndarray | None,
        record_LR: np.ndarray,
        packed: Sequence[bytes | memoryview],
    ) -> np.ndarray:
        """Ids (E,), int64, of the sets of the first list, then of the second and so on.

        Arguments: steps (uint8) and set sizes (N,) of every list; ``record_LR`` members of every list and record, and
        ``packed`` one piece of packed places per record, list after list.
        """
        bases = [
            coder.base(sizes_N, kind_N) + start
            for coder, sizes_N, start in zip(self._coders, sizes, self._starts, strict=False)
        ]
        size_M, base_M = (sizes[0], bases[0]) if len(sizes) == 1 else (np.concatenate(sizes), np.concatenate(bases))
        step_E = steps[0] if len(steps) == 1 else np.concatenate(steps)
        index = step_E.cumsum(dtype=np.int64)
        base_M -= _before(index, size_M.cumsum() - size_M)
        index += base_M.repeat(size_M)
        group = self._table_of_groups.take(index, mode="clip")
        place = unpack_bits(group & ((1 << _BITS) - 1), record_LR, packed)
        group >>= _BITS
        place += group
        found = self._ids.take(place, mode="clip")
        if len(found) and int(found.min()) < 0:
            raise Damaged("a set of ids leaves the vocabulary; label this shard again.")
        return found.astype(np.int64)


_ONE = np.int64(1)


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
    """Values (E,) int64 of R packed pieces; piece r holds ``record_R[r]`` values.

    With ``record_R`` of shape (L, R) a piece holds a part of each of L lists, one list after another, while the values
    are those of the first list of all pieces, then of the second.
    """
    if not len(bits_E):
        return np.zeros(0, np.int64)
    running = bits_E.cumsum()
    parts_R = record_R.reshape(-1)
    ends_R = parts_R.cumsum()
    before_R = _before(running, ends_R - parts_R)
    used_LR = (_before(running, ends_R) - before_R).reshape(-1, len(packed))
    sizes_R = np.array([len(piece) for piece in packed], np.int64)
    if ((used_LR.sum(0) + 7) >> 3 != sizes_R).any():
        raise Damaged("packed places of ids have another length than they should; label this shard again.")
    shift_LR = used_LR.cumsum(0) - used_LR + 8 * (sizes_R.cumsum() - sizes_R)
    running -= bits_E
    shifts = (shift_LR.reshape(-1) - before_R).tolist()
    for end, size, shift in zip(ends_R.tolist(), parts_R.tolist(), shifts, strict=True):
        running[end - size : end] += shift
    data = b"".join(packed)
    words = np.frombuffer(data + bytes(-len(data) % 4 + 8), "<u4")
    pairs = words[:-1] | words[1:].astype(np.uint64) << np.uint64(32)
    value_E = pairs.take(running >> 5, mode="clip")
    running &= 31
    value_E >>= running.view(np.uint64)
    masks = np.left_shift(_ONE, bits_E)
    masks -= 1
    masks &= value_E.view(np.int64)
    return masks


def _before(running: np.ndarray, place_M: np.ndarray) -> np.ndarray:
    """What a running sum had come to before each place."""
    return np.where(place_M > 0, running.take(place_M - 1, mode="wrap"), 0) if len(running) else 0 * place_M
