"""Records to bytes and back: the entries of a codec, and beside them entropy, gold log-probability, rank and tokens.

Everything that is fitted to a sample (ranking of the vocabulary, groups, pairs, code tables) is the codebook, written
once per store. Letters: N positions, T positions of a record, K places. Imports no torch but through ``ragged``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillroom.labels.codecs import gold as side
from stillroom.labels.codecs.codec import EntryCoder
from stillroom.labels.codecs.id_sets import SetCoder
from stillroom.labels.codecs.symbols import PairCoder, SymbolCoder
from stillroom.labels.format.layout import Damaged
from stillroom.labels.format.record import Columns, PackedRecords, pack_record
from stillroom.labels.ragged import NO_GOLD, PaddedLabels, RaggedLabels, blank

SIDE_SYMBOLS = ("entropy", "gold", "rank", "missed")
SIDE_PLAIN = ("entropy_bits", "gold_bits", "rank_bits", "rank_rest", "missed_places")
PIECE_POSITIONS = 16_384
"""Positions that are decoded at one time."""


@dataclass(frozen=True)
class RecordCodec:
    """The codec of one store, fitted to it: a codec's entries and the columns beside them.

    ``entropy_guess`` and ``gold_guess``, by contexts that the entries give, are what a reader expects of a position
    before it reads the two columns. ``ranks`` pairs the gold rank with the place of the next token among the entries
    (0 = not among them); tokens that are not there are kept by ``missed``, one to a set.
    """

    length: int
    entries: EntryCoder
    entropy_guess: np.ndarray  # uint8 (256,)
    gold_guess: np.ndarray  # uint8 (256,)
    ranks: PairCoder
    missed: SetCoder
    coders: dict[str, SymbolCoder]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of a record in order."""
        return (*self.entries.SYMBOLS, *self.entries.PLAIN, *SIDE_SYMBOLS, *SIDE_PLAIN)

    def encode(self, tokens_T: np.ndarray, rows: RaggedLabels) -> bytes:
        """The bytes of one record."""
        return pack_record(self.columns(tokens_T, rows), self.coders, self.names)

    def columns(self, tokens_T: np.ndarray, rows: RaggedLabels) -> Columns:
        """One record as columns."""
        ordered, columns, context = self.entries.encode(rows)
        place_T = places(tokens_T, ordered)
        has_gold_T = rows.gold_rank_N != NO_GOLD
        entropy, entropy_bits = side.to_symbols(rows.entropy_N, self.entropy_guess[context.entropy_context_N])
        gold, gold_bits = side.to_symbols(-rows.gold_logprob_N, self.gold_guess[context.gold_context(place_T)])
        gold, gold_bits = np.where(has_gold_T, gold, 0).astype(np.uint8), gold_bits * has_gold_T
        class_T, rank_bits = side.rank_class(rows.gold_rank_N)
        rank, rank_rest = self.ranks.encode(class_T, context.stored_place(place_T))
        unseen = np.concatenate((tokens_T[:1], tokens_T[1:][place_T[:-1] == 0]))
        missed, missed_places = self.missed.encode(
            unseen, np.ones(len(unseen), np.int64), np.zeros(len(unseen), np.int64)
        )
        columns.symbols.update(zip(SIDE_SYMBOLS, (entropy, gold, rank, missed), strict=True))
        packed = (
            np.packbits(entropy_bits).tobytes(),
            np.packbits(gold_bits).tobytes(),
            rank_bits,
            rank_rest,
            missed_places,
        )
        columns.plain.update(zip(SIDE_PLAIN, packed, strict=True))
        return columns

    def decode(self, payloads: Sequence[memoryview]) -> PaddedLabels:
        """The labels of several records, one after another."""
        return self._decode(payloads)[0]

    def decode_with_tokens(self, payloads: Sequence[memoryview]) -> tuple[PaddedLabels, np.ndarray]:
        """The labels of several records and the token ids (R, T), int32, that they belong to."""
        labels, place_N, records = self._decode(payloads)
        ids_RTK = labels.ids_NK.reshape(len(payloads), self.length, -1)
        place_RT = place_N.reshape(len(payloads), self.length)
        starts = np.cumsum([0, *(len(record) for record in records)])
        pieces = [
            self._tokens(record, ids_RTK[start : start + len(record)], place_RT[start : start + len(record)])
            for record, start in zip(records, starts, strict=False)
        ]
        return labels, np.concatenate(pieces)

    def _tokens(self, record: PackedRecords, ids_RTK: np.ndarray, place_RT: np.ndarray) -> np.ndarray:
        follows_RT = place_RT[:, :-1]
        is_missed_RT = np.ones(place_RT.shape, bool)
        is_missed_RT[:, 1:] = follows_RT == 0
        missed_R = is_missed_RT.sum(1)
        steps = record.symbols("missed", missed_R)
        ones = np.ones(len(steps), np.int64)
        taken_RT = np.take_along_axis(ids_RTK[:, :-1], np.maximum(follows_RT, 1)[:, :, None] - 1, 2)[:, :, 0]
        tokens_RT = np.concatenate((np.zeros((len(record), 1), np.int32), taken_RT), 1, dtype=np.int32)
        tokens_RT[is_missed_RT] = self.missed.decode(steps, ones, None, missed_R, record.plain("missed_places"))
        return tokens_RT

    def _decode(self, payloads: Sequence[memoryview]) -> tuple[PaddedLabels, np.ndarray, list[PackedRecords]]:
        """Labels, place of the next token among each position's entries, and the records in pieces.

        Pieces of a few thousand positions stay in the processor's cache from step to step.
        """
        size = max(1, PIECE_POSITIONS // self.length)
        records = [
            PackedRecords(payloads[start : start + size], self.coders, self.names, self.length)
            for start in range(0, len(payloads), size)
        ]
        sizes = [self.entries.sizes(record) for record in records]
        num_N = np.concatenate([piece[0] for piece in sizes]).astype(np.int32)
        out = blank(num_N, self.entries.HAS_TAIL)
        place_N = np.empty(len(num_N), np.int32)
        start = 0
        for record, piece in zip(records, sizes, strict=True):
            here = slice(start, start + len(record) * self.length)
            place_N[here] = self._fill(record, piece, out.part(here))
            start = here.stop
        return out, place_N, records

    def _fill(self, record: PackedRecords, sizes: Sequence[np.ndarray], out: PaddedLabels) -> np.ndarray:
        """Writes the labels of a few records; returns the places of the next tokens."""
        context = self.entries.fill(record, sizes, out.ids_NK, out.weights_NK)
        if out.tail_N is not None:
            out.tail_N[:] = context.tail_N
        class_N, stored_N = self.ranks.decode(record.symbols("rank"), record.joined("rank_rest"))
        out.gold_rank_N[:] = side.rank_of_class(class_N, len(record), record.plain("rank_bits"))
        if int(stored_N.min()) < 0 or (stored_N > out.num_N).any():
            raise Damaged("a next token is said to stand where no id stands; label this shard again.")
        place_N = context.place(stored_N)
        guess_N = self.gold_guess.take(context.gold_context(place_N), mode="clip")
        gold_N = side.from_symbols(record.symbols("gold"), record.bits("gold_bits"), guess_N)
        np.multiply(gold_N, -(out.gold_rank_N != NO_GOLD).astype(np.float32), out=out.gold_logprob_N)
        guess_N = self.entropy_guess.take(context.entropy_context_N, mode="clip")
        out.entropy_N[:] = side.from_symbols(record.symbols("entropy"), record.bits("entropy_bits"), guess_N)
        return place_N


def places(tokens_T: np.ndarray, ordered: RaggedLabels) -> np.ndarray:
    """1 + place of the next token among a position's entries, 0 where it is not; int64 (T,)."""
    next_T = np.append(tokens_T[1:], -1)
    position_E = ordered.position_E
    starts_T = np.cumsum(ordered.num_N, dtype=np.int64) - ordered.num_N
    hits = np.flatnonzero(ordered.ids_E == next_T[position_E])
    place_T = np.zeros(len(tokens_T), np.int64)
    place_T[position_E[hits]] = hits - starts_T[position_E[hits]] + 1
    return place_T
