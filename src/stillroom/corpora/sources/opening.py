"""Files by path or URL, opened alike; whatever a file system or a driver answers is one sentence."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from stillroom.files import reading
from stillroom.http import SCHEMES, HttpFiles, filesystem, printable_url
from stillroom.packed import DAMAGES, UNPACKERS
from stillroom.types import Unreadable, UserError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::.+)?://")
_AHEAD = 1 << 22  # bytes asked for at a time
_LARGEST = 1 << 50
_AT_ONCE = 16
T = TypeVar("T")


def is_url(file: str) -> bool:
    """Whether a name is an address and no path."""
    return bool(_URL.match(file))


def is_http(file: str) -> bool:
    """Whether a name is an address of http or https."""
    return file.lower().startswith(SCHEMES)


def side_by_side(work: Callable[[str], T], files: Sequence[str]) -> list[T]:
    """What becomes of each file; those behind addresses are waited for at one time."""
    if not files or not is_url(files[0]):
        return [work(file) for file in files]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, files))


def name_of(file: str) -> str:
    """The name that says what a file holds, without what follows an address of http."""
    return urlsplit(file).path if is_http(file) else file


def remote(url: str) -> tuple[Any, str]:
    """The filesystem of an address and the path in it."""
    system, path = filesystem(url)
    if isinstance(system, HttpFiles):
        system.longest = _LARGEST
    return system, path


@contextlib.contextmanager
def answers(url: str) -> Iterator[None]:
    """Turns what a driver raises into a sentence."""
    shown = printable_url(url)
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{shown}: no such file or folder; check the address and the right to read it.") from error
    except Exception as error:  # drivers raise classes of their own
        why = " ".join(str(error).replace(url, shown).split()) or type(error).__name__
        raise UserError(
            f"{shown}: cannot be read ({why}); check the address, the connection and the right to read."
        ) from error


@contextlib.contextmanager
def opened(file: str, ahead: int = _AHEAD) -> Iterator[BinaryIO]:
    """A file to read and seek in; of one behind an address ``ahead`` bytes are asked for at a time."""
    if is_url(file):
        system, path = remote(file)
        with answers(file), system.open(path, "rb", block_size=ahead) as found:
            # What drivers give may lack some of the methods of a file.
            handle = found if isinstance(system, HttpFiles) else io.BufferedReader(found)
            yield cast(BinaryIO, handle)
    else:
        with reading(Path(file), "a file of text"), Path(file).open("rb") as handle:
            yield handle


@contextlib.contextmanager
def unpacked(file: str, packing: str) -> Iterator[BinaryIO]:
    """The content of a file, packed or not; damage that unpackers find is a sentence."""
    with opened(file) as handle, undamaged(file):
        yield UNPACKERS[packing](handle) if packing else handle


@contextlib.contextmanager
def undamaged(file: str) -> Iterator[None]:
    """Turns what unpackers say of a damaged file into a sentence."""
    try:
        yield
    except DAMAGES as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file system's own, not an unpacker's
            raise
        raise Unreadable(
            f"{printable_url(file)}: is damaged or no packed file ({error}); expected a whole one; fetch it again."
        ) from error


def file_size(file: str) -> int | None:
    """Bytes of a file; None where the server does not say."""
    return cast("int | None", _info(file)["size"]) if is_url(file) else _stat(file).st_size


def stamp_of(file: str) -> tuple[str, int, str]:
    """Name, size and time of change (or what a server says in its place): equal as long as nothing wrote to it."""
    if not is_url(file):
        return file, (found := _stat(file)).st_size, str(found.st_mtime_ns)
    told = _info(file)
    known = ("ETag", "changed", "LastModified", "last_modified", "updated", "mtime", "created", "blob_id", "md5Hash")
    changed = next((str(told[name]) for name in known if told.get(name)), "")
    return file, int(told["size"] or 0), changed


def has_ranges(file: str) -> bool:
    """Whether a part of a file can be read without what stands before it."""
    return not is_http(file) or bool(_info(file)["ranges"])


def _stat(file: str) -> Any:
    with contextlib.suppress(OSError, ValueError):  # thousands of files are asked for again and again
        return os.stat(file)
    with reading(Path(file), "a file of the corpus"):
        return os.stat(file)


def _info(url: str) -> Any:
    system, path = remote(url)
    with answers(url):
        return system.info(path)
