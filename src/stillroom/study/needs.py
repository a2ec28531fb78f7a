"""Who needs which artifact: marks beside the artifacts, each made before its artifact is looked for or built.

artifacts/.needed/NAME-KEY/user.json      whose marks these are: the folder of a run, or of a model that was asked for
artifacts/.needed/NAME-KEY/corpus-2f1c... one empty file for each artifact
"""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stillroom.files import fingerprint, read_json_object, write_json
from stillroom.types import UserError

NEEDED, USER = ".needed", "user.json"


@dataclass(frozen=True)
class Needs:
    """The marks of one user of a folder of artifacts."""

    folder: Path
    name: str
    user: Path | None
    """Its folder; None where it is not known yet."""

    @classmethod
    def of_run(cls, artifacts: Path, run: Path) -> Self:
        """Those of a run folder."""
        key = fingerprint(str(run.absolute()), 8)
        return cls(artifacts / NEEDED / f"{run.name}-{key}", run.name, run)

    @classmethod
    def of_training(cls, artifacts: Path, name: str, key: str) -> Self:
        """Those of one model that is trained by itself; its folder is told by ``settle``."""
        return cls(artifacts / NEEDED / f"{name}-{key}", name, None)

    def mark(self, artifact: str) -> None:
        """Says that an artifact is needed, there or not yet."""
        if int(os.environ.get("RANK", "0")) > 0:
            return
        if not self._is_told():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(self.user)
        if not (self.folder / artifact).exists():
            (self.folder / artifact).touch()

    def settle(self, user: Path) -> None:
        """Says whose the marks are, once that is known."""
        if self.folder.is_dir():
            self._write(user)

    def take_back(self, artifact: str) -> None:
        """Forgets a mark after a mistake; leaves no empty folder."""
        with contextlib.suppress(OSError):
            (self.folder / artifact).unlink()
            if [entry.name for entry in self.folder.iterdir()] == [USER]:
                (self.folder / USER).unlink()
                self.folder.rmdir()
                self.folder.parent.rmdir()

    def _is_told(self) -> bool:
        """Whether it can be read here whose the marks are."""
        try:
            values: dict[str, Any] = read_json_object(self.folder / USER)
        except UserError:
            return False
        return values.get("name") == self.name and (self.user is None or values == self._said(self.user))

    def _write(self, user: Path | None) -> None:
        write_json(self.folder / USER, self._said(user))

    def _said(self, user: Path | None) -> dict[str, Any]:
        """Where the user is, free of links: from the artifacts, by itself, and on which disk of which machine."""
        if user is None:
            return {"name": self.name, "folder": None}
        place = os.path.realpath(user)
        folder = os.path.relpath(place, os.path.realpath(self.folder.parents[1]))
        return {"name": self.name, "folder": folder, "at": place, "disk": disk_of(Path(place).parent)}


def disk_of(folder: Path) -> str:
    """The machine and the disk that a folder is on, or will be: that of what is there above it."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return f"{platform.node()}:{there.stat().st_dev}"
