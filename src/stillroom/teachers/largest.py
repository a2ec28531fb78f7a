"""The largest probabilities as columns (top-k and top-p): a set of ids, a level for each, and the mass outside.

Probabilities are kept as ratios to the smallest one of the position, in steps of 1/8 nat, and are scaled on reading so
that they and the tail sum to 1; so the common part of all errors of a position drops out. Letters: N positions,
E entries, K places, R records. Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillroom.teachers import side
from stillroom.teachers.idsets import SetCoder, ranked
from stillroom.teachers.record import Columns, Record
from stillroom.teachers.rows import Rows

SYMBOLS = ("sizes", "sizes_high", "ratios", "tail", "ids")
PLAIN = ("tail_bits", "ids_places")
GROUPS = (32, 32, 64, 128, 256)
"""Groups for sets of 1, 2-3, 4-7, 8-15 and more members."""
STEPS_PER_NAT = 8


@dataclass(frozen=True)
class LargestEntries:
    """Columns of the largest probabilities."""

    ids: SetCoder

    @classmethod
    def train(cls, rows: Rows, vocab_size: int) -> LargestEntries:
        """Tables fitted to a sample."""
        return cls(SetCoder.train(ranked(rows.ids_E, vocab_size), rows.ids_E, rows.num_N.astype(np.int64), GROUPS))

    def encode(self, rows: Rows) -> tuple[Rows, Columns]:
        """The rows with their entries in the order of the record, and their columns."""
        assert rows.tail_N is not None
        order = np.lexsort((self.ids.rank(rows.ids_E), rows.position_E))
        ordered = Rows(
            num_N=rows.num_N,
            ids_E=rows.ids_E[order],
            values_E=rows.values_E[order],
            entropy_N=rows.entropy_N,
            gold_logprob_N=rows.gold_logprob_N,
            gold_rank_N=rows.gold_rank_N,
            tail_N=rows.tail_N,
        )
        nats_E = -np.log(np.maximum(ordered.values_E.astype(np.float64), 1e-30))
        starts_N = np.cumsum(rows.num_N, dtype=np.int64) - rows.num_N
        smallest_E = np.repeat(np.maximum.reduceat(nats_E, starts_N), rows.num_N)
        ratios = np.round((smallest_E - nats_E) * STEPS_PER_NAT).clip(0, 255).astype(np.uint8)
        tail, tail_bits = side.to_symbols(-np.log(np.maximum(rows.tail_N.astype(np.float64), 1e-19)), np.uint8(0))
        ids, places = self.ids.encode(ordered.ids_E, rows.num_N.astype(np.int64))
        sizes = rows.num_N - 1
        symbols = {
            "sizes": (sizes & 255).astype(np.uint8),
            "sizes_high": (sizes >> 8).astype(np.uint8),
            "ratios": ratios,
            "tail": tail,
            "ids": ids,
        }
        return ordered, Columns(symbols, {"tail_bits": np.packbits(tail_bits).tobytes(), "ids_places": places})

    def sizes(self, record: Record) -> tuple[np.ndarray]:
        """Ids of every position (N,), int64."""
        low_N, high_N = record.symbols("sizes"), record.symbols("sizes_high")
        return (1 + low_N.astype(np.int64) + (high_N.astype(np.int64) << 8),)

    def fill(self, record: Record, sizes: tuple[np.ndarray], ids_NK: np.ndarray, weights_NK: np.ndarray) -> np.ndarray:
        """Writes ids and probabilities into arrays of zeros; returns the tails (N,), float32."""
        (num_N,) = sizes
        sizes_R = record.per_record(num_N)
        ratio_E = record.symbols("ratios", sizes_R)
        tail_N = np.exp(-side.from_symbols(record.symbols("tail"), record.bits("tail_bits"), np.uint8(0)))
        used_NK = np.arange(ids_NK.shape[1]) < num_N[:, None]
        steps = record.symbols("ids", sizes_R)
        ids_NK[used_NK] = self.ids.decode(steps, num_N, sizes_R, record.plain("ids_places"))
        weights_NK[used_NK] = RATIOS[ratio_E]
        weights_NK *= ((1.0 - tail_N) / weights_NK.sum(1))[:, None]
        return tail_N


RATIOS = np.exp((np.arange(256) - 255) / STEPS_PER_NAT).astype(np.float32)
"""Probability of each level, up to a factor that is the same for all entries of a position."""
