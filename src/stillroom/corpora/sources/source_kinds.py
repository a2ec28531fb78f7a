"""Kinds of sources by name: what each takes, the parts that its text is read in, what determines them.

A kind is a file ``NAME_source.py`` here, or another package's by the entry point ``stillroom.sources``; every text
world is one too.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stillroom.corpora.sources.holding_out import content_hash, is_held_out
from stillroom.corpora.sources.opening import is_url, stamp_of
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.sources.texts import cut
from stillroom.files import file_hash, reading
from stillroom.registry import Registry
from stillroom.types import UserError
from stillroom.worlds import TEXT_WORLDS, make_world
from stillroom.worlds.base import Split

if TYPE_CHECKING:
    from pydantic import JsonValue
    from transformers import PreTrainedTokenizerBase

    from stillroom.corpora.exchange.id_documents import IdDocuments
    from stillroom.corpora.sources.listing import Listing
    from stillroom.corpora.sources.source_config import SourceConfig
    from stillroom.vocabulary import Vocabulary

_PART_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """One kind of source: of text that is read in parts, or of endless documents."""

    parts: Callable[[SourceConfig, int, int], list[Part]] | None = None
    """Cuts the text of a source, of a seed, into parts of about so many bytes: the same ones whenever it is asked."""
    texts: Callable[[SourceConfig, Part, RowCount], Iterator[str]] | None = None
    """The whole texts of a part, in order; the count is told of the rows that were read, where there are any."""
    ids: Callable[[SourceConfig, Part, Vocabulary], Iterator[IdDocuments]] | None = None
    """In place of ``texts``: the documents of a part as ids of a vocabulary, without marks."""
    documents: Callable[[SourceConfig, int, Split], Iterator[str]] | None = None
    """In place of the two: endless documents of a seed and a split, the same ones whenever they are asked for, none in
    both splits."""
    takes: tuple[str, ...] = ("options",)
    """Fields of ``SourceConfig`` that have an effect; others are refused."""
    path: str | None = None
    """What ``path`` names, where it must be given."""
    listing: Callable[[SourceConfig], Listing | None] = lambda source: None
    """The files that determine the texts; None where the configuration alone does."""
    check: Callable[[SourceConfig], object] = lambda source: None
    """Refuses options before anything is built, by ``UserError``."""
    check_tokenizer: Callable[[SourceConfig, PreTrainedTokenizerBase], object] = lambda source, tokenizer: None
    """Refuses a tokenizer that is not the one of its ids."""


SOURCES: Registry[SourceKind] = Registry(
    "stillroom.corpora.sources", Path(__file__).parent, "source", "stillroom.sources"
)
"""Every kind of source by name but for the worlds."""


def source_names() -> list[str]:
    """Every kind that a source can be of, the worlds last."""
    return [*SOURCES.names(), *TEXT_WORLDS.names()]


def is_world(name: str) -> bool:
    """Whether a kind of source is a synthetic world; the others hold text of people."""
    return name in TEXT_WORLDS.names()


def source_kind(name: str) -> SourceKind:
    """The kind of a name; a ``UserError`` where there is none."""
    return _WORLD if is_world(name) else SOURCES.find(name)


_WORLD = SourceKind(
    documents=lambda source, seed, split: make_world(source.kind, source.options).documents(seed, split),
    check=lambda source: make_world(source.kind, source.options),
)
"""Worlds are endless; the same options give the same documents."""


def source_parts(source: SourceConfig, seed: int, size: int) -> list[Part]:
    """The parts of a source of text, of about ``size`` bytes each; one that cannot be cut there is longer."""
    kind = source_kind(source.kind)
    if kind.parts is None:
        raise UserError(f"corpus.sources: kind {source.kind} gives no texts in parts; use another kind.")
    return kind.parts(source, seed, size)


def source_texts(source: SourceConfig, part: Part, count: RowCount) -> Iterator[str]:
    """The whole texts of a part of a source; ``count`` is told of the rows that were read."""
    kind = source_kind(source.kind)
    if kind.texts is None:
        raise UserError(f"corpus.sources: kind {source.kind} gives no texts; use another kind.")
    return kind.texts(source, part, count)


def documents(source: SourceConfig, seed: int, split: Split, count: RowCount | None = None) -> Iterator[str]:
    """The documents of a split of a source. Worlds are endless, files end; no text or item is in both splits.

    The parts come in a random order. ``count`` is told of the rows that were read. Raises
    ``UserError`` where a file cannot be read, or has no text.
    """
    kind = source_kind(source.kind)
    count = RowCount() if count is None else count
    return kind.documents(source, seed, split) if kind.documents else _documents(source, seed, split, count)


def _documents(source: SourceConfig, seed: int, split: Split, count: RowCount) -> Iterator[str]:
    parts = source_parts(source, seed, _PART_BYTES)
    random.Random(seed).shuffle(parts)
    empty = True
    for part in parts:
        for text in source_texts(source, part, count):
            if is_held_out(content_hash(text), seed) == (split == "heldout"):
                empty = False
                yield from cut(text, source.max_document_chars)
    if empty:
        rows = f" in {count.rows} rows, of which {count.without_text} have no text" if count.rows else ""
        raise UserError(
            f"{source.path}: holds no text for the {split} split{rows}; expected more of it (about one text in twenty "
            "is held out)."
        )


def source_identity(source: SourceConfig) -> dict[str, JsonValue]:
    """What determines the documents besides the seed: the configuration and, for files, a hash of their content.

    Of a file behind an address it is what the server says of it in place of its content.
    """
    kind, identity = source_kind(source.kind), source.canonical()
    kind.check(source)
    if (listing := kind.listing(source)) is not None:
        digest = hashlib.sha256()
        for file in listing.files:
            digest.update(f"{listing.name(file)}\0".encode("utf-8", "surrogateescape"))
            digest.update(_content(stamp_of(file)))
        identity |= {"path": None, "content": digest.hexdigest()[:32]}
    return identity


@lru_cache(1 << 20)
def _content(stamp: tuple[str, int, str]) -> bytes:
    file, size, changed = stamp
    if is_url(file):
        return hashlib.sha256(f"{size}\0{changed}".encode()).digest()
    with reading(Path(file), "a file of the corpus"):
        return bytes.fromhex(file_hash(Path(file)))


def source_stamps(source: SourceConfig) -> list[tuple[str, int, str]]:
    """Name, size and time of change of every file of a source: equal as long as nothing wrote to them."""
    listing = source_kind(source.kind).listing(source)
    return [stamp_of(file) for file in listing.files] if listing else []
