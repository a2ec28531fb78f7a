"""Finished folders that notice damage: a file beside the others holds the size and hash of each.

``checksums.json`` is written last, before a folder takes its final name. Whatever reads a file of such a folder asks
``require`` first; a folder without one, of an earlier version or of somebody else, is taken as it is. Hashes are
xxh3-128, which a core does at several gigabytes a second: they tell damage, not forgery. Imports no torch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from stillroom.cores import num_cores
from stillroom.files import disk_errors, read_bytes, reading, write_bytes
from stillroom.types import UserError

NAME = "checksums.json"
FORMAT = "stillroom-checksums"
SCHEMA = 1
_LEVELS = 4
"""How far above a file the checksums of its folder are looked for."""
_BLOCK = 1 << 20
_CHANGED = "it is not as it was written"
Entry = tuple[int, str]
"""Bytes and hash."""


class DamagedError(UserError):
    """A file does not hold what was written to it."""


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written, by its name in the folder, and what is wrong with it."""

    folder: Path
    name: str
    what: str

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.folder / self.name

    def __str__(self) -> str:
        return f"{self.file} is damaged ({self.what})"

    def error(self) -> DamagedError:
        """The error of whoever wanted to read it."""
        return DamagedError(
            f"{self.file}: is damaged ({self.what}); run the command that made {self.folder} again, which finds what "
            "is damaged and makes it anew."
        )


def seal(folder: Path, names: Iterable[str] | None = None) -> None:
    """Writes the checksums of a folder: of the files named, or of all in it and below but hidden ones."""
    chosen = sorted(files_of(folder) if names is None else names)
    with disk_errors(folder):
        hashes = _digests([folder / name for name in chosen])
        entries = {name: found for name, found in zip(chosen, hashes, strict=True) if found is not None}
    write_bytes(folder / NAME, sums_text(entries))


def is_sealed(folder: Path) -> bool:
    """Whether a folder has checksums."""
    return (folder / NAME).is_file()


def sealed_names(folder: Path) -> list[str]:
    """The files that a folder's checksums name; none where those are damaged or not there."""
    return list((_parsed(folder) if is_sealed(folder) else None) or {})


def sealed_hash(folder: Path, name: str) -> str | None:
    """The hash that a file was written with; None where the folder's checksums do not tell."""
    entry = ((_parsed(folder) if is_sealed(folder) else None) or {}).get(name)
    return None if entry is None else entry[1]


def check(folder: Path, under: str = "", but: tuple[str, ...] = ()) -> list[Damage]:
    """What is damaged among the files of a folder, or of one in it (``under``), or whether that one file is.

    Files whose names end in one of ``but`` are left out. Empty too where the folder has no checksums.
    """
    if not is_sealed(folder):
        return []
    entries = _parsed(folder)
    if entries is None:
        return [Damage(folder, NAME, _CHANGED)]
    chosen = {name: entry for name, entry in entries.items() if _is_under(name, under) and not name.endswith(but)}
    found = _digests([folder / name for name in chosen])
    return [
        Damage(folder, name, _what(wanted, one))
        for (name, wanted), one in zip(chosen.items(), found, strict=True)
        if one != wanted
    ]


def _is_under(name: str, under: str) -> bool:
    return under in ("", ".", name) or name.startswith(f"{under}/")


def require(path: str | Path, but: tuple[str, ...] = ()) -> None:
    """Raises a ``DamagedError`` that names the first damaged file, where ``path`` is one or a folder that holds it.

    The checksums are those of the nearest folder that tells of ``path``: itself or one of the few above it. ``but`` as
    in ``check``: what the reader does not read.
    """
    if (folder := sealed_folder(path)) is not None:
        for damage in check(folder, _inside(path, folder), but):
            raise damage.error()


def sealed_folder(path: str | Path) -> Path | None:
    """The nearest folder whose checksums tell of ``path``, or are damaged themselves; None where there is none."""
    real = Path(os.path.realpath(path))
    return _nearest(real, (real, *list(real.parents)[:_LEVELS]))


