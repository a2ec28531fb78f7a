"""How files and folders get their names and who may make them, on any file system.

Network, cloud and removable file systems lack some of the calls that a local disk has: hard links, locks, renaming over
a file, renaming a folder, permissions, flushing. Every such call of stillroom is made here, and each has another way.
Imports nothing of stillroom.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import random
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl as _fcntl
except ImportError:  # not everywhere
    _fcntl: Any = None

_REAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP}
"""What no other way would mend."""
_LOST = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What a flush says when bytes did not reach the disk; anything else says that there is nothing to flush."""
BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
"""A claim of another machine that was not renewed for so long belongs to a process that is gone."""
_TRIES = 5


class Busy(OSError):
    """Somebody else holds the claim."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def flush(descriptor: int) -> None:
    """Brings a file's bytes to the disk, where the file system knows how to."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _LOST:
            raise


def let_all_read(path: str | Path, mode: int = 0o644) -> None:
    """Sets a file's permissions, where the file system has any."""
    with contextlib.suppress(OSError):
        os.chmod(path, mode)


def replace(source: str | Path, target: str | Path) -> None:
    """Gives a file another name, in place of what has it.

    Where nothing can be renamed over a file, the old one is moved aside first: for a moment there is none. What is
    neither a file nor a folder, such as ``/dev/null``, is never replaced.
    """
    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(target))
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno in _REAL or not os.path.isfile(source) or os.path.isdir(target):
            raise
        if not _replaced_in_two_steps(Path(source), Path(target)):
            raise


def _replaced_in_two_steps(source: Path, target: Path) -> bool:
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    try:
        if target.exists():
            os.rename(target, old)
        os.rename(source, target)
    except OSError:
        if old.exists() and not target.exists():
            with contextlib.suppress(OSError):
                os.rename(old, target)
        return False
    old.unlink(missing_ok=True)
    return True


def first(source: str | Path, target: Path) -> bool:
    """Gives a file a name unless another has it already; says whether it did.

    Of several processes one wins, and whoever finds the name finds a whole file. Where there are no hard links, those
    that want the name take turns.
    """
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno in _REAL:
            raise
        with held(target.with_name(f".{target.name}.lock"), patience=60.0):
            if target.exists() or not os.path.exists(source):
                return False
            replace(source, target)
    return True


def _incoming(folder: Path) -> Path:
    """The file that says that a folder is being filled."""
    return folder.with_name(f".{folder.name}.incoming")


def is_finished(folder: Path) -> bool:
    """Whether a folder that is published whole is there and whole."""
    return folder.is_dir() and not _incoming(folder).exists()


def publish(work: Path, target: Path) -> bool:
    """Gives a folder its final name unless a finished one has it; says whether it did. See ``is_finished``.

    Where a folder cannot be renamed its files are, one by one, and a note beside it says until then that it is not
    finished; killed meanwhile, the same call goes on.
    """
    try:
        if not _incoming(target).exists():
            os.rename(work, target)
            return True
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _REAL:
            raise
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and is_finished(target):
            return False
    with held(target.with_name(f".{target.name}.moving"), patience=600.0):
        if is_finished(target) and any(target.iterdir()):
            return False
        _incoming(target).touch()
        _move_inside(work, target)
        _incoming(target).unlink()
    return True


