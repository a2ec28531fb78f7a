"""The codecs of the largest probabilities, top-k and top-p: a set of ids, a level for each, and the mass outside.

Probabilities are kept as levels that are even in the square root, where equal steps cost equal divergence (KL of an
error d in sqrt(p) is 2·d² nats whatever p), in several columns by how much mass is outside, as this says which levels
to expect. On reading they are scaled so that they and the tail sum to 1; so the common part of all errors of a position
drops out. Letters: N positions, E entries, K places, R records.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from stillroom.labels.codecs import gold as side
from stillroom.labels.codecs.codec import EntryCoder, Kept, ScoredPositions, id_bits
from stillroom.labels.codecs.id_sets import SetCoder, pack_bits, unpack_bits
from stillroom.labels.codecs.position_kinds import Rankings
from stillroom.labels.format.layout import Damaged
from stillroom.labels.format.record import Columns, PackedRecords
from stillroom.labels.ragged import RaggedLabels

if TYPE_CHECKING:
    from stillroom.labels.settings import Options

BANDS = 8
"""Columns of levels: bands of the tail's mass, of about equally many positions each."""
LEVEL_COLUMNS = tuple(f"levels_{band}" for band in range(BANDS))
MEMBERS = (0, 1, 4, 12, 25)
"""First members of the columns of steps: the commonest ids of a kind are in most of its sets, so that early steps are
shorter than late ones."""
ID_COLUMNS = tuple(f"ids_{number}" for number in range(len(MEMBERS)))
GROUPS = (32, 32, 64, 128, 256)
"""Groups for sets of 1, 2-3, 4-7, 8-15 and more members."""
MAX_KINDS = 64
MAX_IDS = 1024
"""Most ids of a position."""
PAIRED_STEPS = 15
"""Most steps at which two levels share a symbol."""
TAIL_BITS = 2
"""Bits of a tail's level that stand beside its symbol."""
_PLAIN_LEVELS = 32
"""Levels from here on share a symbol with others, eight symbols to the octave; bits beside it say which one it is."""
ROUNDING = 0.4
"""What is added before a level is cut off: less than a half, as low levels are commoner and so cheaper."""
_LEAST = 1e-9
"""Probability that no level stands for less than."""


