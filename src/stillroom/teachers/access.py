"""Where a store's files are read from: a local folder, or any fsspec URL through a local cache with read-ahead.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import fsspec
import numpy as np

from stillroom.files import write_bytes
from stillroom.teachers.layout import damaged, shard_name
from stillroom.types import UserError

OPEN_SHARDS = 128
"""Shards that stay mapped at one time."""
READ_AHEAD = 2
"""Shards fetched after one that is read, from a remote store."""


class Place(Protocol):
    """Gives the files of a store as local paths."""

    name: str

    def path(self, file: str) -> Path:
        """A local path of a file of the store; raises ``UserError`` where the store has none."""
        ...

    def ahead(self, files: list[str]) -> None:
        """Hears which files are likely to be asked for next."""
        ...


class LocalFolder:
    """A store in a folder of this machine."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, str(folder)

    def path(self, file: str) -> Path:
        """See ``Place``."""
        return _present(self.folder / file, self.name)

    def ahead(self, files: list[str]) -> None:
        """Nothing to be done: the operating system reads ahead."""


class RemoteFolder:
    """A store behind an fsspec URL, whose files are copied to a local cache as they are read.

    A cached file is named by the URL and by the store's manifest, so that a store that was made anew is fetched anew;
    a cache that vanishes is filled again.
    """

    def __init__(self, url: str, cache: Path | None = None):
        self.name = url.rstrip("/")
        self._system, self._root = fsspec.core.url_to_fs(self.name)
        manifest = self._fetch("manifest.json")
        mark = hashlib.sha256(self.name.encode() + manifest).hexdigest()[:16]
        self._cache = (cache or default_cache()) / mark
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="label-store-read-ahead")
        self._running: dict[str, Future[Any]] = {}

    def path(self, file: str) -> Path:
        """See ``Place``."""
        target = self._cache / file
        if (running := self._running.pop(file, None)) is not None:
            running.result()
        if not target.is_file():
            write_bytes(target, self._fetch(file))
        return target

    def ahead(self, files: list[str]) -> None:
        """Begins to fetch files that are not cached yet."""
        for file in files:
            if file not in self._running and not (self._cache / file).is_file():
                self._running[file] = self._pool.submit(self._fetch_quietly, file)

    def _fetch_quietly(self, file: str) -> None:
        try:
            write_bytes(self._cache / file, self._fetch(file))
        except (OSError, UserError):
            return  # whoever needs the file will ask again and be told why it is not there

    def _fetch(self, file: str) -> bytes:
        try:
            return self._system.cat_file(f"{self._root}/{file}")
        except FileNotFoundError as error:
            raise _absent(self.name, file) from error


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
    """The shards of a store, memory-mapped as they are needed, the least recently used let go."""

    def __init__(self, place: Place, num_shards: int):
        self._place, self._num_shards = place, num_shards
        self._mapped: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getitem__(self, shard: int) -> np.ndarray:
        """The bytes of a shard."""
        if shard not in self._mapped:
            if shard >= self._num_shards:
                raise damaged(f"{self._place.name}/index.bin", f"it names shard {shard} of {self._num_shards}")
            path = self._place.path(shard_name(shard))
            following = range(shard + 1, min(shard + 1 + READ_AHEAD, self._num_shards))
            self._place.ahead([shard_name(number) for number in following])
            if path.stat().st_size == 0:
                raise damaged(str(path), "it is empty")
            self._mapped[shard] = np.memmap(path, np.uint8, mode="r")
            if len(self._mapped) > OPEN_SHARDS:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(shard)
        return self._mapped[shard]


def _present(path: Path, name: str) -> Path:
    if not path.is_file():
        raise _absent(name, path.name)
    return path


def _absent(name: str, file: str) -> UserError:
    if file == "manifest.json":
        return UserError(f"{name}: holds no finished label store; expected manifest.json, run the label command.")
    return UserError(f"{name}: has no {file}, which its manifest counts; copy the whole store or label again.")