def _move_inside(work: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in sorted(work.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _move_inside(entry, target / entry.name)
        else:
            replace(entry, target / entry.name)
    shutil.rmtree(work, ignore_errors=True)


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's bytes so that a reader of ``target`` sees all of them or what was there before."""
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copyfile(source, aside)
        replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Makes ``target`` read as ``source`` does: a symbolic link, or a copy where there are none."""
    try:
        os.symlink(source, target)
    except OSError as error:
        if error.errno in _REAL:
            raise
        shutil.copyfile(source, target)


def copy_inside(source: Path, target: Path) -> None:
    """Copies the files in a folder and below into another: bytes alone, no permissions and no times."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            copy_inside(entry, target / entry.name)
        else:
            shutil.copyfile(entry, target / entry.name)


@contextlib.contextmanager
def held(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Holds the claim that ``path`` names, alone among processes, threads and machines that share the folder.

    A lock of the system, which it lets go of when the process dies however it dies. Where there are none, a file that
    is renewed while it is held: one left by a dead process of this machine counts for nothing, one of another machine
    for nothing after ``STALE_SECONDS`` without renewal.

    Raises ``Busy`` where somebody else goes on holding it for ``patience`` seconds. The folder must be there.
    """
    deadline = time.monotonic() + patience
    release = _locked(path, deadline) or _claimed(path, deadline)
    try:
        yield
    finally:
        release()


def is_held(path: Path) -> bool:
    """Whether somebody holds the claim that ``path`` names; a builder that wants it at this moment tries again."""
    if not any(name.startswith(path.name) for name in os.listdir(path.parent)):
        return False
    try:
        with held(path):
            return False
    except Busy:
        return True


def _locked(path: Path, deadline: float) -> Any:
    """Takes the system's lock and returns what releases it; None where there is no such lock."""
    while _fcntl is not None:
        handle = path.open("a")
        try:
            _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            if time.monotonic() >= deadline:
                raise Busy(path) from None
            time.sleep(0.05)
            continue
        except OSError:
            handle.close()
            path.unlink(missing_ok=True)
            return None
        if _is_still(path, handle.fileno()):
            return functools.partial(_unlock, path, handle)
        handle.close()  # whoever held it has removed the file meanwhile: it is another one's now
    return None


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _unlock(path: Path, handle: Any) -> None:
    path.unlink(missing_ok=True)
    handle.close()


def _claimed(path: Path, deadline: float) -> Any:
    """Claims by a file and returns what releases it.

    Everyone makes a file of their own and then looks at those of the others: of two, the later one sees the earlier
    one's, so never do both go on. Who sees another one withdraws and tries again after a random while.
    """
    tries = 0
    while True:
        claim = _Claim.make(path)
        if not claim.others():
            return _renewed(claim)
        claim.withdraw()
        tries += 1
        if tries >= _TRIES and time.monotonic() >= deadline:
            raise Busy(path)
        time.sleep(random.uniform(0.02, 0.2))


@dataclass(frozen=True)
class _Claim:
    """A file whose name says whose it is: ``PATH.MACHINE.PROCESS.START.NUMBER``."""

    file: Path
    path: Path

    @classmethod
    def make(cls, path: Path) -> _Claim:
        """A new one of this process."""
        name = f"{path.name}.{machine_mark()}.{os.getpid()}.{_start_of(os.getpid())}.{uuid.uuid4().hex[:12]}"
        file = path.with_name(name)
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        return cls(file, path)

    def others(self) -> list[str]:
        """Names of the claims of living processes; those of dead ones are removed."""
        living = []
        for name in os.listdir(self.path.parent):
            owner = name.removeprefix(f"{self.path.name}.").split(".")
            if not name.startswith(f"{self.path.name}.") or len(owner) != 4 or name == self.file.name:
                continue
            if self._is_living(name, *owner[:3]):
                living.append(name)
            else:
                self.path.with_name(name).unlink(missing_ok=True)
        return living

    def _is_living(self, name: str, machine: str, process: str, start: str) -> bool:
        if machine == machine_mark() and start != "0":
            return str(_start_of(int(process))) == start
        try:  # by the clock of the file system, which made both times
            renewed = self.path.with_name(name).stat().st_mtime
            return renewed > self.file.stat().st_mtime - STALE_SECONDS
        except FileNotFoundError:
            return False

    def renew(self) -> None:
        """Says that its process is still there."""
        try:
            os.utime(self.file)
        except FileNotFoundError:
            raise
        except OSError:
            with self.file.open("r+b") as stream:
                stream.write(b".")

    def withdraw(self) -> None:
        """Lets go."""
        self.file.unlink(missing_ok=True)


def _renewed(claim: _Claim) -> Any:
    """Renews a claim until the function that it returns is called, which lets go of it."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                claim.renew()

    threading.Thread(target=renew, name="claim", daemon=True).start()

    def release() -> None:
        done.set()
        claim.withdraw()

    return release


@functools.cache
def machine_mark() -> str:
    """What tells this machine, and the numbering of its processes, from others that share the folder."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _start_of(process: int) -> int:
    """When a process of this machine began, in ticks of its clock; 0 where there is none or that is not told."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