def sealed_folder_above(folder: Path) -> Path | None:
    """The nearest folder above one with checksums whose own tell of it too."""
    real = Path(os.path.realpath(folder))
    return _nearest(real, list(real.parents)[:_LEVELS])


def _nearest(real: Path, folders: Iterable[Path]) -> Path | None:
    for folder in folders:
        if not _is_ours(folder):
            continue
        entries = _parsed(folder)
        if entries is None or any(_is_under(name, _inside(real, folder)) for name in entries):
            return folder
    return None


def _inside(path: str | Path, folder: Path) -> str:
    return Path(os.path.realpath(path)).relative_to(folder).as_posix()


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds checksums, damaged ones too, and not a file of that name of somebody else's."""
    try:
        data = (folder / NAME).read_bytes()
    except OSError:
        return False
    return not data.strip(b"\0") or any(word in data for word in (FORMAT.encode(), b"xxh3_128"))


def files_of(folder: Path) -> list[str]:
    """Names of the files in a folder and below, but hidden ones and the checksums themselves."""
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(folder)
        names += [(inside / name).as_posix() for name in files if not name.startswith(".")]
    return [name for name in names if name != NAME]


def sums_text(entries: Mapping[str, Entry]) -> bytes:
    """What ``checksums.json`` holds of files with these entries."""
    files = {name: {"bytes": size, "xxh3_128": digest} for name, (size, digest) in entries.items()}
    body = {"format": FORMAT, "schema": SCHEMA, "files": files}
    return (json.dumps(body | {"check": check_of(body)}, indent=1) + "\n").encode()


def check_of(body: Mapping[str, object]) -> str:
    """The hash of a JSON object's content, to be written into it."""
    return xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True).encode())


def _parsed(folder: Path) -> dict[str, Entry] | None:
    """What the checksums of a folder say; None where they are damaged themselves."""
    return parsed(read_bytes(folder / NAME), str(folder / NAME))


def parsed(data: bytes, name: str) -> dict[str, Entry] | None:
    """What the bytes of a ``checksums.json`` say, by the names of files; None where they are damaged."""
    try:
        body: dict[str, Any] = json.loads(data)
        if body.pop("check") == check_of(body) and body["schema"] > SCHEMA:
            raise UserError(f"{name}: has schema {body['schema']}, this version reads {SCHEMA}; upgrade stillroom.")
        entries = {name: (int(one["bytes"]), str(one["xxh3_128"])) for name, one in body["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entries if sums_text(entries) == data else None


def _what(wanted: Entry, found: Entry | None) -> str:
    if found is None:
        return "it is missing"
    if found[0] != wanted[0]:
        return f"it has {found[0]} bytes and not {wanted[0]}"
    return "it does not match its checksum"


def _digests(files: list[Path]) -> list[Entry | None]:
    """Size and hash of each file, several at a time; None where there is none."""
    with ThreadPoolExecutor(min(4, num_cores())) as pool:
        return list(pool.map(entry_of, files))


_known: dict[tuple[Any, ...], str] = {}
"""Hashes of files that this process has read, by what changes when a file does."""
_SETTLED_SECONDS = 2.0
"""A file that was changed so lately may change again without its times telling."""


def entry_of(file: Path) -> Entry | None:
    """Size and hash of a file; None where there is none."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not file.is_file():
        return None
    key = (str(file), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if key not in _known:
        digest = hash_of_file(file)
        if time.time() - max(found.st_ctime, found.st_mtime) < _SETTLED_SECONDS:
            return found.st_size, digest
        _known[key] = digest
    return found.st_size, _known[key]


def hash_of(data: bytes) -> str:
    """The hash of some bytes."""
    return xxhash.xxh3_128_hexdigest(data)


def hash_of_file(file: Path) -> str:
    """The hash of a file's bytes."""
    state, block = xxhash.xxh3_128(), memoryview(bytearray(_BLOCK))
    with reading(file), file.open("rb", buffering=0) as stream:
        while size := stream.readinto(block):
            state.update(block[:size])
    return state.hexdigest()