@dataclass(frozen=True)
class LargestEntries:
    """Columns of the largest probabilities.

    ``steps``: levels per unit of sqrt(p). ``edges``: tail levels at which a new band begins. ``values``: the mean
    probability of the sample's entries of each level.
    """

    SYMBOLS: ClassVar[tuple[str, ...]] = ("sizes", "sizes_high", "kinds", "tail", *LEVEL_COLUMNS, *ID_COLUMNS)
    PLAIN: ClassVar[tuple[str, ...]] = ("tail_bits", "levels_places", "ids_places")
    HAS_TAIL: ClassVar[bool] = True
    ids: SetCoder
    steps: int
    edges: np.ndarray  # uint16 (BANDS - 1,)
    values: np.ndarray  # float32 (256,)

    @property
    def rankings(self) -> Rankings:
        """The rankings of the vocabulary."""
        return self.ids.rankings

    @classmethod
    def train(cls, rows: RaggedLabels, vocab_size: int, steps: int) -> LargestEntries:
        """Tables fitted to a sample."""
        rankings = Rankings.train(rows.ids_E, rows.num_N, vocab_size, MAX_KINDS)
        num_N, kind_N = rows.num_N.astype(np.int64), rankings.choose(rows.ids_E, rows.num_N)
        level_E = _levels(rows.values_E, steps)
        totals = np.bincount(level_E, weights=rows.values_E, minlength=256)
        counts = np.bincount(level_E, minlength=256)
        middle = ((np.arange(256) + 0.5 - ROUNDING) / steps) ** 2
        values = np.where(counts > 0, totals / np.maximum(counts, 1), middle)
        return cls(
            ids=SetCoder.train(rankings, rows.ids_E, num_N, kind_N, GROUPS if num_N.min() < 16 else GROUPS[-1:]),
            steps=steps,
            edges=np.quantile(_tail_level(rows), np.arange(1, BANDS) / BANDS).astype(np.uint16),
            values=np.maximum(values, _LEAST).astype(np.float32),
        )

    def encode(self, rows: RaggedLabels) -> tuple[RaggedLabels, Columns, Ordered]:
        """The rows with their entries in the order of the record, their columns, and what is known beside them."""
        assert rows.tail_N is not None
        kind_N = self.rankings.choose(rows.ids_E, rows.num_N)
        num_N, position_E = rows.num_N.astype(np.int64), rows.position_E
        order = np.lexsort((self.rankings.rank_CV[kind_N[position_E], rows.ids_E], position_E))
        ordered = replace(rows, ids_E=rows.ids_E[order], values_E=rows.values_E[order])
        tail_level_N = _tail_level(rows)
        band_N = self._bands(tail_level_N)
        level_E, band_E = _levels(ordered.values_E, self.steps), band_N[position_E]
        step_E, ids_places = self.ids.encode(ordered.ids_E, num_N, kind_N)
        sizes = rows.num_N - 1
        symbols = {"sizes": (sizes & 255).astype(np.uint8), "sizes_high": (sizes >> 8).astype(np.uint8)}
        symbols |= {"kinds": kind_N.astype(np.uint8), "tail": (tail_level_N >> TAIL_BITS).astype(np.uint8)}
        symbol_E, levels_places = _symbols_of(level_E)
        symbols |= {name: _paired(symbol_E[band_E == band], self.steps) for band, name in enumerate(LEVEL_COLUMNS)}
        member_E = np.arange(len(position_E)) - np.repeat(np.cumsum(num_N) - num_N, num_N)
        part_E = np.searchsorted(MEMBERS, member_E, side="right") - 1
        symbols |= {name: step_E[part_E == part] for part, name in enumerate(ID_COLUMNS)}
        used_NK = np.arange(int(num_N.max())) < num_N[:, None]
        level_NK = np.zeros(used_NK.shape, np.uint8)
        level_NK[used_NK] = level_E
        plain = {"tail_bits": _low_bits(tail_level_N), "levels_places": levels_places, "ids_places": ids_places}
        columns = Columns(symbols, plain)
        return ordered, columns, Ordered(level_NK, used_NK, band_N, rows.tail_N)

    def to_parts(self) -> dict[str, bytes]:
        """See ``EntryCoder``."""
        parts = {"value_steps": struct.pack("<I", self.steps), "values": self.values.astype("<f4").tobytes()}
        return parts | {"bands": self.edges.astype("<u2").tobytes()} | self.ids.to_parts("ids")

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes], rankings: Rankings) -> Self:
        """See ``EntryCoder``."""
        (steps,) = struct.unpack("<I", parts["value_steps"])
        values, edges = np.frombuffer(parts["values"], "<f4"), np.frombuffer(parts["bands"], "<u2")
        ids = SetCoder.from_parts(parts, "ids", rankings)
        return cls(ids, steps, edges.astype(np.uint16), values.astype(np.float32))

    def is_sound(self) -> bool:
        """See ``EntryCoder``."""
        is_sound = 0 < self.steps <= 255 and len(self.edges) == BANDS - 1 and self.values.shape == (256,)
        return is_sound and bool((np.isfinite(self.values) & (self.values > 0)).all()) and self.ids.is_sound()

    def sizes(self, record: PackedRecords) -> tuple[np.ndarray]:
        """Ids of every position (N,), int64."""
        low_N, high_N = record.symbols("sizes"), record.symbols("sizes_high")
        num_N = 1 + low_N.astype(np.int64) + (high_N.astype(np.int64) << 8)
        if int(num_N.max()) > len(self.rankings.level_V):
            raise Damaged("a position has more ids than the vocabulary; label this shard again.")
        return (num_N,)

    def fill(
        self, record: PackedRecords, sizes: Sequence[np.ndarray], ids_NK: np.ndarray, weights_NK: np.ndarray
    ) -> Ordered:
        """Writes ids and probabilities into arrays of zeros."""
        (num_N,) = sizes
        sizes_R = record.per_record(num_N)
        tail_level_N = record.symbols("tail").astype(np.int64) << TAIL_BITS | record.bits("tail_bits", TAIL_BITS)
        if int(tail_level_N.max()) >= len(side.LEVELS):
            raise Damaged("a tail has a level that there is not; label this shard again.")
        tail_N = np.exp(-side.LEVELS[tail_level_N])
        band_N = self._bands(tail_level_N)
        used_NK = np.arange(ids_NK.shape[1]) < num_N[:, None]
        level_NK = self._read_levels(record, num_N, band_N, used_NK)
        kind_N = self.rankings.checked(record.symbols("kinds"))
        steps_E = _read_steps(record, num_N, used_NK)
        _put(ids_NK, used_NK, self.ids.decode(steps_E, num_N, kind_N, sizes_R, record.plain("ids_places")))
        np.multiply(np.take(self.values, level_NK), used_NK, out=weights_NK)
        weights_NK *= ((1.0 - tail_N) / weights_NK.sum(1))[:, None]
        return Ordered(level_NK, used_NK, band_N, tail_N)

    def _read_levels(
        self, record: PackedRecords, num_N: np.ndarray, band_N: np.ndarray, used_NK: np.ndarray
    ) -> np.ndarray:
        """Levels (N, K), 0 in places that are not used."""
        symbol_NK = np.zeros(used_NK.shape, np.uint8)
        for band, name in enumerate(LEVEL_COLUMNS):
            rows = np.flatnonzero(band_N == band)
            used = used_NK[rows]
            here = np.zeros(used.shape, np.uint8)
            _put(here, used, self._column(record, name, record.per_record(num_N * (band_N == band))))
            symbol_NK[rows] = here
        return _levels_of(symbol_NK, record)

    def _column(self, record: PackedRecords, name: str, sizes_R: np.ndarray) -> np.ndarray:
        """One column's symbols: the inverse of ``_paired`` for every record."""
        if self.steps > PAIRED_STEPS:
            return record.symbols(name, sizes_R)
        pairs = record.symbols(name, (sizes_R + 1) // 2)
        levels = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)
        odd_R = sizes_R % 2
        return np.delete(levels, np.cumsum(sizes_R + odd_R)[odd_R > 0] - 1)

    def _bands(self, tail_level_N: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.edges.astype(np.int64), tail_level_N, side="right")


