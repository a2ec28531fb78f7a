"""The source of the installed Python library: real text that is on every machine."""

from __future__ import annotations

from stillroom.corpora.sources.files_source import file_documents
from stillroom.corpora.sources.listing import list_files
from stillroom.corpora.sources import shim
from stillroom.corpora.sources.source_kinds import SourceKind

SOURCE = SourceKind(None, shim.parts, shim.texts, takes=("max_document_chars",), listing=list_files)
