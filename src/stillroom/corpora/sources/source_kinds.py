"""Kinds of sources by name: what each takes, the documents that it gives for a seed and a split, what determines them.

A kind is a file ``NAME_source.py`` here, or another package's by the entry point ``stillroom.sources``; every text
world is one too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.corpora.sources.table_rows import RowCount
from stillroom.files import file_hash, reading
from stillroom.registry import Registry
from stillroom.worlds import TEXT_WORLDS, make_world
from stillroom.worlds.base import Split

if TYPE_CHECKING:
    from pydantic import JsonValue

    from stillroom.corpora.sources.listing import Listing
    from stillroom.corpora.sources.source_config import SourceConfig


@dataclass(frozen=True)
class Part:
    """A piece of a source."""

    file: str
    start: int
    stop: int
    unit: str
    size: int


@dataclass(frozen=True)
class SourceKind:
    """One kind of source."""

    documents: Callable[[SourceConfig, int, Split, RowCount], Iterator[str]]
    """Of a seed and a split: the same ones whenever they are asked for, none in both splits. The count is told of the
    rows that were read, where there are any."""
    parts: Any = None
    texts: Any = None
    takes: tuple[str, ...] = ("options",)
    """Fields of ``SourceConfig`` that have an effect; others are refused."""
    path: str | None = None
    """What ``path`` names, where it must be given."""
    listing: Callable[[SourceConfig], Listing | None] = lambda source: None
    """The files that determine the documents; None where the configuration alone does."""
    check: Callable[[SourceConfig], object] = lambda source: None
    """Refuses options before anything is built, by ``UserError``."""


SOURCES: Registry[SourceKind] = Registry(
    "stillroom.corpora.sources", Path(__file__).parent, "source", "stillroom.sources"
)
"""Every kind of source by name but for the worlds."""


def source_names() -> list[str]:
    """Every kind that a source can be of, the worlds last."""
    return [*SOURCES.names(), *TEXT_WORLDS.names()]


def source_kind(name: str) -> SourceKind:
    """The kind of a name; a ``UserError`` where there is none."""
    return _WORLD if name in TEXT_WORLDS.names() else SOURCES.find(name)


_WORLD = SourceKind(
    lambda source, seed, split: make_world(source.kind, source.options).documents(seed, split),
    check=lambda source: make_world(source.kind, source.options),
)
"""Worlds are endless; the same options give the same documents."""


def documents(source: SourceConfig, seed: int, split: Split, count: RowCount | None = None) -> Iterator[str]:
    """The documents of a source. Worlds are endless, files end; no file or item is in both splits.

    ``count`` is told of the rows that were read.
    """
    return source_kind(source.kind).documents(source, seed, split)


def source_identity(source: SourceConfig) -> dict[str, JsonValue]:
    """What determines the documents besides the seed: the configuration and, for files, a hash of their content."""
    kind, identity = source_kind(source.kind), source.canonical()
    kind.check(source)
    if (listing := kind.listing(source)) is not None:
        digest = hashlib.sha256()
        for file in listing.files:
            digest.update(f"{listing.name(file)}\0".encode("utf-8", "surrogateescape"))
            with reading(file, "a file of the corpus"):
                digest.update(bytes.fromhex(file_hash(file)))
        identity |= {"path": None, "content": digest.hexdigest()[:32]}
    return identity


def source_stamps(source: SourceConfig) -> list[tuple[str, int, int]]:
    """Name, size and time of change of every file of a source: equal as long as nothing wrote to them."""
    listing = source_kind(source.kind).listing(source)
    stamps = []
    for file in listing.files if listing else ():
        with reading(file, "a file of the corpus"):
            found = file.stat()
        stamps.append((str(file), found.st_size, found.st_mtime_ns))
    return stamps
