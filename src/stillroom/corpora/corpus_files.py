"""Where the files of a corpus are: in its folder, in the hidden folder of a build, or behind an address."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from stillroom import disk
from stillroom.checksums import NAME, check, require, sealed_names
from stillroom.files import file_aside, write_first
from stillroom.http import HttpFiles, cache_folder, filesystem, printable_url
from stillroom.stores import answered
from stillroom.types import UserError

GROWING = "growing.json"
"""The manifest of a corpus whose training text is being made."""
_PAUSE, _PATIENCE = 0.1, 10.0  # seconds
_TRIES = 2  # a file is asked for
_LONGEST = 1 << 34  # bytes of a file behind http


def growing_folder(folder: Path) -> Path:
    """Where a corpus grows before it takes its name."""
    return folder.with_name(f".{folder.name}.unfinished") / "corpus"


def claim_of(folder: Path) -> Path:
    """The claim that whoever leads the build of a corpus holds."""
    return folder.with_name(f".{folder.name}.building")


class CorpusFiles(Protocol):
    """Gives the files of a corpus as local paths, whole and checked."""

    def path(self, name: str) -> Path:
        """A local path of a file or folder of the corpus; a ``UserError`` where it is not there or is damaged."""
        ...


@dataclass(frozen=True)
class FinishedFiles:
    """Those of a finished folder."""

    folder: Path

    def path(self, name: str) -> Path:
        """See ``CorpusFiles``."""
        require(self.folder / name)
        return self.folder / name


class RemoteFiles:
    """Those behind an address, each copied to the local cache when it is first asked for, and checked there.

    The cache's folder is named by the address and the corpus's checksums, so that one that was made anew is fetched
    anew.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        self.address = url.rstrip("/")
        self.name = printable_url(self.address)
        self._system, self._root = filesystem(url.rstrip("/"))
        sums = self._asked(NAME, lambda path: self._system.cat_file(path))
        mark = hashlib.sha256(url.encode() + sums).hexdigest()[:16]
        self.folder = (cache or cache_folder("corpora")) / mark
        write_first(self.folder / NAME, sums)

    def path(self, name: str) -> Path:
        """See ``CorpusFiles``."""
        for file in sealed_names(self.folder):
            if file != name and not file.startswith(f"{name}/"):
                continue
            for _ in range(_TRIES):
                if (self.folder / file).is_file() and not check(self.folder, file):
                    break
                with file_aside(self.folder / file) as scratch:
                    self._asked(file, lambda path, scratch=scratch: self._system.get_file(path, str(scratch)))
        return FinishedFiles(self.folder).path(name)

    def _asked(self, file: str, read: Callable[[str], Any]) -> Any:
        """What is read of a file behind the address; a ``UserError`` where it cannot be."""
        if isinstance(self._system, HttpFiles):
            self._system.longest = _LONGEST
        try:
            return answered(f"{self.name}/{file}", lambda: read(f"{self._root}/{file}"))
        except FileNotFoundError as error:
            raise UserError(f"{self.name}: has no {file}, expected a finished corpus; check the address.") from error


@dataclass(frozen=True)
class GrowingFiles:
    """Those of a corpus that is being built; one that is not there yet is waited for as long as somebody builds."""

    folder: Path
    begun: float = field(default_factory=time.monotonic)

    def path(self, name: str) -> Path:
        """See ``CorpusFiles``."""
        while (found := self.find(name)) is None:
            self.wait(name)
        return found

    def find(self, name: str) -> Path | None:
        """Where a file is, finished or growing; None where it is not there yet."""
        if disk.is_finished(self.folder) and (self.folder / name).exists():
            return FinishedFiles(self.folder).path(name)
        growing = growing_folder(self.folder) / name
        return growing if growing.exists() else None

    def wait(self, name: str) -> None:
        """Waits a moment; a ``UserError`` where nobody builds."""
        time.sleep(_PAUSE)
        if time.monotonic() - self.begun < _PATIENCE:  # whoever builds may have been started at the same time
            return
        try:
            with disk.held(claim_of(self.folder)):
                if (self.folder / name).exists():
                    return
        except disk.Busy:
            return
        except FileNotFoundError:
            pass
        raise UserError(
            f"{self.folder}: has no {name} yet and no process is building it; run the command that builds it again, "
            "which goes on where it was stopped."
        )


@dataclass(frozen=True)
class ShardFiles(Sequence[NDArray[Any]]):
    """Arrays in files, each memory-mapped when it is first asked for."""

    files: CorpusFiles
    names: tuple[str, ...]
    _open: dict[int, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[Any]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | Sequence[NDArray[Any]]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if index not in self._open:
            self._open[index] = np.load(self.files.path(self.names[index]), mmap_mode="r")
        return self._open[index]
