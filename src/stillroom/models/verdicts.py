"""What was found right about a model's files, so that it is not looked for at every start: notes by their identity.

A file is the same while its place, size, times and inode are; one that was just written is looked at again, for two
writes can fall into one tick of its clock. Notes are empty files under ``$STILLROOM_CACHE`` (``~/.cache/stillroom``);
without a folder for them everything is looked at each time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from stillroom.files import fingerprint

_SETTLED_SECONDS = 2.0


def is_remembered(files: Iterable[Path], what: str) -> bool:
    """Whether ``remember`` was called with ``what`` for these files as they are now."""
    note = _note(files, what)
    return note is not None and note.is_file()


def remember(files: Iterable[Path], what: str) -> None:
    """Notes that ``what`` holds of these files, if they have not changed within seconds and there is a place for it."""
    files = list(files)
    note = _note(files, what)
    if note is None or time.time() - max(_changed(file) for file in files) < _SETTLED_SECONDS:
        return
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()


def _note(files: Iterable[Path], what: str) -> Path | None:
    """Where the note for these files lies; None without a home or where one of them cannot be asked."""
    with contextlib.suppress(OSError, RuntimeError):
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(os.environ.get("STILLROOM_CACHE") or Path(base) / "stillroom")
        return cache / "models" / fingerprint([what, [_identity(file) for file in files]], 32)
    return None


def _identity(file: Path) -> list[str | int]:
    state = file.stat()
    place = os.fsencode(file.resolve()).decode("utf-8", "backslashreplace")
    return [place, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev]


def _changed(file: Path) -> float:
    state = file.stat()
    return max(state.st_mtime, state.st_ctime)
