"""Which files a source is made of, and whether they are text or rows.

A path leads to a file, a folder, a pattern of files, an address, or a dataset that ``save_to_disk`` wrote.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePath

from stillroom.corpora.sources.file_formats import FileFormat, format_of
from stillroom.corpora.sources.opening import answers, is_http, is_url, remote, side_by_side
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.files import read_json_object, reading
from stillroom.http import printable_url
from stillroom.types import UserError, printable
from stillroom.worlds.library import library_files

_SHOWN = 8  # patterns of a sentence
_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Listing:
    """The files of a source, sorted, and the folder or address that their names are relative to."""

    root: str
    files: list[str]
    rows: bool = False
    """They hold rows with a text in a field; else they are text as they stand."""

    def name(self, file: str) -> str:
        """A file's path inside the source."""
        return file.removeprefix(f"{self.root.rstrip('/')}/")


def found_files(source: SourceConfig) -> Listing:
    """The files that a source's path, pattern and exclude name, whatever they hold."""
    path = source.path or ""
    return _listed_url(path, source) if is_url(path) else _listed(_expanded(path), source)


def list_files(source: SourceConfig) -> Listing:
    """The files of a source of kind ``python-library`` or ``files``; a ``UserError`` where they do not go together."""
    if source.kind == "python-library":
        root, files = library_files()
        return Listing(str(root), list(map(str, files)))
    listing = found_files(source)
    formats = formats_of(listing.files, source)
    if _are_rows(listing, formats):
        return replace(listing, rows=True)
    _check_text(listing, formats, source)
    return listing


def formats_of(files: list[str], source: SourceConfig) -> list[FileFormat]:
    """What each of these files of a source holds."""
    asked = "text" if source.kind == "python-library" else source.format
    return side_by_side(lambda file: format_of(file, asked), files)


def folder_files(root: Path) -> Listing:
    """All files below a folder but hidden ones."""
    return Listing(str(root), _seen(root, "**/*"))


def saved_dataset(root: Path, split: str | None) -> Listing | None:
    """The files of what ``save_to_disk`` of the library ``datasets`` wrote into a folder; None where it wrote none."""
    if (file := root / "dataset_dict.json").is_file():
        splits = read_json_object(file, "the splits of a saved dataset").get("splits")
        splits = splits if isinstance(splits, list) else []
        if split not in splits:
            raise UserError(
                f"{root}: is a saved dataset with the splits {', '.join(map(str, splits))}; set path to the folder of "
                "one of them below it (or kind to hub and split to one)."
            )
        return saved_dataset(root / str(split), None)
    if not (root / "state.json").is_file() or not (root / "dataset_info.json").is_file():
        return None
    named = read_json_object(root / "state.json", "the state of a saved dataset").get("_data_files")
    named = named if isinstance(named, list) else []
    files = [str(root / str(one.get("filename", ""))) for one in named if isinstance(one, dict)]
    if not files:
        raise UserError(f"{root}: is a saved dataset whose state.json names no file of it; save it again.")
    return Listing(str(root), files, rows=True)


def exclusion(listing: Listing, unwanted: Iterable[str]) -> str:
    """What leaves these files of a source out, and no others: ``exclude`` with patterns that work."""
    unwanted = set(unwanted)
    if not unwanted or unwanted.issuperset(listing.files):
        return "leave it out of the source"
    kept = {_suffix(file) for file in listing.files if file not in unwanted}
    whole = {_suffix(file) for file in unwanted} - kept - {""}
    patterns = [f"**/*{_escaped(suffix)}" for suffix in sorted(whole)]
    patterns += [_escaped(listing.name(file)) for file in sorted(unwanted) if _suffix(file) not in whole]
    more = f" and {len(patterns) - _SHOWN} more patterns" if len(patterns) > _SHOWN else ""
    return f"set exclude of this source to {patterns[:_SHOWN]}{more}"


def _suffix(file: str) -> str:
    return PurePath(file).suffix


def _escaped(name: str) -> str:
    """A pattern that matches a name; what cannot be typed becomes a question mark."""
    return "".join(part if printable(part) == part else "?" for part in glob.escape(name))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: has a home folder that is not known here; write the path out.") from error


def _listed(path: Path, source: SourceConfig) -> Listing:
    """The files of a path of this machine."""
    is_plain = (source.pattern, source.exclude) == ("**/*", ())
    if _MAGIC.search(str(path)) and "\0" not in str(path) and not os.path.lexists(path):
        root = next((parent for parent in path.parents if parent.is_dir()), Path(path.anchor or "."))
        pattern = str(path.relative_to(root))
        _check_no_pattern(source, f"{path}: is a pattern by itself")
        return Listing(str(root), _matching(root, source.model_copy(update={"pattern": pattern})))
    if not _is_folder(path):
        if not is_plain:
            raise UserError(f"{path}: is a file, on which pattern and exclude have no effect; remove them.")
        return Listing(str(path.parent), [str(path)])
    if is_plain and (saved := saved_dataset(path, None)):
        return saved
    return Listing(str(path), _matching(path, source))


