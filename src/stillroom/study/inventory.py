"""What lies in a folder of runs: runs, artifacts, what they take, who needs what; and what nothing needs, removed.

An artifact is removed only if all who ever asked for it are known by their marks and gone, and nothing that is there
names it. Runs under way are marked before they look for anything; what earlier versions made has no marks and stays.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stillroom import disk
from stillroom.files import disk_errors, fingerprint, read_json_object, reading
from stillroom.study.artifacts import identity_of
from stillroom.study.needs import NEEDED, USER, disk_of
from stillroom.study.stage_jobs import StageJobs
from stillroom.types import UserError

_NAME = re.compile(r"[a-z][a-z-]*-([0-9a-f]{16})")
_LEFT = re.compile(rf"\.({_NAME.pattern})\.(?:unfinished|damaged|pruned)")
_KEY = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
_MARKS = {
    "study.json": "study",
    "sandbox.json": "sandbox",
    "ranking.json": "ranking",
    "tuning.json": "tuned teacher",
    "manifest.json": "labels",
    "corpus.json": "corpus",
    "comparison.json": "evaluations",
    "evaluation.json": "evaluation",
    "law.json": "law",
    "config.yaml": "under way",
}
"""The file that tells what a folder is, the first that is there."""
_TEXTS, _DEPTH = (".json", ".yaml"), 5
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class FoundRun:
    """A folder that artifacts may be needed by: a run, or anything else that names what it was made of."""

    folder: Path
    what: str

    @cached_property
    def keys(self) -> frozenset[str]:
        """Every hash that its files and links name."""
        return frozenset(key for text in self._texts() for key in _KEY.findall(text))

    @property
    def tells_all(self) -> bool:
        """Whether its own record names every artifact that it was made of."""
        if self.what == "under way":
            return False
        if self.what not in ("study", "sandbox"):
            return True
        record: dict[str, Any] = read_json_object(self.folder / f"{self.what}.json")
        places = record.get("places") or {}
        if self.what == "sandbox":
            return bool(places)
        return bool(places.get("evaluations")) and (record.get("labels") is None or bool(places.get("labels")))

    def _texts(self) -> Iterator[str]:
        for entry in sorted(self.folder.iterdir()):
            if entry.suffix in _TEXTS and entry.is_file() and entry.stat().st_size < _MOST_BYTES:
                yield entry.read_text(errors="replace")
        for link in (self.folder / "corpus", self.folder / "labels", *self.folder.glob("models/*/model")):
            if link.is_symlink():
                yield os.readlink(link)


@dataclass(frozen=True)
class User:
    """One who asked for artifacts, by its marks; ``is_gone`` once its folder was taken away."""

    name: str
    marks: frozenset[str]
    is_gone: bool
    place: Path
    folder: Path | None = None


@dataclass(frozen=True)
class FoundArtifact:
    """An artifact, finished or not, and by whom it is needed; ``is_known`` where that can be told."""

    folder: Path
    name: str
    bytes: int
    needed_by: tuple[str, ...]
    is_known: bool

    @property
    def is_needless(self) -> bool:
        """Whether nothing needs it."""
        return self.is_known and not self.needed_by


@dataclass(frozen=True)
class Inventory:
    """Everything that was found in a folder."""

    folder: Path
    runs: tuple[FoundRun, ...]
    artifacts: tuple[FoundArtifact, ...]
    users: tuple[User, ...] = field(default=())

    @property
    def without_record(self) -> list[FoundRun]:
        """Runs of which nothing says all that they need: of earlier versions, or moved while they were under way."""
        marked = {user.folder for user in self.users}
        begun = {run for run in self.runs if run.what == "under way" and run.folder.resolve() in marked}
        return [run for run in self.runs if run not in begun and not run.tells_all]


def take_inventory(folder: Path) -> Inventory:
    """What lies in a folder; reads names, marks and the small files of runs."""
    with reading(folder, "a folder of runs"):
        os.listdir(folder)
    runs, stores = [], []
    for place, what in _walk(folder, _DEPTH):
        (stores if what == "artifacts" else runs).append((place, what))
    found = tuple(FoundRun(place, what) for place, what in runs)
    users = tuple(user for store, _ in stores for user in _users(store))
    needers = (*found, *_far_away(users, found))
    artifacts = tuple(one for store, _ in stores for one in _artifacts(store, users, needers))
    return Inventory(folder, found, artifacts, users)


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """Folders that are something, from the outermost; links are not followed, nor is what is inside a run looked at."""
    what = _what(folder)
    if what is not None:
        yield folder, what
    if what in (None, "evaluations", "artifacts") and depth:
        for entry in sorted(folder.iterdir()):
            is_own = what == "artifacts" and _NAME.fullmatch(entry.name)
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith(".") and not is_own:
                with contextlib.suppress(PermissionError):
                    yield from _walk(entry, depth - 1)


def _what(folder: Path) -> str | None:
    names = os.listdir(folder)
    if NEEDED in names or any(_NAME.fullmatch(name) and (folder / name / "identity.json").is_file() for name in names):
        return "artifacts"
    return next((what for mark, what in _MARKS.items() if mark in names), None)


def _users(store: Path) -> Iterator[User]:
    for place in sorted((store / NEEDED).glob("*")):
        if not place.is_dir():
            continue
        marks = frozenset(entry.name for entry in place.iterdir()) - {USER}
        name, folder, is_gone = place.name, None, False
        with contextlib.suppress(UserError, TypeError, KeyError):  # whose cannot be read is taken to be there
            values: dict[str, Any] = read_json_object(place / USER)
            name = str(values["name"])
            if values.get("folder") is not None:
                folder = (store / values["folder"]).resolve()
                is_gone = not _is_there(folder) and not _is_there(Path(values["at"])) if "at" in values else False
                is_gone = is_gone and values.get("disk") == disk_of(folder.parent)  # else it cannot be seen from here
        yield User(name, marks, is_gone, place, folder)


def _is_there(folder: Path) -> bool:
    """Whether a user's folder is there, or begun, or cannot be seen from here, as what lies above it is gone too."""
    begun = folder.with_name(f".{folder.name}.unfinished")
    return folder.exists() or begun.exists() or not folder.parent.exists()


