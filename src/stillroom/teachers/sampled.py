"""Sampled labels as columns: which ids were drawn, and how often.

A position's ids come in three lists: the one drawn most often (if any was drawn more than once), the others drawn more
than once, and those drawn once. The count of the first is not kept: all counts sum to N.
Letters: N positions, E entries, K places, R records. Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillroom.teachers.idsets import SetCoder, ranked
from stillroom.teachers.layout import Damaged
from stillroom.teachers.record import Columns, Record
from stillroom.teachers.rows import Rows
from stillroom.teachers.side import typical

SYMBOLS = ("drawn_once", "drawn_more", "counts", "top", "others", "singles")
PLAIN = ("top_places", "others_places", "singles_places")
GROUPS = (32, 32, 48, 96, 160, 256)
"""Groups for sets of 1, 2-3, 4-7, 8-15, 16-31 and more members."""


@dataclass(frozen=True)
class SampledEntries:
    """Columns of sampled ids and counts."""

    num_samples: int
    more_guess: np.ndarray  # uint8 (256,), ids drawn more than once that a number drawn once lets expect
    top: SetCoder
    others: SetCoder
    singles: SetCoder

    @classmethod
    def train(cls, rows: Rows, vocab_size: int, num_samples: int) -> SampledEntries:
        """Tables fitted to a sample."""
        ids_by_rank = ranked(rows.ids_E, vocab_size)
        ordered, num_single_N, num_more_N = _in_order(rows, ids_by_rank)
        is_single_E, is_top_E = _kinds(ordered, num_single_N, num_more_N)
        has_top_N = (num_more_N > 0).astype(np.int64)
        return cls(
            num_samples=num_samples,
            more_guess=typical(num_single_N, num_more_N),
            top=SetCoder.train(ids_by_rank, ordered.ids_E[is_top_E], has_top_N, (256,)),
            others=SetCoder.train(ids_by_rank, ordered.ids_E[~is_single_E & ~is_top_E], num_more_N - has_top_N, GROUPS),
            singles=SetCoder.train(ids_by_rank, ordered.ids_E[is_single_E], num_single_N, GROUPS),
        )

    def encode(self, rows: Rows) -> tuple[Rows, Columns]:
        """The rows with their entries in the order of the record, and their columns."""
        ordered, num_single_N, num_more_N = _in_order(rows, self.top.ids_by_rank)
        is_single_E, is_top_E = _kinds(ordered, num_single_N, num_more_N)
        is_other_E = ~is_single_E & ~is_top_E
        once = num_single_N.astype(np.uint8)
        more = (num_more_N - self.more_guess[num_single_N]).astype(np.uint8)
        has_top_N = (num_more_N > 0).astype(np.int64)
        top, top_places = self.top.encode(ordered.ids_E[is_top_E], has_top_N)
        others, others_places = self.others.encode(ordered.ids_E[is_other_E], num_more_N - has_top_N)
        singles, singles_places = self.singles.encode(ordered.ids_E[is_single_E], num_single_N)
        counts = (ordered.values_E[is_other_E] - 2).astype(np.uint8)
        symbols: dict[str, np.ndarray] = dict(zip(SYMBOLS, (once, more, counts, top, others, singles), strict=True))
        plain: dict[str, bytes] = dict(zip(PLAIN, (top_places, others_places, singles_places), strict=True))
        return ordered, Columns(symbols, plain)

    def sizes(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Ids of every position (N,), and those among them that were drawn more than once, uint8."""
        once_N = record.symbols("drawn_once")
        more_N = record.symbols("drawn_more") + self.more_guess[once_N]
        num_N = once_N + more_N
        if int(num_N.max()) > self.num_samples or int(more_N.max()) > self.num_samples:
            raise Damaged("a position has more ids than samples; label this shard again.")
        return num_N, more_N

    def fill(
        self, record: Record, sizes: tuple[np.ndarray, np.ndarray], ids_NK: np.ndarray, weights_NK: np.ndarray
    ) -> None:
        """Writes ids and weights into arrays of zeros; there is no tail."""
        num_N, more_N = sizes
        once_N = num_N - more_N
        place_K = np.arange(ids_NK.shape[1], dtype=np.uint8)
        is_more_NK = place_K < more_N[:, None]
        is_single_NK = (place_K < num_N[:, None]) ^ is_more_NK
        has_top_N = is_more_NK[:, 0].copy()
        is_other_NK = is_more_NK
        is_other_NK[:, 0] = False
        one = np.float32(1.0 / self.num_samples)
        np.multiply(is_single_NK, one, out=weights_NK)
        ids_NK[is_single_NK], _ = self._set(record, "singles", self.singles, once_N.astype(np.int64))
        other_N = more_N.astype(np.int64) - has_top_N
        ids_NK[is_other_NK], other_R = self._set(record, "others", self.others, other_N)
        ids_NK[has_top_N, 0], _ = self._set(record, "top", self.top, has_top_N.astype(np.int64))
        counts_E = record.symbols("counts", other_R).astype(np.int64) + 2
        weights_NK[is_other_NK] = counts_E * one
        running = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts_E)))
        ends_N = np.cumsum(other_N)
        rest_N = self.num_samples - once_N - (running[ends_N] - running[ends_N - other_N])
        if (rest_N[has_top_N] < 2).any():
            raise Damaged("the counts of a position do not add up; label this shard again.")
        weights_NK[has_top_N, 0] = rest_N[has_top_N] * one

    @staticmethod
    def _set(record: Record, name: str, coder: SetCoder, sizes_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids (E,) of one list of every position, and how many each record has (R,)."""
        sizes_R = record.per_record(sizes_N)
        steps = record.symbols(name, sizes_R)
        return coder.decode(steps, sizes_N, sizes_R, record.plain(f"{name}_places")), sizes_R


def _in_order(rows: Rows, ids_by_rank: np.ndarray) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Rows as top, others by rank, singles by rank; ids drawn once and ids drawn more often per position (int64)."""
    rank = np.empty(len(ids_by_rank), np.int64)
    rank[ids_by_rank] = np.arange(len(rank))
    position_E, count_E = rows.position_E, rows.values_E.astype(np.int64)
    num_single_N = np.bincount(position_E[count_E == 1], minlength=len(rows))
    num_more_N = rows.num_N - num_single_N
    by_count = np.lexsort((rank[rows.ids_E], -count_E, position_E))
    is_top_E = np.zeros(len(count_E), bool)
    starts_N = np.cumsum(rows.num_N, dtype=np.int64) - rows.num_N
    is_top_E[by_count[starts_N[num_more_N > 0]]] = True
    order = np.lexsort((rank[rows.ids_E], count_E == 1, ~is_top_E, position_E))
    ordered = Rows(
        num_N=rows.num_N,
        ids_E=rows.ids_E[order],
        values_E=rows.values_E[order],
        entropy_N=rows.entropy_N,
        gold_logprob_N=rows.gold_logprob_N,
        gold_rank_N=rows.gold_rank_N,
    )
    return ordered, num_single_N, num_more_N


def _kinds(ordered: Rows, num_single_N: np.ndarray, num_more_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each entry was drawn once, and whether it is its position's top."""
    is_top_E = np.zeros(len(ordered.ids_E), bool)
    starts_N = np.cumsum(ordered.num_N, dtype=np.int64) - ordered.num_N
    is_top_E[starts_N[num_more_N > 0]] = True
    return ordered.values_E == 1, is_top_E