def _check_no_pattern(source: SourceConfig, place: str) -> None:
    if source.pattern != "**/*":
        raise UserError(f"{place}, beside which pattern has no effect; remove one of the two.")


def _listed_url(url: str, source: SourceConfig) -> Listing:
    """The files behind an address: one, all below it, or those of a pattern in it."""
    system, path = remote(url)
    if is_http(url):
        if (source.pattern, source.exclude) != ("**/*", ()):
            raise UserError(
                f"{printable_url(url)}: is a file of a server that lists no folders, so that pattern and exclude "
                "have no effect; remove them."
            )
        return Listing(url.rpartition("/")[0], [url])
    with answers(url):
        root, pattern = path, source.pattern
        if _MAGIC.search(path) and not system.exists(path):
            _check_no_pattern(source, f"{printable_url(url)}: is a pattern by itself")
            root = path[: _MAGIC.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
            pattern = path.removeprefix(root).lstrip("/")
        elif system.isfile(path):
            return Listing(url.rpartition("/")[0], [url])
        names = [name.removeprefix(root).lstrip("/") for name in system.find(root)]
        kept = [name for name in names if _fits(name, pattern) and not any(_fits(name, one) for one in source.exclude)]
        files = sorted(system.unstrip_protocol(f"{root.rstrip('/')}/{name}") for name in kept)
    if not files:
        raise UserError(
            f"{printable_url(url)}: holds no file that matches {pattern!r}; expected text files there: check the "
            "address, and the right to list it."
        )
    return Listing(system.unstrip_protocol(root).rstrip("/"), files)


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern names a path below an address, or a folder above it; hidden ones only with their dot."""
    from fsspec.utils import glob_translate

    shape = re.compile(glob_translate(pattern))
    parts = name.split("/")
    dotted = [part for part in pattern.split("/") if part.startswith(".")]
    if any(part.startswith(".") and not any(fnmatch(part, one) for one in dotted) for part in parts):
        return False
    return any(shape.match("/".join(parts[: end + 1])) for end in range(len(parts)))


def _is_folder(path: Path) -> bool:
    with reading(path, "a file or a folder of text"):
        mode = path.stat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UserError(f"{path}: is neither a file nor a folder; corpus.sources path must name existing text.")
    return stat.S_ISDIR(mode)


def _matching(root: Path, source: SourceConfig) -> list[str]:
    left_out = {path for pattern in source.exclude for path in _glob(root, pattern)}
    found = _seen(root, source.pattern)
    if left_out:
        found = [file for file in found if left_out.isdisjoint([Path(file), *Path(file).parents])]
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


def _seen(root: Path, pattern: str) -> list[str]:
    """The files that match, sorted; those with a dot before a name in their path only where the pattern names it."""
    dotted = [part for part in PurePath(pattern).parts if part.startswith(".")]
    depth = len(root.parts)

    def is_hidden(path: Path) -> bool:
        parts = (part for part in path.parts[depth:] if part.startswith("."))
        return any(not any(fnmatch(part, named) for named in dotted) for part in parts)

    paths = sorted(path for path in _glob(root, pattern) if not is_hidden(path))
    with reading(root, "a folder of text"):
        return [str(path) for path in paths if path.is_file()]


def _check_folders(root: Path, left_out: set[Path]) -> None:
    """Refuses folders that may not be read, which ``**`` passes over without a word."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); expected a folder of text: let it be read, or name "
            "it in exclude."
        )

    for folder, inner, _ in os.walk(root, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".") and Path(folder, name) not in left_out]


def _are_rows(listing: Listing, formats: list[FileFormat]) -> bool:
    """Whether files hold rows; refuses text and rows together."""
    rows = [file for file, one in zip(listing.files, formats, strict=True) if one.kind not in ("text", "empty")]
    text = [file for file, one in zip(listing.files, formats, strict=True) if one.kind == "text"]
    if text and rows:
        first, other, ending = printable_url(rows[0]), printable_url(text[0]), _escaped(_suffix(rows[0]))
        raise UserError(
            f"{first}: holds rows (as {len(rows)} files here do), {other} text (as {len(text)} do), expected one or "
            f"the other; {exclusion(listing, rows)} for the text, pattern to '**/*{ending}' for the "
            "rows, or format to text for all as they are."
        )
    return bool(rows)


def _check_text(listing: Listing, formats: list[FileFormat], source: SourceConfig) -> None:
    """Refuses files that are no text, all at once, and fields that have no effect on text."""
    for field in ("field", "template", "where"):
        found = getattr(source, field)
        if found != (default := type(source).model_fields[field].default):
            raise UserError(
                f"{printable_url(source.path or '')}: is text, which has no fields, so that {field} {found!r} has no "
                f"effect; remove {field} (leave it at {default!r}), or set format to rows."
            )
    refused = {file: one.refused for file, one in zip(listing.files, formats, strict=True) if one.refused}
    if refused and source.errors != "skip":
        file, reason = next(iter(refused.items()))
        more = f" (and {len(refused) - 1} more files are no text)" if len(refused) > 1 else ""
        raise UserError(
            f"{printable_url(file)}: {reason}{more}, expected UTF-8 text; convert or unpack it, or "
            f"{exclusion(listing, refused)}."
        )
