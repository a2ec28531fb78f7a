"""The source of the installed Python library: real text that is on every machine."""

from __future__ import annotations

from stillroom.corpora.sources.files_source import parts_of_files, texts_of_part
from stillroom.corpora.sources.listing import list_files
from stillroom.corpora.sources.source_kinds import SourceKind

SOURCE = SourceKind(
    parts=parts_of_files, texts=texts_of_part, takes=("epochs", "max_document_chars"), listing=list_files
)
