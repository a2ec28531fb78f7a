"""Folders named by what determines them: built once, shared by every arm that needs them, continued after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stillroom
from stillroom.files import disk_errors, fingerprint, write_json
from stillroom.training.distributed import launched_rank
from stillroom.types import UserError


def code_hash(*rooms: str) -> str:
    """A hash of the source of some packages of stillroom: a changed method is a changed result."""
    root = Path(stillroom.__file__).parent
    digest = hashlib.sha256(stillroom.__version__.encode())
    for room in sorted(rooms):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Artifact:
    """A finished folder, the hash in its name, and whether it was there already."""

    path: Path
    key: str
    reused: bool


@dataclass(frozen=True)
class ArtifactStore:
    """A folder of artifacts: ``<kind>-<hash of the identity>``."""

    root: Path

    def locate(self, kind: str, identity: dict[str, Any]) -> tuple[Path, str]:
        """Where an artifact is or will be, and its hash."""
        key = fingerprint(identity)
        return self.root / f"{kind}-{key}", key

    def build(
        self, kind: str, identity: dict[str, Any], make: Callable[[Path], None], *, together: bool = False
    ) -> Artifact:
        """The artifact, made by ``make(work_folder)`` where it is not there yet.

        The work folder survives a kill and is handed to ``make`` again; it takes its final name when ``make`` returns.
        Two processes that want the same artifact take turns. Of the ranks that ``torchrun`` started, the first builds
        and the others wait, or take part in ``make`` where it is work that ranks do ``together``.
        """
        target, key = self.locate(kind, identity)
        if target.is_dir():
            return Artifact(target, key, reused=True)
        work = self.root / f".{target.name}.unfinished"
        if launched_rank() > 0:
            if together:
                _wait_for(work)
                make(work)
            _wait_for(target)
            return Artifact(target, key, reused=False)
        try:
            with disk_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            with disk_errors(target), _turn(self.root / f".{target.name}.lock"):
                if target.is_dir():
                    return Artifact(target, key, reused=True)
                work.mkdir(exist_ok=True)
                make(work)
                write_json(work / "identity.json", identity)
                work.rename(target)
        except UserError:  # a mistake leaves nothing behind; work that can be continued is not empty and stays
            for empty in (work, self.root, self.root.parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()
            raise
        return Artifact(target, key, reused=False)


def _wait_for(folder: Path) -> None:
    """Returns when the first rank has made a folder; should it fail, ``torchrun`` ends every rank."""
    while not folder.is_dir():
        time.sleep(0.1)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Holds an advisory lock, which the system lets go of when the process dies however it dies."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path.parent}: another process is making {path.name.strip('.').removesuffix('.lock')} now; "
                "wait for it, then run the same command again."
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
