"""The sampled codec, and its labels as columns: which ids were drawn, and how often.

A position's ids come in three lists: the one drawn most often (if any was drawn more than once), the others drawn more
than once, and those drawn once. The count of the first is not kept: all counts sum to N.
Letters: N positions, E entries, K places, R records.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from stillroom.labels.codecs.codec import EntryCoder, Kept, ScoredPositions, id_bits
from stillroom.labels.codecs.gold import GUESS_LEVELS, MIDDLE, typical
from stillroom.labels.codecs.id_sets import SetCoder, SetDecoder, pack_bits
from stillroom.labels.codecs.position_kinds import Rankings
from stillroom.labels.codecs.systematic import counted, systematic
from stillroom.labels.format.layout import Damaged
from stillroom.labels.format.record import Columns, PackedRecords
from stillroom.labels.ragged import RaggedLabels, padded

if TYPE_CHECKING:
    from stillroom.labels.settings import Options

LISTS = ("singles", "others", "top")
"""The order in which lists are decoded; that of the entries is the reverse."""
GROUPS = (32, 32, 48, 96, 160, 256)
"""Groups for sets of 1, 2-3, 4-7, 8-15, 16-31 and more members."""
MAX_KINDS = 16


@dataclass(frozen=True)
class SampledEntries:
    """Columns of sampled ids and counts."""

    SYMBOLS: ClassVar[tuple[str, ...]] = ("drawn_once", "drawn_more", "kinds", "counts", "top", "others", "singles")
    PLAIN: ClassVar[tuple[str, ...]] = ("places",)
    HAS_TAIL: ClassVar[bool] = False

    num_samples: int
    more_guess: np.ndarray  # uint8 (256,), ids drawn more than once that a number drawn once lets expect
    top: SetCoder
    others: SetCoder
    singles: SetCoder

    @property
    def rankings(self) -> Rankings:
        """The rankings of the vocabulary that all three lists are coded by."""
        return self.top.rankings

    @classmethod
    def train(cls, rows: RaggedLabels, vocab_size: int, num_samples: int) -> SampledEntries:
        """Tables fitted to a sample."""
        rankings = Rankings.train(rows.ids_E, rows.num_N, vocab_size, MAX_KINDS)
        lists = _in_order(rows, rankings)

        def coder(members_E: np.ndarray, sizes_N: np.ndarray, groups: tuple[int, ...]) -> SetCoder:
            return SetCoder.train(rankings, lists.rows.ids_E[members_E], sizes_N, lists.kind_N, groups)

        return cls(
            num_samples=num_samples,
            more_guess=typical(lists.num_single_N, lists.num_more_N),
            top=coder(lists.is_top_E, lists.has_top_N, (128,)),
            others=coder(lists.is_other_E, lists.num_more_N - lists.has_top_N, GROUPS),
            singles=coder(lists.is_single_E, lists.num_single_N, GROUPS),
        )

    def encode(self, rows: RaggedLabels) -> tuple[RaggedLabels, Columns, Drawn]:
        """The rows with their entries in the order of the record, their columns, and what is known beside them."""
        lists = _in_order(rows, self.rankings)
        ids_E, kind_N, other_N = lists.rows.ids_E, lists.kind_N, lists.num_more_N - lists.has_top_N
        singles, *single_places = self.singles.steps(ids_E[lists.is_single_E], lists.num_single_N, kind_N)
        others, *other_places = self.others.steps(ids_E[lists.is_other_E], other_N, kind_N)
        top, *top_places = self.top.steps(ids_E[lists.is_top_E], lists.has_top_N, kind_N)
        places, bits = (np.concatenate(parts) for parts in zip(single_places, other_places, top_places, strict=True))
        symbols = (
            lists.num_single_N.astype(np.uint8),
            (lists.num_more_N - self.more_guess[lists.num_single_N] + MIDDLE).astype(np.uint8),
            kind_N.astype(np.uint8),
            (lists.rows.values_E[lists.is_other_E] - 2).astype(np.uint8),
            top,
            others,
            singles,
        )
        weights_NK = padded(lists.rows, 1.0 / self.num_samples).weights_NK
        drawn = Drawn(rows.num_N.astype(np.int64), weights_NK, self.num_samples)
        return (
            lists.rows,
            Columns(dict(zip(self.SYMBOLS, symbols, strict=True)), {"places": pack_bits(places, bits)}),
            drawn,
        )

    def to_parts(self) -> dict[str, bytes]:
        """See ``EntryCoder``."""
        parts = {"samples": struct.pack("<I", self.num_samples), "more_guess": self.more_guess.tobytes()}
        for name, coder in (("top", self.top), ("others", self.others), ("singles", self.singles)):
            parts |= coder.to_parts(name)
        return parts

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes], rankings: Rankings) -> Self:
        """See ``EntryCoder``."""
        (num_samples,) = struct.unpack("<I", parts["samples"])
        sets = (SetCoder.from_parts(parts, name, rankings) for name in ("top", "others", "singles"))
        return cls(num_samples, np.frombuffer(parts["more_guess"], np.uint8), *sets)

    def is_sound(self) -> bool:
        """See ``EntryCoder``."""
        is_sound = 0 < self.num_samples <= 255 and len(self.more_guess) == GUESS_LEVELS
        return is_sound and all(coder.is_sound() for coder in (self.top, self.others, self.singles))

    def sizes(self, record: PackedRecords) -> tuple[np.ndarray, np.ndarray]:
        """Ids of every position (N,), and those among them that were drawn more than once, uint8."""
        once_N = record.symbols("drawn_once")
        more_N = record.symbols("drawn_more") + self.more_guess.take(once_N) - MIDDLE
        num_N = once_N + more_N
        if int(num_N.max()) > self.num_samples or int(more_N.max()) > self.num_samples:
            raise Damaged("a position has more ids than samples; label this shard again.")
        return num_N, more_N

    def fill(
        self, record: PackedRecords, sizes: Sequence[np.ndarray], ids_NK: np.ndarray, weights_NK: np.ndarray
    ) -> Drawn:
        """Writes ids and weights into arrays of zeros; there is no tail."""
        num_N, more_N = sizes
        once_N, more_N = (num_N - more_N).astype(np.int64), more_N.astype(np.int64)
        top_N = (more_N > 0).astype(np.int64)
        lists = [once_N, more_N - top_N, top_N]
        per_list = [record.per_record(sizes_N) for sizes_N in lists]
        steps = [record.symbols(name, size_R) for name, size_R in zip(LISTS, per_list, strict=True)]
        size_M = np.concatenate(lists)
        # numbers of the entries' places in the flat arrays: singles come after all others, and these after the top
        start_N = np.arange(0, ids_NK.size, ids_NK.shape[1])
        first_M = np.concatenate((start_N + more_N, start_N + 1, start_N))
        ends_M = size_M.cumsum()
        place_E = (first_M - ends_M + size_M).repeat(size_M)
        place_E += np.arange(len(place_E))
        kind_N = None if self.rankings.num_kinds == 1 else self.rankings.checked(record.symbols("kinds"))
        ids_NK.reshape(-1)[place_E] = self._decoder.decode(
            steps, lists, kind_N, np.stack(per_list), record.plain("places")
        )
        weights_NK.reshape(-1)[place_E] = self._weights(record, lists, per_list[1])
        return Drawn(num_N, weights_NK, self.num_samples)

    @cached_property
    def _decoder(self) -> SetDecoder:
        return SetDecoder((self.singles, self.others, self.top))

    def _weights(self, record: PackedRecords, lists: list[np.ndarray], other_R: np.ndarray) -> np.ndarray:
        """Share of the draws that each entry got (E,), float32, list by list."""
        once_N, other_N, top_N = lists
        other_E = record.symbols("counts", other_R).astype(np.int64) + 2
        running = np.zeros(len(other_E) + 1, np.int64)
        other_E.cumsum(out=running[1:])
        ends_N = other_N.cumsum()
        rest_N = self.num_samples - once_N - running.take(ends_N) + running.take(ends_N - other_N)
        rest = rest_N[top_N > 0]
        if (rest < 2).any():
            raise Damaged("the counts of a position do not add up; label this shard again.")
        share = np.float32(1.0 / self.num_samples)
        weights_E = np.full(int(once_N.sum()) + len(other_E) + len(rest), share)
        weights_E[len(weights_E) - len(rest) - len(other_E) :] *= np.concatenate((other_E, rest))
        return weights_E


@dataclass(frozen=True)
class Drawn:
    """What the drawn ids of some positions say of their other columns."""

    num_N: np.ndarray
    weights_NK: np.ndarray
    num_samples: int
    tail_N: None = None

    @property
    def entropy_context_N(self) -> np.ndarray:
        """Number of ids: what the guess of the entropy goes by."""
        return np.minimum(self.num_N, 255).astype(np.intp)

    def stored_place(self, place_N: np.ndarray) -> np.ndarray:
        """What is kept of the next token's place among the entries: the place itself."""
        return place_N

    def place(self, stored_N: np.ndarray) -> np.ndarray:
        """The inverse of ``stored_place``."""
        return stored_N

    def gold_context(self, place_N: np.ndarray) -> np.ndarray:
        """How often each next token was drawn: what the guess of its log-probability goes by."""
        own_N = np.arange(0, self.weights_NK.size, self.weights_NK.shape[1])
        own_N += np.maximum(place_N, 1) - 1
        drawn_N = np.rint(self.weights_NK.reshape(-1).take(own_N) * self.num_samples).astype(np.intp)
        drawn_N *= place_N > 0
        return drawn_N


