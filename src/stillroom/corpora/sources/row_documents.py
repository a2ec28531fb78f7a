"""Documents from rows of text: mixed, set apart by split, cut where they are long."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.sources.texts import cut, held_out
from stillroom.files import fingerprint
from stillroom.types import UserError
from stillroom.worlds.base import Split

_MIXED_CHARS = 1 << 24  # of rows in memory, from which the next is drawn


def mixed(texts: Iterable[str], seed: int) -> Iterator[str]:
    """The same texts, each drawn at random from those in memory."""
    chance = random.Random(seed)
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        while size > _MIXED_CHARS:
            place = chance.randrange(len(held))
            held[place], held[-1] = held[-1], held[place]
            size -= len(held[-1])
            yield held.pop()
    chance.shuffle(held)
    yield from held


def row_documents(
    texts: Iterable[str], source: SourceConfig, seed: int, split: Split, count: RowCount
) -> Iterator[str]:
    """The texts of a split, by their content, cut where they are long."""
    empty = True
    for text in texts:
        if held_out(fingerprint(text), seed) == (split == "heldout"):
            empty = False
            yield from cut(text, source.max_document_chars)
    if empty:
        raise UserError(
            f"{source.path}: holds no text for the {split} split in {count.rows} rows, of which {count.without_text} "
            f"have no text in {source.field!r}; expected more rows (about one in twenty is held out) or another field."
        )
