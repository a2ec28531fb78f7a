"""Which files a source is made of, and whether they are text or rows.

A file's name says what it holds. What is no text (JSON, tables, packed files) is never taken for text by itself.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath

from stillroom.corpora.sources.readers import ROW_SUFFIXES
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.files import reading
from stillroom.packed import UNPACKERS
from stillroom.types import UserError, printable
from stillroom.worlds.library import library_files

_SHOWN = 8  # patterns of a sentence


@dataclass(frozen=True)
class Listing:
    """The files of a source, sorted, and the folder that their names are relative to."""

    root: Path
    files: list[Path]
    rows: bool = False
    """They hold rows with a text in a field; else they are text as they stand."""

    def name(self, file: Path) -> str:
        """A file's path inside the source."""
        return str(file.relative_to(self.root))


def list_files(source: SourceConfig) -> Listing:
    """The files of a source of kind ``python-library`` or ``files``; a ``UserError`` where they do not go together."""
    if source.kind == "python-library":
        return Listing(*library_files())
    path = _expanded(source.path or "")
    if _is_folder(path):
        listing = Listing(path, _matching(path, source))
    elif (source.pattern, source.exclude) != ("**/*", ()):
        raise UserError(f"{path}: is a file, on which pattern and exclude have no effect; remove them.")
    else:
        listing = Listing(path.parent, [path])
    if source.format == "rows" or (source.format == "auto" and _are_rows(listing)):
        return Listing(listing.root, listing.files, rows=True)
    if source.field != "text":
        raise UserError(f"{path}: is text, which has no field {source.field!r}; remove field, or set format to rows.")
    return listing


def folder_files(root: Path) -> Listing:
    """All files below a folder but hidden ones."""
    return Listing(root, _seen(root, "**/*"))


def exclusion(listing: Listing, unwanted: Iterable[Path]) -> str:
    """What leaves these files of a source out, and no others: ``exclude`` with patterns that work."""
    unwanted = set(unwanted)
    if not unwanted or unwanted.issuperset(listing.files):
        return "leave it out of the source"
    kept = {file.suffix for file in listing.files if file not in unwanted}
    whole = {file.suffix for file in unwanted} - kept - {""}
    patterns = [f"**/*{_escaped(suffix)}" for suffix in sorted(whole)]
    patterns += [_escaped(listing.name(file)) for file in sorted(unwanted) if file.suffix not in whole]
    more = f" and {len(patterns) - _SHOWN} more patterns" if len(patterns) > _SHOWN else ""
    return f"set exclude of this source to {patterns[:_SHOWN]}{more}"


def _escaped(name: str) -> str:
    """A pattern that matches a name; what cannot be typed becomes a question mark."""
    return "".join(part if printable(part) == part else "?" for part in glob.escape(name))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: has a home folder that is not known here; write the path out.") from error


def _is_folder(path: Path) -> bool:
    with reading(path, "a file or a folder of text"):
        mode = path.stat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UserError(f"{path}: is neither a file nor a folder; corpus.sources path must name existing text.")
    return stat.S_ISDIR(mode)


def _matching(root: Path, source: SourceConfig) -> list[Path]:
    left_out = {path for pattern in source.exclude for path in _glob(root, pattern)}
    found = _seen(root, source.pattern)
    if left_out:
        found = [path for path in found if path not in left_out and left_out.isdisjoint(path.parents)]
    if "**" in source.pattern:
        _check_folders(root, left_out)
    if not found:
        raise UserError(
            f"{root}: holds no file that matches {source.pattern!r}; expected text files there (hidden ones and what "
            "exclude names are left out)."
        )
    return found


def _glob(root: Path, pattern: str) -> list[Path]:
    try:
        with reading(root, "a folder of text"):
            if ".." in PurePath(pattern).parts:
                raise NotImplementedError("it leaves the folder")
            return list(root.glob(pattern))
    except (ValueError, NotImplementedError, RecursionError) as error:
        raise UserError(
            f"corpus.sources: {pattern!r} is no pattern of files below a folder ({error}); write one like '**/*.txt'."
        ) from error


def _seen(root: Path, pattern: str) -> list[Path]:
    """The files that match, sorted; those with a dot before a name in their path only where the pattern names it."""
    dotted = [part for part in PurePath(pattern).parts if part.startswith(".")]
    depth = len(root.parts)

    def is_hidden(path: Path) -> bool:
        parts = (part for part in path.parts[depth:] if part.startswith("."))
        return any(not any(fnmatch(part, named) for named in dotted) for part in parts)

    paths = sorted(path for path in _glob(root, pattern) if not is_hidden(path))
    with reading(root, "a folder of text"):
        return [path for path in paths if path.is_file()]


def _check_folders(root: Path, left_out: set[Path]) -> None:
    """Refuses folders that may not be read, which ``**`` passes over without a word."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); expected a folder of text: let it be read, or name "
            "it in exclude."
        )

    for folder, inner, _ in os.walk(root, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".") and Path(folder, name) not in left_out]


def _are_rows(listing: Listing) -> bool:
    """Whether the names say rows; refuses packed files, and text and rows together."""
    kinds: dict[str, list[Path]] = {"text": [], "rows": [], "packed": []}
    for file in listing.files:
        kinds[_kind_of(file)].append(file)
    if kinds["packed"]:
        raise UserError(
            f"{kinds['packed'][0]}: is packed, expected text; unpack it, or {exclusion(listing, kinds['packed'])} "
            "(or format to rows where it holds JSON lines)."
        )
    if kinds["text"] and kinds["rows"]:
        raise UserError(
            f"{kinds['rows'][0]}: holds rows (as {len(kinds['rows'])} files here do), {kinds['text'][0]} text (as "
            f"{len(kinds['text'])} do), expected one or the other; {exclusion(listing, kinds['rows'])} for the text, "
            f"pattern to '**/*{_escaped(kinds['rows'][0].suffix)}' for the rows, or format to text for all as they are."
        )
    return bool(kinds["rows"])


def _kind_of(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    if suffixes and suffixes[-1] in UNPACKERS:
        return "rows" if suffixes[0] in ROW_SUFFIXES else "packed"
    return "rows" if suffixes and suffixes[-1] in ROW_SUFFIXES else "text"
