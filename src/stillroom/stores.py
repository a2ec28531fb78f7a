"""Folders at addresses of object stores, such as ``s3://bucket/artifacts``: fetched whole, published whole, claimed.

Whatever is kept there is made in a folder of this machine, its home, whose name is the address. Nothing is renamed at
an address and no listing is believed: a folder is there when its ``checksums.json`` is, which is written last.

ADDRESS/model-2f1c/...               the files of a finished folder
ADDRESS/.model-2f1c.unfinished/HASH  those of one that is being made, named by what they hold
ADDRESS/.model-2f1c.claim            who makes it, written anew as long as that goes on
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from stillroom import checksums, disk
from stillroom.checksums import NAME, Entry, entry_of, hash_of
from stillroom.files import file_aside, fingerprint, folder_aside, write_bytes
from stillroom.http import AT_ONCE, SCHEMES, cache_folder, filesystem, printable_url
from stillroom.types import UserError

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before a store that did not answer as it should is asked again, half as long to half as long again."""
TRIES = 3
"""How often a file is fetched that is not what was published."""
MIRROR_SECONDS = 30.0
"""How often what is being made is looked at for something new to be kept at the address."""
POLL_SECONDS = 5.0
"""How often a claim that another machine holds is looked at."""
_SMALL = 1 << 24  # bytes of a file that is read at one time, and may change while it is kept
_LATE = ("manifest.json", "corpus.json", NAME)  # what readers of a part go by: written after its other files
_OWN_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_FINAL = (FileExistsError, PermissionError, ValueError, TypeError, NotImplementedError, ImportError)
_SIGN, _NOTE = quote("://", safe=""), ".mirrored"

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


def home_of(address: str) -> Path:
    """The folder of this machine in which what is kept at an address is made and cached; nothing is written."""
    shown, (_, _, inside) = printable_url(address), address.partition("://")
    if shown != address:
        raise UserError(f"{shown}: holds a name, password or signature; give them by the settings of its driver.")
    if address.lower().startswith(SCHEMES):
        raise UserError(f"{shown}: can be read and not written; expected an object store, such as s3://bucket/NAME.")
    if "/" not in inside.strip("/"):
        raise UserError(f"{shown}: names no folder of a store; expected one such as s3://bucket/NAME.")
    return cache_folder("stores") / quote(address.rstrip("/"), safe="")


def address_of(home: Path) -> str | None:
    """The address whose home a folder is; None for every other folder."""
    return unquote(home.name) if _SIGN in home.name else None


def answered(name: str, ask: Callable[[], Answer]) -> Answer:
    """What a store says; one that is throttled, broken or cut off is asked again after longer and longer pauses.

    Raises ``FileNotFoundError`` where there is no such thing, the ``OSError`` of a full disk of this machine, and a
    ``UserError`` for the rest. That quotes no text of a driver, which may hold a key.
    """
    for pause in (*PAUSES, None):
        try:
            return ask()
        except (UserError, FileNotFoundError):
            raise
        except Exception as error:  # drivers raise classes of their own
            if getattr(error, "errno", None) in _OWN_DISK:
                raise
            is_final = isinstance(error, _FINAL) or "Credential" in type(error).__name__
            if pause is None or is_final:
                advice = "the keys and what they give a right to" if is_final else "the connection, or try again later"
                raise UserError(
                    f"{name}: cannot be read or written ({_told(error)}); check the address and {advice}."
                ) from error
        time.sleep(pause * random.uniform(0.5, 1.5))
    raise AssertionError("the last pause is none")


