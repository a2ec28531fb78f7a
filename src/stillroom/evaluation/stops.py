"""Texts at which a completion ends, looked for in bytes while it is written, wherever token borders fall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StopTexts:
    """Texts that end a completion, and the bytes of every token id (``Vocabulary.pieces``)."""

    texts: tuple[str, ...]
    pieces: tuple[bytes, ...] = field(repr=False)

    def watch(self, num_rows: int) -> Watch:
        """A fresh look at ``num_rows`` completions, all empty."""
        return Watch(tuple(text.encode() for text in self.texts), self.pieces, [b""] * num_rows)

    def cut(self, text: str) -> str:
        """The text before the first of the stop texts in it."""
        ends = [place for stop in self.texts if (place := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text


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
            text = self.tails[row] + self.pieces[token]
            over.append(any(stop in text for stop in self.stops))
            self.tails[row] = text[-kept:] if kept else b""
        return over
