"""An object store in memory that fails as stores do, for tests: ``faulty://bucket/NAME``."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

SECRET = "wJalrXUtnFEMI/K7MDENG"


class Killed(BaseException):
    """Ends a process in the middle of what it does."""


class Faulty(MemoryFileSystem):
    """Does what it is told to before it does what it is asked for."""

    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    protocol = "faulty"
    cachable = False
    faults: list[tuple[str, str, str, list[int]]] = []
    """Call, end of the path, kind, and how often more."""
    calls: list[tuple[str, str]] = []
    conditional = True

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("faulty://", "memory://"))

    def _fault(self, call: str, path: str) -> str | None:
        self.calls.append((call, path))
        for wanted, end, kind, left in self.faults:
            if wanted == call and path.endswith(end) and left[0]:
                left[0] -= 1
                _raise(kind, path)
                return kind
        return None

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        kind = self._fault("cat", path)
        data = super().cat_file(path, start, end, **options)
        return data[: len(data) // 2] if kind == "truncated" else data

    def get_file(self, rpath: str, lpath: Any, *arguments: Any, **options: Any) -> None:
        kind = self._fault("get", rpath)
        super().get_file(rpath, lpath, *arguments, **options)
        if kind == "truncated":
            Path(lpath).write_bytes(Path(lpath).read_bytes()[:-1])

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if mode == "create" and not self.conditional:
            raise OSError(errno.ENOSYS, "no conditions here")
        kind = self._fault("create" if mode == "create" else "put", path)
        super().pipe_file(path, value[:-1] if kind == "truncated" else value, mode)

    def put_file(self, lpath: str, rpath: str, *arguments: Any, **options: Any) -> None:
        kind = self._fault("put", rpath)
        data = Path(lpath).read_bytes()
        super().pipe_file(rpath, data[:-1] if kind == "truncated" else data)


def _raise(kind: str, path: str) -> None:
    errors = {
        "SlowDown": OSError(errno.EBUSY, "Please reduce your request rate."),
        "InternalError": OSError(errno.EIO, "We encountered an internal error. Please try again."),
        "connection": RuntimeError(f"connection of {SECRET} lost"),
        "stale": FileNotFoundError(path),
        "forbidden": PermissionError(f"The key {SECRET} is not known"),
        "full": OSError(errno.ENOSPC, "No space left on device"),
        "killed": Killed(),
        "taken": FileExistsError(path),
    }
    if kind in errors:
        raise errors[kind]


@contextmanager
def faulty_store() -> Iterator[type[Faulty]]:
    """The store, empty and without faults."""
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.store.clear()
    Faulty.pseudo_dirs[:] = [""]
    Faulty.faults, Faulty.calls, Faulty.conditional = [], [], True
    yield Faulty


def fault(call: str, end: str, kind: str, times: int = 1) -> None:
    """The next calls of a kind on a path with this end fail: ``cat``, ``get``, ``put`` or ``create``."""
    Faulty.faults.append((call, end, kind, [times]))


def count(call: str) -> Counter[str]:
    """How often each file was asked for by a call."""
    return Counter(path.rpartition("/")[2] for one, path in Faulty.calls if one == call)