@dataclass(frozen=True)
class _Lists:
    """Labels as top, others by rank, singles by rank; which list each entry is in; sizes and kinds of the positions."""

    rows: RaggedLabels
    is_top_E: np.ndarray
    is_single_E: np.ndarray
    num_single_N: np.ndarray  # int64
    num_more_N: np.ndarray  # int64, the top included
    kind_N: np.ndarray  # int64

    @property
    def is_other_E(self) -> np.ndarray:
        return ~self.is_single_E & ~self.is_top_E

    @property
    def has_top_N(self) -> np.ndarray:
        return (self.num_more_N > 0).astype(np.int64)


def _in_order(rows: RaggedLabels, rankings: Rankings) -> _Lists:
    kind_N = rankings.choose(rows.ids_E, rows.num_N)
    position_E, count_E = rows.position_E, rows.values_E.astype(np.int64)
    rank_E = rankings.rank_CV[kind_N[position_E], rows.ids_E]
    num_single_N = np.bincount(position_E[count_E == 1], minlength=len(rows))
    num_more_N = rows.num_N - num_single_N
    by_count = np.lexsort((rank_E, -count_E, position_E))
    is_top_E = np.zeros(len(count_E), bool)
    starts_N = np.cumsum(rows.num_N, dtype=np.int64) - rows.num_N
    is_top_E[by_count[starts_N[num_more_N > 0]]] = True
    order = np.lexsort((rank_E, count_E == 1, ~is_top_E, position_E))
    ordered = replace(rows, ids_E=rows.ids_E[order], values_E=rows.values_E[order])
    return _Lists(ordered, is_top_E[order], ordered.values_E == 1, num_single_N, num_more_N, kind_N)


