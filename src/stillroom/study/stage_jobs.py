"""What is written down of the jobs that make artifacts, for whoever asks for the same: which they are, how they ended.

artifacts/.jobs/model-2f1c.json          the job that makes it, and where its log is
artifacts/.jobs/model-2f1c.ended.json    how that ended; missing as long as it goes on, or where it was lost
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stillroom import disk
from stillroom.files import disk_errors
from stillroom.results.json_form import read, sometimes, write
from stillroom.results.schema import StageRecord

FOLDER = ".jobs"


@dataclass(frozen=True, kw_only=True)
class StageJob:
    """The job that makes an artifact."""

    on: str
    name: str
    """By which the scheduler knows it."""
    log: str
    cancelled: bool = sometimes(False)


@dataclass(frozen=True, kw_only=True)
class StageEnd:
    """How a job ended by itself."""

    mistake: str | None = sometimes(None)
    """A sentence; None where it made its artifact."""
    record: StageRecord | None = sometimes(None)
    """What the stage took."""


@dataclass(frozen=True)
class StageJobs:
    """The jobs of one folder of artifacts, by the names of these."""

    root: Path

    @classmethod
    def of(cls, artifacts: Path) -> StageJobs:
        """Those that make the artifacts of this folder."""
        return cls(artifacts / FOLDER)

    def find(self, artifact: str) -> StageJob | None:
        """The last job that was started for an artifact."""
        file = self.root / f"{artifact}.json"
        return read(StageJob, file) if file.is_file() else None

    def note(self, artifact: str, job: StageJob) -> None:
        """Keeps the job of an artifact."""
        write(self.root / f"{artifact}.json", job)

    def forget(self, artifact: str) -> None:
        """Takes away what is known of a job that is over."""
        for file in (f"{artifact}.json", f"{artifact}.ended.json"):
            (self.root / file).unlink(missing_ok=True)

    def end(self, artifact: str, end: StageEnd) -> None:
        """Keeps how the job of an artifact ended."""
        write(self.root / f"{artifact}.ended.json", end)

    def ended(self, artifact: str) -> StageEnd | None:
        """How the job of an artifact ended, where that is known."""
        file = self.root / f"{artifact}.ended.json"
        return read(StageEnd, file) if file.is_file() else None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The block alone starts jobs for these artifacts, among all that share the folder."""
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with disk.held(self.root / ".lock", patience=600.0):
                yield
