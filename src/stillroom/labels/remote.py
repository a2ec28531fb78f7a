"""Where a store's files are read from: a local folder, or any fsspec URL through a local cache with read-ahead.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stillroom.files import file_aside, write_bytes
from stillroom.http import LONGEST, HttpFiles, cache_folder, filesystem, printable_url
from stillroom.labels.format.layout import CHECK_BYTES, Damaged, checksum, damaged, read_table, shard_name
from stillroom.labels.format.manifest import Manifest, from_text
from stillroom.stores import answered
from stillroom.types import UserError

OPEN_SHARDS = 128
"""Shards that stay mapped at one time."""
BLOCK_BYTES = 1 << 18
"""Bytes of a shard that are fetched from a remote store and cached together: the records around the one wanted."""
READ_AHEAD = 2
"""Blocks fetched after one that was read, where the one before it was read as well."""
TRIES = 2
"""How often a file or a block is asked for before it is refused for not being what it should be."""
SHARDS = "shards/"
NO_RANGES = (NotImplementedError, ValueError, TypeError)
"""What filesystems raise that give no parts of files."""
Span = tuple[str, int, int]
"""A part of a file: name, first byte, number of bytes."""


class Place(Protocol):
    """Gives the files of a store as local paths."""

    url: str
    name: str
    """The address without a name, password or signature that it may hold: what is printed."""

    def path(self, file: str) -> Path:
        """A local path of a file of the store; raises ``UserError`` where the store has none."""
        ...

    def gather(self, spans: Iterable[Span]) -> None:
        """Hears which parts will be asked for next, so that they can be fetched at one time."""
        ...

    def span(self, file: str, start: int, length: int) -> bytes | None:
        """A part of a file (shorter where the file ends), or None where the file is best read by its path."""
        ...

    def forget(self, file: str) -> bool:
        """Drops what was copied of a shard that turned out not to be whole; whether it can be fetched once more."""
        ...

    def damaged(self, file: str, what: str) -> Damaged:
        """The error of a file that does not hold what was written to it, and what mends it."""
        ...


class LocalFolder:
    """A store in a folder of this machine."""

    def __init__(self, folder: Path):
        self.folder, self.url, self.name = folder, str(folder), str(folder)

    def path(self, file: str) -> Path:
        """See ``Place``."""
        return _present(self.folder / file, self.name)

    def gather(self, spans: Iterable[Span]) -> None:
        """Nothing to be done: the operating system reads ahead."""

    def span(self, file: str, start: int, length: int) -> bytes | None:
        """None: the file is memory-mapped."""
        return None

    def forget(self, file: str) -> bool:
        """Nothing was copied."""
        return False

    def damaged(self, file: str, what: str) -> Damaged:
        """See ``Place``."""
        return damaged(f"{self.name}/{file}", what)


class RemoteFolder:
    """A store behind an fsspec URL. Parts of its files are copied to a local cache as they are read.

    Shards are fetched in blocks by range; a filesystem that gives no ranges gives the whole file, and is asked for
    whole files from then on. The cache's folder is named by the URL and by the store's manifest, so that a store that
    was made anew is fetched anew; a cache that vanishes is filled again. Whole files are kept only where their
    checksums hold, and a block is dropped when a record in it turns out not to be whole.
    """

    def __init__(self, url: str, cache: Path | None = None):
        self.url, self.name = url.rstrip("/"), printable_url(url.rstrip("/"))
        self._system, self._root = filesystem(self.url)
        manifest = self._manifest()
        self._cache = (cache or cache_folder("labels")) / self._mark(manifest)
        if not self._is_sound(self._cache / "manifest.json", "manifest.json"):
            write_bytes(self._cache / "manifest.json", manifest)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="label-store-read-ahead")
        self._running: dict[tuple[str, int], Future[bytes | None]] = {}
        self._last: dict[str, int] = {}  # block that was read last, by file
        self._has_ranges = True

    def path(self, file: str) -> Path:
        """See ``Place``."""
        target = self._cache / file
        if self._is_sound(target, file):
            return target
        for _ in range(TRIES):
            with file_aside(target) as scratch:
                self._asked(file, lambda path, scratch=scratch: self._system.get_file(path, str(scratch)))
                if self._is_sound(scratch, file):
                    break
                begin = _beginning(scratch)
                scratch.unlink()
        else:
            raise self.damaged(file, f"it begins {begin}")
        return target

    def gather(self, spans: Iterable[Span]) -> None:
        """See ``Place``: fetches all blocks that are not cached in one request (many filesystems make it parallel)."""
        needs: dict[tuple[str, int], int] = {}
        for file, start, length in spans:
            for number in _blocks(start, length):
                needs[file, number] = max(needs.get((file, number), 0), _need(number, start + length))
        missing = [block for block in needs if not self._is_cached(*block) and block not in self._running]
        if len(missing) < 2 or not self._has_ranges:
            return
        wanted = sorted(missing)
        paths = [f"{self._root}/{file}" for file, _ in wanted]
        starts = [number * BLOCK_BYTES for _, number in wanted]
        ends = [start + BLOCK_BYTES for start in starts]
        try:
            found = self._system.cat_ranges(paths, starts, ends, on_error="return")
        except Exception:  # whatever went wrong, each block will be asked for on its own and say so
            return
        for block, data in zip(wanted, found, strict=True):
            if isinstance(data, bytes) and needs[block] <= len(data) <= BLOCK_BYTES:
                write_bytes(self._block_path(*block), data)

    def span(self, file: str, start: int, length: int) -> bytes | None:
        """See ``Place``."""
        pieces = []
        for number in _blocks(start, length):
            is_whole = (self._cache / file).is_file()
            data = None if is_whole else self._block(file, number, _need(number, start + length))
            if data is None:
                return None
            pieces.append(data)
        self._ahead(file, number)
        begin = start % BLOCK_BYTES
        return b"".join(pieces)[begin : begin + length]

    def forget(self, file: str) -> bool:
        """See ``Place``."""
        (self._cache / file).unlink(missing_ok=True)
        shutil.rmtree(self._cache / "blocks" / file, ignore_errors=True)
        for block in [block for block in self._running if block[0] == file]:
            del self._running[block]
        return True

    def damaged(self, file: str, what: str) -> Damaged:
        """See ``Place``."""
        return Damaged(
            f"{self.name}/{file}: is not what belongs to this store ({what}), asked for {TRIES} times, and nothing of "
            "it is kept; check the address and whether the store behind it is whole, or try again later."
        )

    def _manifest(self) -> bytes:
        for _ in range(TRIES):
            data = self._asked("manifest.json", self._system.cat_file)
            try:
                manifest = from_text(data, Manifest, f"{self.name}/manifest.json")
            except Damaged:
                continue
            if isinstance(self._system, HttpFiles):
                self._system.longest = max(LONGEST, manifest.num_bytes)
            return data
        raise self.damaged("manifest.json", f"it begins {bytes(data[:40])!r}")

    def _mark(self, manifest: bytes) -> str:
        return hashlib.sha256(self.url.encode() + manifest).hexdigest()[:16]

    def _is_sound(self, path: Path, file: str) -> bool:
        """Whether a copied file is there and its checksums hold; those of a shard's records are left to readers."""
        try:
            data = np.memmap(path, np.uint8, mode="r").view(np.ndarray).data if path.stat().st_size else b""
        except OSError:
            return False
        if file == "manifest.json":
            return self._mark(bytes(data)) == self._cache.name
        if not file.startswith(SHARDS):
            return checksum(data[:-CHECK_BYTES]) == bytes(data[-CHECK_BYTES:])
        try:
            read_table(data, file)
        except UserError:
            return False
        return True

    def _block_path(self, file: str, number: int) -> Path:
        return self._cache / "blocks" / file / f"{number:06d}"

    def _is_cached(self, file: str, number: int) -> bool:
        return (self._cache / file).is_file() or self._block_path(file, number).is_file()

    def _block(self, file: str, number: int, need: int) -> bytes | None:
        """A block of at least ``need`` bytes from the cache, from what is being fetched, or from afar.

        None where there are only whole files.
        """
        running = self._running.pop((file, number), None)
        if running is not None and (data := running.result()) is not None and len(data) >= need:
            return data
        with contextlib.suppress(OSError):
            if len(data := self._block_path(file, number).read_bytes()) >= need:
                return data
        return self._fetch_block(file, number, need)

    def _fetch_block(self, file: str, number: int, need: int) -> bytes | None:
        span = {"start": number * BLOCK_BYTES, "end": (number + 1) * BLOCK_BYTES}
        data = None
        for _ in range(TRIES if self._has_ranges else 0):
            data = self._asked(file, lambda path: _in_part(self._system, path, span))
            if data is None or len(data) >= need:
                break
        if data is None or len(data) > BLOCK_BYTES:  # no ranges, or they are not heeded
            self._has_ranges = False
            return None
        if len(data) < need:
            raise self.damaged(file, f"it ends {need - len(data)} bytes before its last record")
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
            return self._fetch_block(file, number, 1)
        except (OSError, UserError):
            return None  # whoever needs the block will ask again and be told why it is not there

    def _asked(self, file: str, read: Callable[[str], Any]) -> Any:
        """What is read of a file behind the address; a ``UserError`` where it cannot be."""
        try:
            return answered(f"{self.name}/{file}", lambda: read(f"{self._root}/{file}"))
        except FileNotFoundError as error:
            raise _absent(self.name, file) from error