def _told(error: Exception) -> str:
    """What a driver's error is, in words that hold nothing secret."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if isinstance(code, str) and re.fullmatch(r"\w+", code):
            return code
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__


@dataclass(frozen=True)
class FarFolder:
    """A folder at an address."""

    url: str
    by_content: bool = False
    """Whether its files are named by what they hold: a newer state of it leaves the one before whole."""

    @cached_property
    def where(self) -> tuple[Any, str]:
        """The filesystem, and the path in it."""
        return filesystem(self.url)

    def mark(self) -> bytes | None:
        """Its checksums as they are at this moment; None where it is not there."""
        for pause in PAUSES[:TRIES]:
            data = self.read(NAME)
            if data is None or checksums.parsed(data, self._name(NAME)) is not None:
                return data
            time.sleep(pause)
        raise self._damaged(NAME)

    def read(self, file: str) -> bytes | None:
        """A file, whatever an earlier listing said of it; None where there is none."""
        system, root = self.where

        def ask() -> bytes:
            system.invalidate_cache()
            return system.cat_file(f"{root}/{file}")

        with contextlib.suppress(FileNotFoundError):
            return answered(self._name(file), ask)
        return None

    def write(self, file: str, data: bytes) -> None:
        """Writes a file."""
        self._written(file, lambda system, path: system.pipe_file(path, data), len(data))

    def put(self, file: str, source: Path) -> None:
        """Copies a file there, a large one in several parts where the store has such."""
        self._written(file, lambda system, path: system.put_file(str(source), path), source.stat().st_size)

    def _written(self, file: str, write: Callable[[Any, str], object], size: int) -> None:
        system, root = self.where

        def ask() -> None:
            write(system, f"{root}/{file}")
            system.invalidate_cache()
            if system.info(f"{root}/{file}").get("size") not in (None, size):
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # not all of it arrived

        self.reached(file, ask)

    def reached(self, file: str, ask: Callable[[], Answer]) -> Answer:
        """``answered``, where a store that is not there at all is the mistake."""
        try:
            return answered(self._name(file), ask)
        except FileNotFoundError as error:
            raise UserError(f"{self._name(file)}: cannot be written: no such store; check the address.") from error

    def pull(self, folder: Path) -> bool:
        """Fetches it whole into ``folder``, which appears when every checksum holds; False where it is not there."""
        mark = self.mark()
        if mark is None:
            return False
        with folder_aside(folder) as scratch:
            self._complete(scratch, self.entries(mark))
            if not self.by_content:
                write_bytes(scratch / NAME, mark)
        return True

    def mend(self, folder: Path) -> None:
        """Fetches the damaged files of a copy of it anew."""
        mark = self.mark()
        if mark is not None and mark == (folder / NAME).read_bytes():
            self._complete(folder, self.entries(mark))

    def entries(self, mark: bytes) -> dict[str, Entry]:
        """The files that its checksums name; refuses names that lead out of a folder."""
        found = checksums.parsed(mark, self._name(NAME)) or {}
        if any(path.is_absolute() or ".." in path.parts for path in map(PurePosixPath, found)):
            raise self._damaged(NAME)
        return found

    def _complete(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        """Fetches the files that are not in a folder as they should be."""
        for pause in (0.0, *PAUSES[: TRIES - 1], None):
            wrong = [name for name, entry in entries.items() if entry_of(folder / name) != entry]
            if not wrong:
                return
            if pause is None:
                raise self._damaged(wrong[0])
            time.sleep(pause)
            _side_by_side(lambda name: self._get(name, entries[name][1], folder / name), wrong)

    def _get(self, name: str, digest: str, target: Path) -> None:
        system, root = self.where
        stored = digest if self.by_content else name
        with file_aside(target) as scratch, contextlib.suppress(FileNotFoundError):
            answered(self._name(stored), lambda: system.get_file(f"{root}/{stored}", str(scratch)))

    def push(self, folder: Path) -> None:
        """Publishes a sealed folder where none is there: its files, and its checksums when all of them are there."""
        if self.mark() is not None:
            return
        names = checksums.sealed_names(folder)
        late = sorted((name for name in names if Path(name).name in _LATE), key=lambda one: _LATE.index(Path(one).name))
        _side_by_side(lambda name: self.put(name, folder / name), set(names).difference(late))
        for name in (*late, NAME):
            self.put(name, folder / name)

    def remove(self, files: Iterable[str] | None = None) -> None:
        """Removes some files, or all, its checksums first; what cannot be removed stays and is nothing to readers."""
        system, root = self.where
        with contextlib.suppress(Exception):
            for file in [NAME] if files is None else files:
                system.rm_file(f"{root}/{file}")
            if files is None:
                system.invalidate_cache()
                system.rm(root, recursive=True)

    def _name(self, file: str) -> str:
        return f"{printable_url(self.url)}/{file}"

    def _damaged(self, file: str) -> UserError:
        return UserError(
            f"{self._name(file)}: is not what was published, fetched {TRIES} times; where it is damaged there, remove "
            f"{self._name(NAME)} and run the same command again, which makes it anew."
        )


def _side_by_side(act: Callable[[str], object], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(act, names))


class _Mirror:
    """Keeps at an address what is being made in a folder, so that another machine can go on with it."""

    def __init__(self, far: FarFolder, work: Path, may: Callable[[], bool]) -> None:
        self._far, self._work, self._may = far, work, may
        self._mark, self._stored = b"", set[str]()

    def begin(self) -> None:
        """Fetches what is kept, unless what is here went on from it."""
        mark, note = self._far.mark(), self._work / _NOTE
        if mark is None:
            return
        if not note.is_file() or note.read_text() != hash_of(mark):
            shutil.rmtree(self._work, ignore_errors=True)
            self._far.pull(self._work)
        self._remember(mark, self._far.entries(mark))

    def _remember(self, mark: bytes, entries: Mapping[str, Entry]) -> None:
        self._mark, self._stored = mark, {digest for _, digest in entries.values()}
        if self._work.is_dir():
            write_bytes(self._work / _NOTE, hash_of(mark).encode())

    def save(self) -> None:
        """Keeps the files of this moment; the state before stays until the new one is there."""
        entries: dict[str, Entry] = {}
        _side_by_side(
            lambda name: entries.update({name: self._kept(self._work / name)}), checksums.files_of(self._work)
        )
        mark, before = checksums.sums_text(dict(sorted(entries.items()))), self._stored
        if entries and mark != self._mark:
            self._far.write(NAME, mark)
            self._remember(mark, entries)
            self._far.remove(before - self._stored)

    def _kept(self, file: Path) -> Entry:
        """Size and hash of a file that is at the address now; ``FileNotFoundError`` where it changes meanwhile."""
        if file.stat().st_size <= _SMALL:
            data = file.read_bytes()
            digest = hash_of(data)
            if digest not in self._stored:
                self._far.write(digest, data)
            return len(data), digest
        entry = entry_of(file)
        if entry is not None and entry[1] not in self._stored:
            self._far.put(entry[1], file)
        if entry is None or entry_of(file) != entry:
            raise FileNotFoundError(file)
        return entry

    def try_to_save(self) -> None:
        """``save`` where that is possible now; what goes wrong at the address stops no work."""
        try:
            if self._may():
                self.save()
        except OSError:  # changed or gone meanwhile: the next time finds the files as they are then
            pass
        except UserError as error:
            logger.warning("%s Work goes on, and what is new is kept at the next chance.", error)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Saves now and then in the background, and a last time where the block ends before its work is done."""
        try:
            with _now_and_then(MIRROR_SECONDS, self.try_to_save):
                yield
        except BaseException:
            self.try_to_save()
            raise


