"""Text files as sections: cut at line ends, from the file or a part of it, whatever its size."""

from __future__ import annotations

import codecs
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from stillroom.corpora.sources.opening import opened, unpacked
from stillroom.corpora.sources.part import Part
from stillroom.types import Unreadable

_CHUNK = 1 << 20  # bytes
_WINDOW = 1 << 16  # bytes in which a line end is looked for


def cut(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most ``limit`` characters, cut at line ends where there is one in the second half."""
    start = 0
    for end in _ends(text, limit, last=True):
        yield text[start:end]
        start = end


def _ends(text: str, limit: int, *, last: bool) -> Iterator[int]:
    """Where the pieces of a text end; where more of it is to come, what may still grow is left."""
    start = 0
    while len(text) - start > limit:
        newline = text.rfind("\n", start + limit // 2, start + limit)
        start = newline + 1 if newline >= 0 else start + limit
        yield start
    if last and start < len(text):
        yield len(text)


def sections(part: Part, packing: str, limit: int) -> Iterator[str | Unreadable]:
    """The sections of a part of a UTF-8 file, at most ``limit`` characters each, or why one cannot be read.

    No more than a chunk is held of a file that is read from one end to the other.
    """
    if part.unit == "whole":
        with unpacked(part.file, packing) as stream:
            yield from _sections(stream, limit, part.place, 0)
    else:
        start, data = _span(part)
        yield from _sections(io.BytesIO(data), limit, part.place, start)


def _span(part: Part) -> tuple[int, bytes]:
    """Where a part begins and its bytes: from the line end behind its start to that behind its stop."""
    begin = max(0, part.start - 1)
    with opened(part.file, _WINDOW) as handle:
        handle.seek(begin)
        data = handle.read(part.stop + _WINDOW - begin)
    start, stop = (_boundary(data, place - begin) for place in (part.start, part.stop))
    return begin + start, data[start:stop]


def _boundary(data: bytes, place: int) -> int:
    """Where two parts meet about a place: at the next line end, or between two characters where none is near."""
    if place == 0 or place >= len(data):
        return min(place, len(data))
    newline = data.find(b"\n", place - 1, place - 1 + _WINDOW)
    if newline >= 0:
        return newline + 1
    near = range(place, min(place + 4, len(data)))  # a character has four bytes at most
    return next((at for at in near if data[at] & 0xC0 != 0x80), place if len(near) == 4 else len(data))


def _sections(stream: BinaryIO, limit: int, name: str, place: int) -> Iterator[str | Unreadable]:
    """The sections of a stream whose first byte stands at ``place``; a byte order mark at the beginning is no text."""
    head = stream.read(3) if place == 0 else b""
    if head == codecs.BOM_UTF8:
        head, place = b"", 3
    for piece in _pieces(itertools.chain([head], iter(lambda: stream.read(_CHUNK), b"")), limit):
        data = piece.encode("utf-8", "surrogateescape")
        reason = _reason(data, place)
        place += len(data)
        yield (
            piece
            if not reason
            else Unreadable(
                f"{name}: {reason}, expected UTF-8 text; convert it, leave it out of the source, or set "
                "errors of this source to skip."
            )
        )


def _pieces(chunks: Iterable[bytes], limit: int) -> Iterator[str]:
    """The sections as they stand; a byte that is not UTF-8 becomes half a surrogate pair."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    rest = ""
    for data in chunks:
        rest += decoder.decode(data)
        done = 0
        for end in _ends(rest, limit, last=False):
            yield rest[done:end]
            done = end
        rest = rest[done:]
    yield from cut(rest + decoder.decode(b"", final=True), limit)


def _reason(data: bytes, place: int) -> str:
    if (zero := data.find(b"\0")) >= 0:
        return f"is binary (it has a zero byte at {place + zero})"
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {place + error.start}"
    return ""