@dataclass(frozen=True)
class Ordered:
    """What the levels of some positions say of their other columns."""

    level_NK: np.ndarray
    used_NK: np.ndarray
    band_N: np.ndarray
    tail_N: np.ndarray

    @property
    def entropy_context_N(self) -> np.ndarray:
        """Band of the tail and eighth of the highest level: what the guess of the entropy goes by."""
        return self.band_N * 32 + (self.level_NK.max(1) >> 3)

    def _key_NK(self) -> np.ndarray:
        """A number for every entry that sorts by falling level, then by place; its lower bits are the place."""
        kind, shift = (np.uint16, 8) if self.level_NK.shape[1] <= 256 else (np.uint32, 16)
        key_NK = (255 - self.level_NK).astype(kind) << kind(shift)
        key_NK[~self.used_NK] = 255 << shift
        return key_NK | np.arange(self.level_NK.shape[1], dtype=kind)

    def stored_place(self, place_N: np.ndarray) -> np.ndarray:
        """What is kept of the next token's place among the entries: its place by falling level, close to its rank."""
        key_NK = self._key_NK()
        own_N1 = np.take_along_axis(key_NK, np.maximum(place_N, 1)[:, None] - 1, 1)
        return np.where(place_N > 0, (key_NK <= own_N1).sum(1), 0)

    def place(self, stored_N: np.ndarray) -> np.ndarray:
        """The inverse of ``stored_place``."""
        key_NK = np.sort(self._key_NK(), 1)
        own_N = np.take_along_axis(key_NK, np.maximum(stored_N, 1)[:, None].astype(np.intp) - 1, 1)[:, 0]
        return np.where(stored_N > 0, (own_N & (255 if key_NK.itemsize == 2 else 65535)).astype(np.int32) + 1, 0)

    def gold_context(self, place_N: np.ndarray) -> np.ndarray:
        """1 + level of each next token, 0 where it is not among the entries: what its guess goes by."""
        level_N = self.level_NK[np.arange(len(place_N)), np.maximum(place_N, 1) - 1]
        return np.where(place_N > 0, np.minimum(level_N.astype(np.intp) + 1, 255), 0)


