"""Files below a folder, or one file: text as it stands, or rows with a text in a field.

Text files are cut into sections of at most ``max_document_chars`` at line ends, and the sections of all files are
shuffled, so that any part of the stream is a fair sample. Rows are mixed within a few thousand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from stillroom.corpora.sources.listing import Listing, list_files
from stillroom.corpora.sources.readers import file_rows
from stillroom.corpora.sources.row_documents import mixed, row_documents
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources import shim
from stillroom.corpora.sources.source_kinds import SourceKind
from stillroom.corpora.sources.table_rows import RowCount, row_texts
from stillroom.corpora.sources.texts import sections
from stillroom.worlds.base import Split


def file_documents(source: SourceConfig, seed: int, split: Split, count: RowCount) -> Iterator[str]:
    """The documents of a split, in random order."""
    listing = list_files(source)
    if listing.rows:
        yield from row_documents(mixed(_texts(listing, source, seed, count), seed), source, seed, split, count)
    else:
        yield from sections(listing, source, seed, split)


def _texts(listing: Listing, source: SourceConfig, seed: int, count: RowCount) -> Iterator[str]:
    """The texts of all files of rows, file after file in random order."""
    files = list(listing.files)
    random.Random(seed).shuffle(files)
    for file in files:
        yield from row_texts(file_rows(file, source.field), source.field, str(file), count)


SOURCE = SourceKind(
    None, shim.parts, shim.texts,
    takes=("path", "pattern", "exclude", "format", "field", "max_document_chars"),
    path="a file or a folder of text",
    listing=list_files,
)
