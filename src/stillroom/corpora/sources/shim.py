"""Shim until the sources' own lands: parts and texts over the readers of today."""
from __future__ import annotations
import os
from stillroom.corpora.sources.listing import list_files
from stillroom.corpora.sources.readers import file_rows
from stillroom.corpora.sources.table_rows import row_texts
from stillroom.corpora.sources.texts import cut
from stillroom.files import reading
from stillroom.types import UserError


def parts(source, seed, size):
    from stillroom.corpora.sources.source_kinds import Part
    listing = list_files(source)
    out = []
    for f in listing.files:
        n = os.path.getsize(f)
        if listing.rows:
            out.append(Part(str(f), 0, n, "whole", n))
        else:
            for s in range(0, n, size):
                out.append(Part(str(f), s, min(n, s + size), "bytes", min(n, s + size) - s))
    return out


def texts(source, part, count):
    from pathlib import Path
    if part.unit == "whole":
        yield from row_texts(file_rows(Path(part.file), source.field), source.field, part.file, count)
        return
    with reading(Path(part.file), "text"), open(part.file, "rb") as h:
        if part.start:
            h.seek(part.start - 1)
            h.readline()
        data = b""
        if h.tell() < part.stop:
            data = h.read(part.stop - h.tell())
            if not data.endswith(b"\n"):
                data += h.readline()
    if b"\0" in data:
        raise UserError(f"{part.file}: is binary")
    try:
        yield from cut(data.decode("utf-8-sig"), source.max_document_chars)
    except UnicodeDecodeError as error:
        raise UserError(f"{part.file}: is not UTF-8 at byte {error.start}") from None