def _paired(level_E: np.ndarray, steps: int) -> np.ndarray:
    """Symbols of a column of levels: two levels in one where both fit, as no symbol takes less than a bit."""
    if steps > PAIRED_STEPS:
        return level_E
    padded_E = np.append(level_E, np.zeros(len(level_E) % 2, np.uint8))
    return padded_E[0::2] | padded_E[1::2] << 4


def _read_steps(record: PackedRecords, num_N: np.ndarray, used_NK: np.ndarray) -> np.ndarray:
    """Steps (E,) of all sets, one set after another, from the columns of early and late members."""
    step_NK = np.zeros(used_NK.shape, np.uint8)
    for name, first, end in zip(ID_COLUMNS, MEMBERS, (*MEMBERS[1:], used_NK.shape[1]), strict=True):
        sizes_R = record.per_record(np.clip(num_N - first, 0, max(0, end - first)))
        _put(step_NK[:, first:end], used_NK[:, first:end], record.symbols(name, sizes_R))
    return step_NK.reshape(-1) if int(num_N.sum()) == step_NK.size else step_NK[used_NK]


def _put(target_NK: np.ndarray, used_NK: np.ndarray, values_E: np.ndarray) -> None:
    """Writes values into the used places, row by row; where all are used no place need be looked for."""
    if len(values_E) == target_NK.size:
        target_NK[...] = values_E.reshape(target_NK.shape)
    else:
        target_NK[used_NK] = values_E


def _symbols_of(level_E: np.ndarray) -> tuple[np.ndarray, bytes]:
    """Symbols (E,) uint8 of levels, and what they leave open of high levels, packed."""
    level = level_E.astype(np.int64)
    bits_E = np.where(level < _PLAIN_LEVELS, 0, np.frexp(level)[1] - 4)
    symbol_E = np.where(bits_E > 0, 8 + 8 * bits_E + (level >> bits_E), level)
    return symbol_E.astype(np.uint8), pack_bits(level & (1 << bits_E) - 1, bits_E)


def _levels_of(symbol_NK: np.ndarray, record: PackedRecords) -> np.ndarray:
    """Levels (N, K): the inverse of ``_symbols_of``, written over the symbols."""
    is_high_NK = symbol_NK >= _PLAIN_LEVELS
    high = np.flatnonzero(is_high_NK)
    symbol_H = symbol_NK.reshape(-1)[high].astype(np.int64)
    bits_H = symbol_H - 16 >> 3
    if int(bits_H.max(initial=0)) > 4:
        raise Damaged("a probability has a level that there is not; label this shard again.")
    place_H = unpack_bits(bits_H, record.per_record(is_high_NK.sum(1)), record.plain("levels_places"))
    symbol_NK.reshape(-1)[high] = (symbol_H - 8 - 8 * bits_H << bits_H) + place_H
    return symbol_NK


