"""Texts at which a completion ends, looked for in bytes while it is written, wherever token borders fall.

A special token counts as its written name here, so that ``<|im_end|>`` ends a completion whether it comes as that
token or letter by letter; it is no part of a completion's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StopTexts:
    """Texts that end a completion, and the bytes of every token id (``Vocabulary.pieces``). Empty texts end nothing."""

    texts: tuple[str, ...]
    pieces: tuple[bytes, ...] = field(repr=False)

    @property
    def spelt(self) -> tuple[bytes, ...]:
        """What every token is called: its text, or the name of a special token."""
        return getattr(self.pieces, "spelt", self.pieces)

    @property
    def ids(self) -> tuple[int, ...]:
        """Special tokens with a stop text in their name, for samplers that look at text alone."""
        differ = (i for i, (piece, name) in enumerate(zip(self.pieces, self.spelt, strict=True)) if piece != name)
        return tuple(i for i in differ if any(stop and stop.encode() in self.spelt[i] for stop in self.texts))

    def watch(self, num_rows: int) -> Watch:
        """A fresh look at ``num_rows`` completions, all empty."""
        return Watch(tuple(text.encode() for text in self.texts if text), self.spelt, [b""] * num_rows)

    def cut(self, text: str) -> str:
        """The text before the first of the stop texts in it."""
        ends = [place for stop in self.texts if stop and (place := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text

    def text(self, ids: Sequence[int], eos: int | None = None) -> str:
        """The text of a completion before the first of the stop texts in it, or before the end of the document."""
        names = [_at(self.spelt, i) for i in ids]
        whole = b"".join(names)
        end = min((place for stop in self.texts if stop and (place := whole.find(stop.encode())) >= 0), default=None)
        kept, place = [], 0
        for i, name in zip(ids, names, strict=True):
            if i == eos or (end is not None and place >= end):
                break
            piece = _at(self.pieces, i)
            is_special = piece != name
            kept.append(piece if end is None or is_special else piece[: end - place])
            place += len(name)
        return b"".join(kept).decode("utf-8", errors="replace")


def _at(pieces: tuple[bytes, ...], token: int) -> bytes:
    """Nothing for ids beyond the tokenizer's, which models with padded vocabularies may draw."""
    return pieces[token] if token < len(pieces) else b""


@dataclass(frozen=True)
class Watch:
    """The end of every completion so far: enough of it that no stop text can hide across tokens."""

    stops: tuple[bytes, ...]
    pieces: tuple[bytes, ...] = field(repr=False)
    tails: list[bytes] = field(repr=False)

    def ended(self, rows: Sequence[int], tokens: Sequence[int]) -> list[bool]:
        """Appends one token to each of these rows; whether a stop text is then in it."""
        kept = max(map(len, self.stops), default=1) - 1
        over = []
        for row, token in zip(rows, tokens, strict=True):
            text = self.tails[row] + _at(self.pieces, token)
            over.append(any(stop in text for stop in self.stops))
            self.tails[row] = text[-kept:] if kept else b""
        return over
