"""Text files as sections: found by byte offset in one pass, then read one at a time, whatever the size of the file."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from stillroom.corpora.sources.listing import Listing, exclusion
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.files import reading
from stillroom.types import UserError
from stillroom.worlds.base import Split

_HELDOUT_EVERY = 20
_FEWEST = _HELDOUT_EVERY // 2 + 1  # sections of a file whose end is held out
_CHUNK = 1 << 20  # bytes
_SNIFFED_LINES, _SNIFFED_BYTES = 20, 1 << 22
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class NotText(Exception):
    """Why a file is not UTF-8 text, as the end of a sentence."""


@dataclass(frozen=True)
class TextFile:
    """A text file's sections and what told its content from a later one's."""

    path: Path
    bounds: array[int]
    """Byte offsets at which its sections begin, and the end of the last."""
    stamp: tuple[int, int]

    def section(self, number: int) -> str:
        """The text of a section; a ``UserError`` where the file is not what it was."""
        start, end = self.bounds[number : number + 2]
        with reading(self.path, "a text file"), self.path.open("rb") as handle:
            if _stamp(handle) == self.stamp:
                handle.seek(start)
                return handle.read(end - start).decode("utf-8")
        raise UserError(
            f"{self.path}: changed while it was read; run the same command again when nothing writes to it."
        )


def held_out(name: str, seed: int) -> bool:
    """Whether a file or a row belongs to the held-out split, by its name or content: about one in twenty."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "little") % _HELDOUT_EVERY == 0


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


def scan(path: Path, limit: int, *, sniff: bool = False) -> TextFile:
    """The sections of a UTF-8 file, without holding more of it than a chunk.

    Args:
        path: The file.
        limit: Most characters of a section.
        sniff: Refuse lines that are JSON objects although the name does not say so.

    Raises:
        NotText: It is binary, or in another encoding.
        UserError: It cannot be read, or was sniffed to hold rows.
    """
    with reading(path, "a text file"), path.open("rb") as handle:
        bounds = array("Q", [_beginning(handle)])
        handle.seek(bounds[0])
        if sniff and _has_rows(handle):
            raise UserError(
                f"{path}: its lines are JSON objects, expected text; set format of this source to rows to read one of "
                "their fields, or to text to train on them as they stand."
            )
        handle.seek(bounds[0])
        rest = ""
        for decoded, last in _decoded(handle):
            rest += decoded
            done = 0
            for end in _ends(rest, limit, last=last):
                bounds.append(bounds[-1] + len(rest[done:end].encode()))
                done = end
            rest = rest[done:]
        return TextFile(path, bounds, _stamp(handle))


def _stamp(handle: BinaryIO) -> tuple[int, int]:
    found = os.fstat(handle.fileno())
    return found.st_size, found.st_mtime_ns


def _beginning(handle: BinaryIO) -> int:
    """The offset behind a byte order mark; refuses what only looks like text."""
    head = handle.read(64)
    for mark, name in _MARKS:
        if head.startswith(mark):
            raise NotText(f"is {name} (by its byte order mark)")
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise NotText("is a Git LFS pointer instead of the file (git lfs pull fetches it)")
    return len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0


def _decoded(handle: BinaryIO) -> Iterator[tuple[str, bool]]:
    """The text chunk by chunk, each with whether it is the last."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    data = b" "
    while data:
        data = handle.read(_CHUNK)
        if (zero := data.find(b"\0")) >= 0:
            raise NotText(f"is binary (it has a zero byte at {handle.tell() - len(data) + zero})")
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:  # what the decoder kept of the last chunk is part of its object
            raise NotText(f"is not UTF-8 at byte {handle.tell() - len(error.object) + error.start}") from None
        yield text, not data


def _has_rows(handle: BinaryIO) -> bool:
    """Whether every one of the first lines is a JSON object, and there are several."""
    objects = 0
    for _ in range(_SNIFFED_LINES):
        line = handle.readline(_SNIFFED_BYTES)
        if line.strip() and not _is_json_object(line):
            return False
        objects += bool(line.strip())
    return objects > 1


def _is_json_object(line: bytes) -> bool:
    try:
        return line.lstrip().startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


@dataclass
class _Sections:
    """The sections of many files in little memory: 32 bytes each."""

    files: list[TextFile] = field(default_factory=list)
    owner: array[int] = field(default_factory=lambda: array("L"))
    number: array[int] = field(default_factory=lambda: array("L"))

    def add(self, file: TextFile, numbers: range) -> None:
        self.owner.extend([len(self.files)] * len(numbers))
        self.number.extend(numbers)
        self.files.append(file)

    def shuffled(self, seed: int) -> Iterator[str]:
        order = array("L", range(len(self.owner)))
        random.Random(seed).shuffle(order)
        for place in order:
            yield self.files[self.owner[place]].section(self.number[place])


def sections(listing: Listing, source: SourceConfig, seed: int, split: Split) -> Iterator[str]:
    """The sections of all files in random order; whole files are held out, or the end of each where they are few."""
    whole_files = len(listing.files) >= _HELDOUT_EVERY
    found = _Sections()
    for file in _scanned(listing, source, seed, split, whole_files=whole_files):
        count = len(file.bounds) - 1
        kept = count if whole_files or count < 2 else max(1, round(count * (1 - 1 / _HELDOUT_EVERY)))
        found.add(file, range(kept) if whole_files or split == "train" else range(kept, count))
    if not found.owner:
        raise UserError(
            f"{source.path or listing.root}: holds no text for the {split} split; expected {_FEWEST} sections of "
            f"{source.max_document_chars} characters (max_document_chars) in one file, or {_HELDOUT_EVERY} files with "
            "text; add some, or lower max_document_chars."
        )
    return found.shuffled(seed)


def _scanned(
    listing: Listing, source: SourceConfig, seed: int, split: Split, *, whole_files: bool
) -> Iterator[TextFile]:
    """The files of a split with their sections; refuses those that are no text, of both splits, all at once."""
    refused: dict[Path, str] = {}
    for path in listing.files:
        other = whole_files and held_out(listing.name(path), seed) != (split == "heldout")
        if other and split == "heldout":
            continue
        try:
            file = scan(path, source.max_document_chars, sniff=source.kind == "files" and source.format == "auto")
            if not other:
                yield file
        except NotText as error:
            if source.kind != "python-library":  # which has a few files in other encodings on purpose
                refused[path] = str(error)
    if refused:
        path, reason = next(iter(refused.items()))
        more = f" (and {len(refused) - 1} more files are no text)" if len(refused) > 1 else ""
        raise UserError(f"{path}: {reason}{more}, expected UTF-8 text; convert it, or {exclusion(listing, refused)}.")
