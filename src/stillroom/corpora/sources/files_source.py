"""Files of a folder, a pattern or an address, or one file: text as it stands, or rows with a text in a field.

Text files are cut into sections of at most ``max_document_chars`` at line ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from stillroom.corpora.sources.listing import Listing, formats_of, list_files
from stillroom.corpora.sources.opening import side_by_side
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.readers import cut_file, file_rows, fitted
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import SourceKind
from stillroom.corpora.sources.table_rows import RowCount, RowText
from stillroom.corpora.sources.texts import sections
from stillroom.types import Unreadable


def parts_of_files(source: SourceConfig, seed: int, size: int) -> list[Part]:
    """The parts of all files."""
    return cut_listing(list_files(source), source, size)


def cut_listing(listing: Listing, source: SourceConfig, size: int) -> list[Part]:
    """The parts of the files of a listing."""
    formats = dict(zip(listing.files, formats_of(listing.files, source), strict=True))

    def cut_one(file: str) -> list[Part]:
        try:
            return cut_file(file, formats[file], size)
        except Unreadable:
            if source.errors != "skip":
                raise
            return [Part(file)]  # reading it will count the damage

    return [part for parts in side_by_side(cut_one, listing.files) for part in parts]


def texts_of_part(source: SourceConfig, part: Part, count: RowCount) -> Iterator[str]:
    """The texts of a part of a file; what cannot be read is refused, or counted where the source says so."""
    try:
        yield from _texts(source, part, count)
    except Unreadable:
        if source.errors != "skip":
            raise
        count.damaged += 1


def _texts(source: SourceConfig, part: Part, count: RowCount) -> Iterator[str]:
    (format_,) = formats_of([part.file], source)
    if format_.kind not in ("text", "empty"):
        text = fitted(part.file, format_, RowText.of(source))
        yield from text.texts(file_rows(part, format_, text), part.place, count)
        return
    for section in sections(part, format_.packing, source.max_document_chars):
        if not isinstance(section, Unreadable):
            yield section
        elif source.errors == "skip" or source.kind == "python-library":  # some of its files are not UTF-8 on purpose
            count.damaged += 1
        else:
            raise section


SOURCE = SourceKind(
    parts=parts_of_files,
    texts=texts_of_part,
    takes=(
        "path",
        "pattern",
        "exclude",
        "format",
        "field",
        "template",
        "where",
        "errors",
        "epochs",
        "max_document_chars",
    ),
    path="a file, a folder, a pattern of files or an address of text",
    listing=list_files,
)
