"""Where a store's files are read from: a local folder, or any fsspec URL through a local cache with read-ahead.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import fsspec
import numpy as np

from stillroom.files import write_bytes
from stillroom.teachers.http import SCHEMES, HttpFiles
from stillroom.teachers.layout import damaged, shard_name
from stillroom.types import UserError

OPEN_SHARDS = 128
"""Shards that stay mapped at one time."""
BLOCK_BYTES = 1 << 18
"""Bytes of a shard that are fetched from a remote store and cached together: the records around the one wanted."""
READ_AHEAD = 2
"""Blocks fetched after one that was read, where the one before it was read as well."""
Span = tuple[str, int, int]
"""A part of a file: name, first byte, number of bytes."""


class Place(Protocol):
    """Gives the files of a store as local paths."""

    name: str

    def path(self, file: str) -> Path:
        """A local path of a file of the store; raises ``UserError`` where the store has none."""
        ...

    def gather(self, spans: Iterable[Span]) -> None:
        """Hears which parts will be asked for next, so that they can be fetched at one time."""
        ...

    def span(self, file: str, start: int, length: int) -> bytes | None:
        """A part of a file (shorter where the file ends), or None where the file is best read by its path."""
        ...


class LocalFolder:
    """A store in a folder of this machine."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, str(folder)

    def path(self, file: str) -> Path:
        """See ``Place``."""
        return _present(self.folder / file, self.name)

    def gather(self, spans: Iterable[Span]) -> None:
        """Nothing to be done: the operating system reads ahead."""

    def span(self, file: str, start: int, length: int) -> bytes | None:
        """None: the file is memory-mapped."""
        return None


class RemoteFolder:
    """A store behind an fsspec URL. Parts of its files are copied to a local cache as they are read.

    Shards are fetched in blocks by range; a filesystem that gives no ranges gives the whole file, and is asked for
    whole files from then on. The cache's folder is named by the URL and by the store's manifest, so that a store that
    was made anew is fetched anew; a cache that vanishes is filled again.
    """

    def __init__(self, url: str, cache: Path | None = None):
        self.name = url.rstrip("/")
        is_http = self.name.startswith(SCHEMES)
        self._system, self._root = (HttpFiles(), self.name) if is_http else fsspec.core.url_to_fs(self.name)
        manifest = self._fetch("manifest.json")
        mark = hashlib.sha256(self.name.encode() + manifest).hexdigest()[:16]
        self._cache = (cache or default_cache()) / mark
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="label-store-read-ahead")
        self._running: dict[tuple[str, int], Future[bytes | None]] = {}
        self._last: dict[str, int] = {}  # block that was read last, by file
        self._has_ranges = True

    def path(self, file: str) -> Path:
        """See ``Place``."""
        target = self._cache / file
        if not target.is_file():
            write_bytes(target, self._fetch(file))
        return target

    def gather(self, spans: Iterable[Span]) -> None:
        """See ``Place``: fetches all blocks that are not cached in one request (many filesystems make it parallel)."""
        missing = {
            (file, number)
            for file, start, length in spans
            for number in _blocks(start, length)
            if not self._is_cached(file, number) and (file, number) not in self._running
        }
        if len(missing) < 2 or not self._has_ranges:
            return
        wanted = sorted(missing)
        paths = [f"{self._root}/{file}" for file, _ in wanted]
        starts = [number * BLOCK_BYTES for _, number in wanted]
        ends = [start + BLOCK_BYTES for start in starts]
        found = self._system.cat_ranges(paths, starts, ends, on_error="return")
        for (file, number), data in zip(wanted, found, strict=True):
            if isinstance(data, bytes) and 0 < len(data) <= BLOCK_BYTES:  # whatever else will be asked for on its own
                write_bytes(self._block_path(file, number), data)

    def span(self, file: str, start: int, length: int) -> bytes | None:
        """See ``Place``."""
        pieces = []
        for number in _blocks(start, length):
            data = None if (self._cache / file).is_file() else self._block(file, number)
            if data is None:
                return None
            pieces.append(data)
        self._ahead(file, number)
        begin = start % BLOCK_BYTES
        return b"".join(pieces)[begin : begin + length]

    def _block_path(self, file: str, number: int) -> Path:
        return self._cache / "blocks" / file / f"{number:06d}"

    def _is_cached(self, file: str, number: int) -> bool:
        return (self._cache / file).is_file() or self._block_path(file, number).is_file()

    def _block(self, file: str, number: int) -> bytes | None:
        """A block from the cache, from what is being fetched, or from afar; None where there are only whole files."""
        if (running := self._running.pop((file, number), None)) is not None and (data := running.result()) is not None:
            return data
        try:
            return self._block_path(file, number).read_bytes()
        except OSError:
            return self._fetch_block(file, number)

    def _fetch_block(self, file: str, number: int) -> bytes | None:
        start = number * BLOCK_BYTES
        if not self._has_ranges:
            return None
        try:
            data = self._system.cat_file(f"{self._root}/{file}", start=start, end=start + BLOCK_BYTES)
        except FileNotFoundError as error:
            raise _absent(self.name, file) from error
        except (NotImplementedError, ValueError, TypeError):
            data = None
        if data is None or len(data) > BLOCK_BYTES:  # no ranges, or they are not heeded
            self._has_ranges = False
            return None
        write_bytes(self._block_path(file, number), data)
        return data

    def _ahead(self, file: str, number: int) -> None:
        """Begins to fetch the next blocks where the file is being read from one to the next."""
        is_in_order = number - self._last.get(file, -1) == 1
        self._last[file] = number
        for following in range(number + 1, number + 1 + READ_AHEAD) if is_in_order else ():
            if (file, following) not in self._running and not self._is_cached(file, following):
                self._running[file, following] = self._pool.submit(self._fetch_quietly, file, following)

    def _fetch_quietly(self, file: str, number: int) -> bytes | None:
        try:
            return self._fetch_block(file, number)
        except (OSError, UserError):
            return None  # whoever needs the block will ask again and be told why it is not there

    def _fetch(self, file: str) -> bytes:
        try:
            return self._system.cat_file(f"{self._root}/{file}")
        except FileNotFoundError as error:
            raise _absent(self.name, file) from error


