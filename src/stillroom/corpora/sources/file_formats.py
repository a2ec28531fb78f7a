"""What a file holds, by its name and, where that says nothing or something else, by its first bytes."""

from __future__ import annotations

import codecs
import contextlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import BinaryIO, Literal

from stillroom.corpora.sources.opening import is_url, name_of, opened, stamp_of
from stillroom.packed import DAMAGES, UNPACKERS

Kind = Literal["text", "jsonl", "json", "csv", "tsv", "parquet", "arrow", "empty"]
KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
"""What files hold, by the end of their names; all other names are of text."""

_SNIFFED_LINES, _HEAD, _LONG_HEAD = 20, 1 << 16, 1 << 24
_PACKED = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
_TABLES: dict[bytes, Kind] = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_REFUSED = {
    b"version https://git-lfs.github.com/spec/": "is a Git LFS pointer instead of the file (git lfs pull fetches it)",
    b"PK\x03\x04": "is a zip archive",
    codecs.BOM_UTF32_LE: "is UTF-32 (by its byte order mark)",
    codecs.BOM_UTF32_BE: "is UTF-32 (by its byte order mark)",
    codecs.BOM_UTF16_LE: "is UTF-16 (by its byte order mark)",
    codecs.BOM_UTF16_BE: "is UTF-16 (by its byte order mark)",
}


@dataclass(frozen=True)
class FileFormat:
    """What a file holds and how it is packed."""

    kind: Kind
    packing: str = ""
    """A name of ``UNPACKERS``, or nothing."""
    refused: str = ""
    """Why it is no text although nothing says that it is rows; else nothing."""


def format_of(file: str, asked: str) -> FileFormat:
    """What a file holds; ``asked`` is ``text`` or ``rows`` where that is known and ``auto`` where it is not."""
    return _format_of(stamp_of(file) if not is_url(file) else (file, 0, ""), asked)


@lru_cache(1 << 16)
def _format_of(stamp: tuple[str, int, str], asked: str) -> FileFormat:
    file = stamp[0]
    suffixes = [suffix.lower() for suffix in PurePath(name_of(file)).suffixes[-2:]]
    packing = suffixes.pop() if suffixes and suffixes[-1] in UNPACKERS else ""
    named = KINDS.get(suffixes[-1]) if suffixes else None
    if is_url(file) and named and named != "json" and asked != "text":  # each look at a file is a request
        return FileFormat(named, packing)
    with opened(file, _HEAD) as handle:
        head = _head(handle)
        packing = packing or next((name for mark, name in _PACKED.items() if head.startswith(mark)), "")
        head = _unpacked_head(handle, packing) if packing else head
    if asked == "text":
        return FileFormat("text", packing, _no_text(head))
    kind = _kind(head, named, asked)
    return FileFormat(kind, packing, _no_text(head) if kind == "text" else "")


def _head(stream: BinaryIO) -> bytes:
    """The first bytes; more of them where a first line that may be an object does not end in them."""
    head = stream.read(_HEAD)
    return head if b"\n" in head or not head.lstrip().startswith(b"{") else head + stream.read(_LONG_HEAD)


def _unpacked_head(handle: BinaryIO, packing: str) -> bytes:
    """The first bytes of what is packed; none where it is damaged, which reading it will tell."""
    handle.seek(0)
    with contextlib.suppress(*DAMAGES):
        return _head(UNPACKERS[packing](handle))
    return b"\n"


def _kind(head: bytes, named: Kind | None, asked: str) -> Kind:
    table: Kind | None = next((kind for mark, kind in _TABLES.items() if head.startswith(mark)), None)
    if not head and asked == "auto":
        return named or "empty"
    if table and (named in _TABLES.values() or b"\0" in head):
        return table
    body = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if named in ("json", "jsonl") and body.startswith(b"["):
        return "json" if named == "json" or body[1:].lstrip()[:1] in (b"{", b"]", b"") else "jsonl"
    if named == "jsonl" or _has_json_lines(body, 1 if named == "json" else 2):
        return "jsonl"
    if named or asked == "auto":
        return named or "text"
    return "json" if body.startswith(b"[") else "jsonl"


def _has_json_lines(head: bytes, fewest: int) -> bool:
    """Whether every one of the first lines is a JSON object, and there are several; the last may be cut."""
    lines = [line for line in head.split(b"\n", _SNIFFED_LINES + 1)[: _SNIFFED_LINES + 1] if line.strip()]
    is_cut = len(head) >= _HEAD - 64 and bool(lines) and lines[-1].startswith(b"{")
    whole = lines[:-1] if is_cut else lines
    return len(lines) >= fewest and bool(whole) and all(map(_is_json_object, whole))


def _is_json_object(line: bytes) -> bool:
    try:
        return line.lstrip().startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _no_text(head: bytes) -> str:
    """Why bytes are not the beginning of UTF-8 text, as the end of a sentence; nothing where they are."""
    if reason := next((reason for mark, reason in _REFUSED.items() if head.startswith(mark)), ""):
        return reason
    if head[257:262] == b"ustar":
        return "is a tar archive"
    if (zero := head.find(b"\0")) >= 0:
        return f"is binary (it has a zero byte at {zero})"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < _HEAD)
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start}"
    return ""