def _low_bits(level_N: np.ndarray) -> bytes:
    """The lowest ``TAIL_BITS`` of every level, highest first."""
    places = np.arange(TAIL_BITS - 1, -1, -1)
    return np.packbits((level_N[:, None] >> places & 1).astype(np.uint8)).tobytes()


def _levels(probability_E: np.ndarray, steps: int) -> np.ndarray:
    return (np.sqrt(probability_E.astype(np.float64)) * steps + ROUNDING).clip(0, 255).astype(np.uint8)


def _tail_level(rows: RaggedLabels) -> np.ndarray:
    assert rows.tail_N is not None
    return side.level(-np.log(np.maximum(rows.tail_N.astype(np.float64), 1e-19)))


@dataclass(frozen=True)
class TopK:
    """The codec ``top-k``: the k likeliest ids with their probabilities, and the mass outside them."""

    name: ClassVar[str] = "top-k"
    coder: ClassVar[type[EntryCoder]] = LargestEntries
    k: int = 50
    value_steps: int = 199
    """Levels per unit of the square root of a probability: their error falls with its square."""

    @classmethod
    def of(cls, options: Options) -> Self:
        """See ``Codec``."""
        return cls(k=options.whole("k", 50, 1, MAX_IDS), value_steps=options.whole("value_steps", 199, 1, 255))

    @property
    def draws(self) -> None:
        """See ``Codec``."""

    @property
    def summary(self) -> str:
        """K."""
        return f"k = {self.k}"

    def read(self, scored: ScoredPositions) -> Kept:
        """The likeliest ids, commonest first, and their probabilities."""
        return _largest(scored, self.k)

    def fit(self, labels: RaggedLabels, vocab_size: int) -> LargestEntries:
        """See ``Codec``."""
        return LargestEntries.train(labels, vocab_size, self.value_steps)

    def bytes_per_token(self, vocab_size: int) -> float:
        """See ``Codec``."""
        return _bytes_of(self.k, vocab_size)


@dataclass(frozen=True)
class TopP(TopK):
    """The codec ``top-p``: the fewest of the k likeliest ids whose probabilities reach p together, and the rest's mass.

    2410.16215: p first in meaning, k as the limit.
    """

    name: ClassVar[str] = "top-p"
    p: float = 0.95

    @classmethod
    def of(cls, options: Options) -> Self:
        """See ``Codec``."""
        return replace(super().of(options), p=options.number("p", 0.95, math.ulp(0.0), 1.0))

    def read(self, scored: ScoredPositions) -> Kept:
        """The likeliest ids, commonest first, and their probabilities."""
        return _largest(scored, self.k, self.p)

    def bytes_per_token(self, vocab_size: int) -> float:
        """See ``Codec``."""
        return _bytes_of(self.k / 2, vocab_size)


def _bytes_of(ids: float, vocab_size: int) -> float:
    """Bytes per token of so many ids: each takes 3.5 bits less than one of a few, and a level 4.1 bits."""
    return 3.5 + ids * (max(2.0, id_bits(vocab_size) - 3.5) + 4.1) / 8


def _largest(scored: ScoredPositions, k: int, p: float | None = None) -> Kept:
    """The k likeliest ids of each position, or the shortest beginning of them whose mass reaches p."""
    top = scored.shifted_nV.topk(min(k, scored.shifted_nV.shape[1]), dim=-1)
    probability_nk = (top.values - scored.log_total_n[:, None]).exp()
    kept_nk = top.values > -math.inf  # no impossible id is kept
    if p is not None:
        kept_nk &= probability_nk.double().cumsum(-1) - probability_nk < p
    tail_n = (1.0 - (probability_nk.double() * kept_nk).sum(-1)).clamp(min=0.0)
    return Kept(top.indices[kept_nk], probability_nk[kept_nk], kept_nk.sum(-1), tail_n)