def _blocks(start: int, length: int) -> range:
    """Numbers of the blocks that a part of a file lies in."""
    return range(start // BLOCK_BYTES, max(start, start + length - 1) // BLOCK_BYTES + 1)


def default_cache() -> Path:
    """``$STILLROOM_CACHE``, else ``stillroom`` under the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("STILLROOM_CACHE") or Path(base) / "stillroom") / "labels"


def place_of(url: str | Path, cache: Path | None = None) -> Place:
    """Where a path or URL leads; ``file://`` and plain paths are read in place."""
    text = str(url)
    if "://" not in text:
        return LocalFolder(Path(text))
    if text.startswith("file://"):
        return LocalFolder(Path(text.removeprefix("file://")))
    return RemoteFolder(text, cache)


class MappedShards:
    """The shards of a store: memory-mapped as they are needed, the least recently used let go, or read by range."""

    def __init__(self, place: Place, num_shards: int):
        self._place, self._num_shards = place, num_shards
        self._mapped: OrderedDict[int, np.ndarray] = OrderedDict()

    def gather(self, spans: list[tuple[int, int, int]]) -> None:
        """Hears which records (shard, first byte, length) will be asked for next."""
        self._place.gather((self._name(shard), start, length) for shard, start, length in spans)

    def record(self, shard: int, start: int, length: int) -> memoryview:
        """The bytes of a record; shorter where the shard ends."""
        if shard not in self._mapped:
            data = self._place.span(self._name(shard), start, length)
            if data is not None:
                return memoryview(data)
        return self[shard][start : start + length].data

    def __getitem__(self, shard: int) -> np.ndarray:
        """The bytes of a whole shard."""
        if shard not in self._mapped:
            path = self._place.path(self._name(shard))
            if path.stat().st_size == 0:
                raise damaged(str(path), "it is empty")
            self._mapped[shard] = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
            if len(self._mapped) > OPEN_SHARDS:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(shard)
        return self._mapped[shard]

    def _name(self, shard: int) -> str:
        if shard >= self._num_shards:
            raise damaged(f"{self._place.name}/index.bin", f"it names shard {shard} of {self._num_shards}")
        return shard_name(shard)


def _present(path: Path, name: str) -> Path:
    if not path.is_file():
        raise _absent(name, path.name)
    return path


def _absent(name: str, file: str) -> UserError:
    if file == "manifest.json":
        return UserError(f"{name}: holds no finished label store; expected manifest.json, run the label command.")
    return UserError(f"{name}: has no {file}, which its manifest counts; copy the whole store or label again.")