def _far_away(users: tuple[User, ...], near: tuple[FoundRun, ...]) -> Iterator[FoundRun]:
    """Runs in other folders that use artifacts of this one."""
    known = {run.folder.resolve() for run in near}
    for user in users:
        if user.folder is not None and user.folder.is_dir() and user.folder not in known:
            yield FoundRun(user.folder, _what(user.folder) or "run")


def _artifacts(store: Path, users: tuple[User, ...], runs: tuple[FoundRun, ...]) -> Iterator[FoundArtifact]:
    for entry in sorted(store.iterdir()):
        left = _LEFT.fullmatch(entry.name)
        name = left[1] if left else entry.name
        match = _NAME.fullmatch(name)
        if match is None or entry.is_symlink() or not entry.is_dir():
            continue
        own = [user for user in users if user.place.parents[1] == store and name in user.marks]
        needed = {user.name for user in own if not user.is_gone}
        needed |= {str(run.folder) for run in runs if match[1] in run.keys and run.folder.name not in needed}
        is_ours = left is not None or _is_as_named(entry, match[1])
        yield FoundArtifact(entry, name, size_of_folder(entry), tuple(sorted(needed)), bool(own) and is_ours)


def _is_as_named(folder: Path, key: str) -> bool:
    """Whether a folder is the artifact that its name says, and not something of the user's."""
    with contextlib.suppress(UserError):
        return fingerprint(identity_of(folder)) == key
    return False


def size_of_folder(folder: Path) -> int:
    """Bytes of all files in a folder and below; links are not followed."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def prune(found: Inventory) -> list[FoundArtifact]:
    """Removes the artifacts that nothing needs, and the marks of those who are gone; returns what was removed.

    Raises:
        UserError: nothing says all that one of the runs needs, so that nothing is removed.
    """
    refuse_unknown(found)
    removed = [one for one in found.artifacts if one.is_needless and _remove(one, found)]
    for store in {user.place.parents[1] for user in found.users}:
        for user in _users(store):  # as they are now: one may have begun anew
            if user.is_gone and not any((store / mark).exists() for mark in user.marks):
                _forget(user)
    return removed


def _forget(user: User) -> None:
    """Takes away the marks of one who is gone; those that it makes meanwhile stay."""
    with contextlib.suppress(OSError):
        for name in (*user.marks, USER):
            (user.place / name).unlink(missing_ok=True)
        user.place.rmdir()


def refuse_unknown(found: Inventory) -> None:
    """Raises the ``UserError`` of ``prune``."""
    if found.without_record:
        raise UserError(
            f"{found.without_record[0].folder}: is a run of an earlier version, or was moved while it was under way, "
            "and does not say all that it needs, so nothing is removed; run its command again, which writes that down, "
            "or take its folder away."
        )


def _remove(one: FoundArtifact, found: Inventory) -> bool:
    """Removes an artifact unless somebody is making it, or has asked for it meanwhile."""
    store, aside = one.folder.parent, one.folder.with_name(f".{one.name}.pruned")
    with disk_errors(one.folder), contextlib.suppress(disk.Busy), disk.held(store / f".{one.name}.lock"):
        if one.folder != aside:
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(one.folder, aside)
        if any(not user.is_gone and one.name in user.marks for user in _users(store)):
            if not one.folder.exists():
                os.rename(aside, one.folder)
            return False
        shutil.rmtree(aside)
        StageJobs.of(store).forget(one.name)
        return True
    return False
