"""The copying world: text that cannot be guessed but can be copied, so that looking back in the context pays at once.

Two kinds of documents: a segment of random pieces said again and again, and a table of random pairs that is then looked
up. Pieces are letters, digits, common words and parts of identifiers, so that most of a small vocabulary occurs.
Imports its vocabulary, options and base only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from stillroom.worlds.base import Split
from stillroom.worlds.options import split_of
from stillroom.worlds.text_worlds import TextWorldKind
from stillroom.worlds.words import PIECES, SYMBOLS

LETTERS_AND_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"


_MOST_PIECES = 10_000


@dataclass(frozen=True)
class CopyingOptions:
    """Knobs of the copying world."""

    shortest: int = 8
    """Fewest pieces of a repeated segment."""
    longest: int = 25
    """Most pieces of a repeated segment."""
    pieces: int = 100
    """Pieces of a whole document of repeated segments, about; a segment is said at least twice."""
    letters_share: float = 0.3
    """Part of the repeated segments that are characters of ``alphabet`` only: few different tokens, so learnt first."""
    alphabet: str = LETTERS_AND_DIGITS
    """Characters of those segments. Where a tokenizer splits digits, a spaced digit is two tokens, a letter is one."""
    lookup_share: float = 0.2
    """Part of the documents that are tables to look up; the others are repeated segments."""

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest <= _MOST_PIECES:
            raise ValueError(
                f"shortest is {self.shortest} and longest {self.longest}, expected 1 <= shortest <= longest "
                f"<= {_MOST_PIECES}"
            )
        if len(set(self.alphabet)) < 2 or any(letter.isspace() for letter in self.alphabet):
            raise ValueError(f"alphabet is {self.alphabet!r}, expected two or more different characters, none a space")
        if not 2 <= self.pieces <= _MOST_PIECES:
            raise ValueError(f"pieces is {self.pieces}, expected 2 to {_MOST_PIECES}")
        for name in ("letters_share", "lookup_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")


@dataclass(frozen=True)
class CopyingWorld:
    """Repeated segments of random pieces, and tables to look up."""

    options: CopyingOptions = CopyingOptions()

    def documents(self, seed: int, split: Split) -> Iterator[str]:
        """Endless documents; a segment or table is in one split only."""
        random = Random(f"copying/{seed}/{split}")
        while True:
            lookup = random.random() < self.options.lookup_share
            document = self._table(random) if lookup else self._segment(random)
            if split_of(document) == split:
                yield document

    def _segment(self, random: Random) -> str:
        length = random.randint(self.options.shortest, self.options.longest)
        if random.random() < self.options.letters_share:
            segment = "".join(f" {letter}" for letter in random.choices(self.options.alphabet, k=length))
        else:
            segment = "".join(_spaced(random, piece) for piece in _pieces(random, length))
        return segment * max(2, self.options.pieces // length)

    def _table(self, random: Random) -> str:
        num = random.randint(3, 8)
        keys = list(dict.fromkeys(_pieces(random, num)))
        rows = [f"{key} {value}" for key, value in zip(keys, _pieces(random, len(keys)), strict=True)]
        asked = [random.choice(rows) for _ in range(num)]
        return "\n".join([*rows, "", *asked])


def _pieces(random: Random, num: int) -> list[str]:
    return [_piece(random) for _ in range(num)]


def _spaced(random: Random, piece: str) -> str:
    """The piece, after a space or not: vocabularies hold both forms of what is common."""
    return f" {piece}" if random.random() < 0.5 else piece


def _piece(random: Random) -> str:
    kind = random.random()
    if kind < 0.5:
        return random.choice(PIECES)
    if kind < 0.8:
        return random.choice(LETTERS_AND_DIGITS)
    return random.choice(SYMBOLS)


WORLD = TextWorldKind(CopyingOptions, CopyingWorld)
