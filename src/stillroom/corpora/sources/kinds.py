"""Where text comes from: every source gives documents for a seed and a split, and says what determines them.

A new kind of source is one function here and one name in ``SourceConfig.kind``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stillroom.corpora.corpus_config import SourceConfig
from stillroom.corpora.sources.hub import hub_rows
from stillroom.corpora.sources.listing import Listing, folder_files, list_files
from stillroom.corpora.sources.readers import file_rows
from stillroom.corpora.sources.table_rows import RowCount, row_texts
from stillroom.corpora.sources.texts import cut, held_out, sections
from stillroom.files import file_hash, fingerprint, reading
from stillroom.types import UserError
from stillroom.worlds import make_world
from stillroom.worlds.base import Split

_MIXED_CHARS = 1 << 24  # of rows in memory, from which the next is drawn


def documents(source: SourceConfig, seed: int, split: Split, count: RowCount | None = None) -> Iterator[str]:
    """The documents of a source. Worlds are endless, files end; no file or item is in both splits.

    Text files are cut into sections of at most ``max_document_chars`` at line ends, and the sections of all files are
    shuffled, so that any part of the stream is a fair sample. Rows of files are mixed within a few thousand; those of
    a dataset keep their order. ``count`` is told of the rows that were read.
    """
    count = RowCount() if count is None else count
    if source.kind == "hub":
        rows = row_texts(hub_rows(source), source.field, f"dataset {source.path}", count)
        yield from _row_documents(rows, source, seed, split, count)
    elif source.kind in ("python-library", "files"):
        listing = list_files(source)
        if listing.rows:
            yield from _row_documents(_mixed(_texts(listing, source, seed, count), seed), source, seed, split, count)
        else:
            yield from sections(listing, source, seed, split)
    else:
        yield from make_world(source.kind, dict(source.options)).documents(seed, split)


def source_identity(source: SourceConfig) -> dict[str, Any]:
    """What determines the documents besides the seed: the configuration and, for files, a hash of their content."""
    identity: dict[str, Any] = source.canonical()
    if (listing := _listed(source)) is not None:
        digest = hashlib.sha256()
        for file in listing.files:
            digest.update(f"{listing.name(file)}\0".encode("utf-8", "surrogateescape"))
            with reading(file, "a file of the corpus"):
                digest.update(bytes.fromhex(file_hash(file)))
        identity |= {"path": None, "content": digest.hexdigest()[:32]}
    elif source.kind != "hub":
        make_world(source.kind, dict(source.options))  # so that its options are checked before anything is built
    return identity


def source_stamps(source: SourceConfig) -> list[tuple[str, int, int]]:
    """Name, size and time of change of every file of a source: equal as long as nothing wrote to them."""
    listing = _listed(source)
    stamps = []
    for file in listing.files if listing else ():
        with reading(file, "a file of the corpus"):
            found = file.stat()
        stamps.append((str(file), found.st_size, found.st_mtime_ns))
    return stamps


def _listed(source: SourceConfig) -> Listing | None:
    """The files of a source that is made of files here."""
    if source.kind in ("python-library", "files"):
        return list_files(source)
    if source.kind == "hub" and Path(str(source.path)).is_dir():
        return folder_files(Path(str(source.path)))
    return None


def _texts(listing: Listing, source: SourceConfig, seed: int, count: RowCount) -> Iterator[str]:
    """The texts of all files of rows, file after file in random order."""
    files = list(listing.files)
    random.Random(seed).shuffle(files)
    for file in files:
        yield from row_texts(file_rows(file, source.field), source.field, str(file), count)


def _mixed(texts: Iterable[str], seed: int) -> Iterator[str]:
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


def _row_documents(
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