def _in_part(system: Any, path: str, span: dict[str, int]) -> bytes | None:
    """A part of a file; None where a filesystem gives no parts."""
    try:
        return system.cat_file(path, **span)
    except NO_RANGES:
        return None


def _beginning(path: Path) -> str:
    with path.open("rb") as stream:
        return repr(stream.read(40))


def _blocks(start: int, length: int) -> range:
    """Numbers of the blocks that a part of a file lies in."""
    return range(start // BLOCK_BYTES, max(start, start + length - 1) // BLOCK_BYTES + 1)


def _need(number: int, end: int) -> int:
    """Bytes of a block that a part of a file which ends before ``end`` needs."""
    return min(BLOCK_BYTES, end - number * BLOCK_BYTES)


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

    def again(self, shard: int, start: int, length: int) -> memoryview:
        """``record`` from a shard that is fetched anew, where it was copied from elsewhere."""
        self.forget(shard)
        return self.record(shard, start, length)

    def forget(self, shard: int) -> None:
        """Drops what was copied of a shard."""
        if self._place.forget(self._name(shard)):
            self._mapped.pop(shard, None)

    def __getitem__(self, shard: int) -> np.ndarray:
        """The bytes of a whole shard."""
        if shard not in self._mapped:
            path = self._place.path(self._name(shard))
            if path.stat().st_size == 0:
                raise self._place.damaged(self._name(shard), "it is empty")
            self._mapped[shard] = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
            if len(self._mapped) > OPEN_SHARDS:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(shard)
        return self._mapped[shard]

    def _name(self, shard: int) -> str:
        if shard >= self._num_shards:
            raise self._place.damaged("index.bin", f"it names shard {shard} of {self._num_shards}")
        return shard_name(shard)


def _present(path: Path, name: str) -> Path:
    if not path.is_file():
        raise _absent(name, path.name)
    return path


def _absent(name: str, file: str) -> UserError:
    if file == "manifest.json":
        return UserError(f"{name}: holds no finished label store; expected manifest.json, run the label command.")
    return UserError(f"{name}: has no {file}, which its manifest counts; copy the whole store or label again.")
