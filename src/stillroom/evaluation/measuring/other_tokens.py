"""Held-out text of a corpus in the tokens of another tokenizer, so that its model is measured on the same text.

Bits per byte compare across tokenizers; nats per token do not. Every sequence is said anew, document by document, and
the bytes that are predicted are those that the corpus's own tokens predict: of a text that a sequence begins inside,
what its first token holds is context alone.
Letters: B sequences, T positions of the corpus's sequence, S of the row in other tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.evaluation.measuring.language_modelling import Heldout
from stillroom.types import IGNORE_INDEX, Batch, Sequences, SpecialIds, UserError
from stillroom.vocabulary import Vocabulary, encode, encode_documents

_PADDING = 64
"""Positions behind a row's end that count as one document."""


@dataclass(frozen=True)
class Row:
    """A sequence in other tokens: ids, the number of each one's document, its bytes, and whether it is predicted."""

    tokens: list[int]
    documents: list[int]
    bytes: list[int]
    is_target: list[bool]

    def add(self, ids: Sequence[int], sizes: Sequence[int], document: int, *, is_target: bool) -> None:
        """Appends tokens of one document."""
        self.tokens.extend(ids)
        self.documents.extend([document] * len(ids))
        self.bytes.extend(sizes)
        self.is_target.extend([is_target] * len(ids))


class OtherTokens:
    """``Sequences`` of a corpus as another tokenizer says them; ``marks`` open and close documents there."""

    def __init__(self, heldout: Heldout, own: Any, other: Any, marks: SpecialIds):
        self._heldout, self._own_marks = heldout, SpecialIds(own.bos_token_id, own.eos_token_id)
        self._own, self._other = Vocabulary.of(own), Vocabulary.of(other)
        self._tokenizer, self._marks = other, marks
        self._rows = functools.lru_cache(maxsize=4)(self._rows_of)

    @property
    def sequence_length(self) -> int:
        """Of the corpus's own sequences, in its own tokens: about as much text as a row holds."""
        return self._heldout.sequences.sequence_length

    def __len__(self) -> int:
        return len(self._heldout.sequences)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers; shorter rows are filled up with their own tokens, which nothing counts."""
        rows = self._rows(tuple(indices))
        width = max(len(row.tokens) for row in rows)
        tokens_BS = torch.stack([torch.from_numpy(np.resize(np.array(row.tokens, np.int64), width)) for row in rows])
        document_BS = torch.stack([_documents(row, width) for row in rows])
        is_target_BS = torch.tensor([row.is_target + [False] * (width - len(row.tokens)) for row in rows])
        targets_BS = torch.full_like(tokens_BS, IGNORE_INDEX)
        targets_BS[:, :-1] = torch.where(is_target_BS[:, 1:], tokens_BS[:, 1:], IGNORE_INDEX)
        return Batch(tokens_BS, targets_BS, document_BS)

    def token_bytes(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Bytes of text of every token of ``batch``, (B, S)."""
        rows = self._rows(tuple(indices))
        width = max(len(row.tokens) for row in rows)
        return np.array([row.bytes + [0] * (width - len(row.bytes)) for row in rows], np.int64)

    def _rows_of(self, indices: tuple[int, ...]) -> list[Row]:
        batch = self._heldout.sequences.batch(list(indices))
        counted = None if self._heldout.bytes_of is None else self._heldout.bytes_of(list(indices))
        return [
            self._row(tokens.tolist(), documents.tolist(), None if counted is None else counted[place].tolist())
            for place, (tokens, documents) in enumerate(zip(batch.tokens_BT, batch.document_BT, strict=True))
        ]

    def _row(self, tokens: list[int], documents: list[int], counted: list[int] | None) -> Row:
        row = Row([], [], [], [])
        eos = self._own_marks.eos
        for number, (start, stop) in enumerate(_spans(documents)):
            ids, opened = tokens[start:stop], tokens[start] == self._own_marks.bos
            if ids == [eos] and not opened:  # of a document that ends where the sequence begins, nothing is predicted
                continue
            said = [self._own.pieces[i] if i < len(self._own.pieces) else b"" for i in ids]
            if counted is not None and sum(counted[start:stop]) + 1 == sum(map(len, said)):
                first = next(place for place, piece in enumerate(said) if piece)
                said[first] = said[first].removeprefix(b" ")  # the space that the tokenizer puts before a text
            known = b"" if opened else said[0]
            self._document(row, known, b"".join(said)[len(known) :], number, opened=opened)
            # Where one mark does for both ends, the next document's closes this one; a mark alone is filling.
            if (len(ids) > 1 and ids[-1] == eos) or (ids[-1] != eos and tokens[stop : stop + 1] == [eos]):
                row.add([self._marks.eos or 0], [0], number, is_target=True)
        return row

    def _document(self, row: Row, known: bytes, text: bytes, number: int, *, opened: bool) -> None:
        """Says what is known of a document (context alone) and what is predicted; half characters are left out."""
        whole = (known + text).decode("utf-8", errors="ignore")
        start = len(known.decode("utf-8", errors="ignore"))
        before, after = whole[:start], whole[start:]
        if opened or not before:
            row.add([self._marks.bos or 0], [0], number, is_target=False)
        for part, is_target in ((before, False), (after, True)):
            if part:
                say = encode_documents if opened and not before else encode
                (ids,) = say(self._tokenizer, [part])
                row.add(ids, self._sizes(part, ids), number, is_target=is_target)

    def _sizes(self, text: str, ids: list[int]) -> list[int]:
        sizes = self._other.bytes_of(self._tokenizer, text, ids)
        if sizes is None:
            raise UserError(
                f"its tokenizer cannot say {text[:40]!r} of the held-out text, so bits per byte would be wrong; use "
                "one that keeps every character, such as a byte-level one."
            )
        return sizes.tolist()


def _spans(documents: Sequence[int]) -> Iterator[tuple[int, int]]:
    ends = [place for place in range(1, len(documents)) if documents[place] != documents[place - 1]]
    yield from zip([0, *ends], [*ends, len(documents)], strict=True)


def _documents(row: Row, width: int) -> torch.Tensor:
    """Numbers of documents (S,), with padding as documents of their own."""
    last = row.documents[-1] if row.documents else 0
    padding = [last + 1 + place // _PADDING for place in range(width - len(row.documents))]
    return torch.tensor(row.documents + padding, dtype=torch.int32)


def in_other_tokens(heldout: Heldout, own: Any, other: Any, marks: SpecialIds) -> Heldout:
    """The same held-out text for a model of tokenizer ``other``, whose ids ``marks`` open and close documents.

    Raises ``UserError`` for a tokenizer that loses text.
    """
    sequences: Sequences = OtherTokens(heldout, own, other, marks)
    lengths = Vocabulary.of(other).byte_lengths_V
    return replace(heldout, sequences=sequences, byte_lengths_V=lengths, bytes_of=sequences.token_bytes)  # type: ignore[attr-defined]