@dataclass(frozen=True)
class Sampled:
    """The codec: an unbiased sample of every position, N equally spaced pointers through its distribution."""

    name: ClassVar[str] = "sampled"
    coder: ClassVar[type[EntryCoder]] = SampledEntries
    num_samples: int = 50
    """N."""

    @classmethod
    def of(cls, options: Options) -> Self:
        """See ``Codec``."""
        return cls(options.whole("num_samples", 50, 1, 255))

    @property
    def draws(self) -> int:
        """N."""
        return self.num_samples

    @property
    def summary(self) -> str:
        """N."""
        return f"N = {self.num_samples}"

    def read(self, scored: ScoredPositions) -> Kept:
        """Distinct ids in rising order, how often each was drawn; no tail."""
        ids_E, count_E, num_n = counted(systematic(scored.mass_nV, scored.offset_n, self.num_samples))
        return Kept(ids_E, count_E, num_n, None)

    def fit(self, labels: RaggedLabels, vocab_size: int) -> SampledEntries:
        """See ``Codec``."""
        return SampledEntries.train(labels, vocab_size, self.num_samples)

    def bytes_per_token(self, vocab_size: int) -> float:
        """From what a 135M teacher over code took: 14 distinct ids at N = 50, growing as the square root of N."""
        return 4.2 + 14.4 * (self.num_samples / 50) ** 0.5 * id_bits(vocab_size) / 8