@contextlib.contextmanager
def _now_and_then(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            act()

    thread = threading.Thread(target=run, name="store", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _FarClaim:
    """An object that says who makes a folder; of several one can create it, where the store knows such a condition.

    It holds a word of its own, its owner's mark and a number that changes while the owner lives.
    """

    def __init__(self, address: str, owner: str) -> None:
        place, _, name = address.rpartition("/")
        self._far, self._file = FarFolder(place), f".{name}.claim"
        self._word, self._owner, self._beats = uuid.uuid4().hex, owner, 0

    def _text(self) -> bytes:
        self._beats += 1
        return f"{self._word} {self._owner} {self._beats}".encode()

    def _take(self) -> bool:
        """Creates it where it is not there; whether it is this process's."""
        system, root = self._far.where
        try:
            system.pipe_file(f"{root}/{self._file}", self._text(), mode="create")
        except Exception as error:  # an answer may be lost, and drivers tell of a failed condition in ways of their own
            if self._far.read(self._file) is not None:
                return self.is_held()
            if isinstance(error, FileExistsError):  # let go of since
                return False
            if not isinstance(error, TypeError | NotImplementedError) and getattr(error, "errno", 0) != errno.ENOSYS:
                raise
            self._far.write(self._file, self._text())
        return True

    def wait(self) -> None:
        """Takes it, from whoever let it go, did not renew it for long, or was this machine's and is dead."""
        seen, since = b"", time.monotonic()
        while not self._far.reached(self._file, self._take):
            found = self._far.read(self._file) or b""
            is_dead = f" {self._owner} ".encode() in found or time.monotonic() - since > disk.STALE_SECONDS
            if found and found == seen and is_dead:
                self._far.write(self._file, self._text())
                continue
            if found and not seen:
                logger.warning("%s: another machine is making it now, which is waited for", self._file)
            seen, since = (seen, since) if found == seen else (found, time.monotonic())
            time.sleep(POLL_SECONDS)

    def renew(self) -> None:
        """Says that this process lives, unless another one took its place."""
        with contextlib.suppress(UserError):
            if self.is_held():
                self._far.write(self._file, self._text())

    def is_held(self) -> bool:
        """Whether it is this process's."""
        return (self._far.read(self._file) or b"").startswith(self._word.encode())

    def release(self) -> None:
        """Lets it go."""
        with contextlib.suppress(UserError):
            if self.is_held():
                self._far.remove([self._file])


@contextlib.contextmanager
def published(folder: Path, address: str | None, work: Path | None = None) -> Iterator[None]:
    """The block makes ``folder``, which is then published at ``address``; nothing more happens without one.

    One that is published is fetched first, and the block finds it there. What is in ``work``, where it is made, is kept
    at the address meanwhile, and fetched where another machine began it. Of several machines one is in the block, the
    others wait; of several processes of this one the caller lets in one.
    """
    if address is None:
        yield
        return
    place, _, name = address.rpartition("/")
    far, begun = FarFolder(address), FarFolder(f"{place}/.{name}.unfinished", by_content=True)
    claim = _FarClaim(address, fingerprint([disk.machine_mark(), str(folder.absolute())]))
    mirror = None if work is None else _Mirror(begun, work, claim.is_held)
    claim.wait()
    try:
        with _now_and_then(disk.BEAT_SECONDS, claim.renew):
            mark = far.mark()
            if mark is not None and not (checksums.is_sealed(folder) and (folder / NAME).read_bytes() == mark):
                shutil.rmtree(folder, ignore_errors=True)
                far.pull(folder)
            elif not checksums.is_sealed(folder) and mirror is not None:
                mirror.begin()
            with contextlib.nullcontext() if mirror is None else mirror.kept():
                yield
            (folder / _NOTE).unlink(missing_ok=True)
            if not checksums.is_sealed(folder):
                checksums.seal(folder)
            far.push(folder)
            begun.remove()
    finally:
        claim.release()
