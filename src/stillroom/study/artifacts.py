"""Folders named by what determines them: built once, shared by every arm that needs them, continued after a kill.

A finished one carries checksums. One that is damaged is made again by whoever asks for it, since its name says how.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import stillroom
from stillroom import checksums, disk
from stillroom.checksums import Damage, hash_of
from stillroom.files import disk_errors, fingerprint, json_text, read_json_object, write_json
from stillroom.stores import FarFolder, address_of, published
from stillroom.study.identities import MADE_BY, VERSIONS, Identity, Mismatch, mismatches, source_hash
from stillroom.study.needs import Needs
from stillroom.types import UserError

logger = logging.getLogger(__name__)

Keep = Callable[[Path, list[str]], bool]
"""Removes from a folder, whose damaged files are named and gone, what hangs on them; says whether the rest can stay."""
_WORK = ("checkpoints/step-*", "suite-*", "labels/shards/*.bin", "labels/codebook.bin", "corpus", ".corpus.unfinished")
"""What an unfinished folder holds when there is something in it to go on with."""


@dataclass(frozen=True)
class Artifact:
    """A finished folder, the hash in its name, whether it was there already, and what of it was damaged."""

    path: Path
    key: str
    reused: bool
    mended: tuple[Damage, ...] = ()

    @property
    def is_sealed(self) -> bool:
        """Whether it carries checksums; earlier versions wrote none."""
        return checksums.is_sealed(self.path)


@dataclass(frozen=True)
class StoredLabels:
    """A label store to learn from: its path or URL, and the hash of what it holds."""

    store: str
    key: str
    artifact: Path | None = None
    """The artifact that it lies in; None for one that was named by hand."""


@dataclass(frozen=True)
class ArtifactStore:
    """A folder of artifacts: ``<kind>-<hash of the identity>``.

    Where it is the home of an address, each is looked for there too and published there when it is made.
    """

    root: Path
    needs: Needs | None = None
    """Marks what is used here as needed, so that it is kept."""

    def mark(self, name: str) -> None:
        """Says that an artifact is needed by whoever uses this store."""
        if self.needs is not None:
            with disk_errors(self.root):
                self.needs.mark(name)

    def mark_owner(self, part: str | Path) -> None:
        """Marks the artifact that a part which was given by its place is of, where it is one of this store's."""
        artifact = Path(part).resolve().parent
        if artifact.parent == self.root.resolve():
            self.mark(artifact.name)

    def locate(self, kind: str, identity: Identity) -> tuple[Path, str]:
        """Where an artifact is or will be, and its hash."""
        key = fingerprint(identity)
        return self.root / f"{kind}-{key}", key

    def nearest(self, kind: str, identity: Identity) -> tuple[Path, list[Mismatch]] | None:
        """The finished artifact that has most in common with a wanted one, and in what it differs; versions last."""
        wanted, found = json.loads(json_text(identity)), []
        for folder in sorted(self.root.glob(f"{kind}-*")):
            with contextlib.suppress(UserError):  # one that cannot be read is like nothing
                found.append((folder, list(mismatches(identity_of(folder), wanted))))
        return min(found, key=lambda one: sum(not self._is_version(each) for each in one[1]), default=None)

    def _is_version(self, difference: Mismatch) -> bool:
        """Whether no more differs than a version: this artifact's own, or that of an input that is there twice."""
        if difference.field in VERSIONS:
            return True
        found, wanted = self._by_key(difference.found), self._by_key(difference.wanted)
        if found is None or wanted is None or found == wanted:
            return False
        return all(map(self._is_version, mismatches(identity_of(found), identity_of(wanted))))

    def _by_key(self, key: object) -> Path | None:
        """The finished artifact whose name ends in a hash."""
        is_hash = isinstance(key, str) and key.isalnum()
        found = self.root.glob(f"[a-z]*-{key}/identity.json") if is_hash else ()
        return next((file.parent for file in found), None)

    def older(self, kind: str, identity: Identity) -> str | None:
        """What to say of an artifact that another version of results made, while this one's is not there."""
        if disk.is_finished(self.locate(kind, identity)[0]):
            return None
        nearest = self.nearest(kind, identity)
        if nearest is None or not all(map(self._is_version, nearest[1])):
            return None
        return f"{nearest[0].name}: {_version_made(nearest[0], identity)}; kept; made again under a new name"

    def find(self, kind: str, identity: Identity) -> Artifact | None:
        """The artifact, every byte of it checked; None where it is not there, or not as it was written."""
        target, key = self.locate(kind, identity)
        far = self._far(target.name)
        if far is not None and not _is_whole(target, key):
            with disk_errors(target):
                far.mend(target) if disk.is_finished(target) else far.pull(target)
        if disk.is_finished(target):
            self.mark(target.name)
        is_there = _is_whole(target, key) and (far is None or far.mark() is not None)
        return Artifact(target, key, reused=True) if is_there else None

    def _far(self, name: str) -> FarFolder | None:
        """An artifact at the address that this folder is the home of; None where it is none, and for later ranks."""
        address = address_of(self.root)
        return None if address is None or _rank() > 0 else FarFolder(f"{address}/{name}")

    def place(self, name: str, file: str = "") -> str | None:
        """Where an artifact is finished and has a file: here, else at the address; None where it is not there."""
        if disk.is_finished(self.root / name) and (self.root / name / file).exists():
            return str(self.root / name)
        far = self._far(name)
        return None if far is None or far.mark() is None else far.url

    def build(
        self,
        kind: str,
        identity: Identity,
        make: Callable[[Path], None],
        *,
        together: bool = False,
        keep: Keep | None = None,
        say: Callable[[Sequence[Damage]], None] = lambda damage: None,
    ) -> Artifact:
        """The artifact, made by ``make(work_folder)`` where it is not there yet or is damaged.

        The work folder survives a kill and is handed to ``make`` again; it takes its final name when ``make`` returns.
        Of two processes that want the same artifact the second waits and finds it made. Of the ranks that ``torchrun``
        started, the first builds and the others wait, or take part in ``make`` where it is work that ranks do
        ``together``. ``say`` hears what is damaged; with ``keep`` what is whole may stay, and ``make`` gets it as it
        gets what a kill left.
        """
        target, key = self.locate(kind, identity)
        before = _state(target)
        found = self.find(kind, identity)
        if found is not None:
            return found
        if _rank() > 0:
            _take_part(_work(target), target, before, make if together else None)
            return Artifact(target, key, reused=False)
        try:
            with disk_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            self.mark(target.name)
            far = self._far(target.name)
            with (
                disk_errors(target),
                _turn(self.root / f".{target.name}.lock"),
                published(target, far and far.url, _work(target)),
            ):
                return self._built(target, key, identity, make, keep, say)
        except UserError:
            if self.needs is not None and not target.exists() and not _work(target).exists():
                self.needs.take_back(target.name)
            for empty in (self.root, self.root.parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()
            raise

    def _built(
        self,
        target: Path,
        key: str,
        identity: Identity,
        make: Callable[[Path], None],
        keep: Keep | None,
        say: Callable[[Sequence[Damage]], None],
    ) -> Artifact:
        """What ``build`` does while no other process builds the same."""
        work, aside = _work(target), self.root / f".{target.name}.damaged"
        damage = _damage(target, key) if disk.is_finished(target) else []
        if disk.is_finished(target) and not damage:
            return Artifact(target, key, reused=True)
        if damage:
            say(damage)
            shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(aside, ignore_errors=True)
            disk.publish(target, work if keep is not None else aside)
        work.mkdir(exist_ok=True)
        if checksums.is_sealed(work):
            _keep_what_is_whole(work, identity, keep, aside)
        try:
            make(work)
        except UserError:
            _leave_nothing_of(work)
            raise
        write_json(work / "identity.json", _with_maker(identity))
        checksums.seal(work)
        disk.publish(work, target)
        shutil.rmtree(aside, ignore_errors=True)
        return Artifact(target, key, reused=False, mended=tuple(damage))


def identity_of(folder: Path) -> Identity:
    """What determines a finished artifact, by its ``identity.json``."""
    return {name: value for name, value in read_json_object(folder / "identity.json").items() if name != MADE_BY}


def _version_made(folder: Path, identity: Identity) -> str:
    """Which version of results an artifact has, and which is made now."""
    found = identity_of(folder)
    made, now = (one.get("results_version", 1) for one in (found, identity))
    if "code" in found:
        return f"made before results had versions, this is version {now}"
    return f"made by results version {made}, this is {now}" if made != now else "made of inputs of another version"


def _with_maker(identity: Identity) -> Identity:
    return {**identity, MADE_BY: {"stillroom": stillroom.__version__, "source": source_hash()}}


def _work(target: Path) -> Path:
    """Where an artifact is made."""
    return target.with_name(f".{target.name}.unfinished")


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _is_whole(folder: Path, key: str) -> bool:
    return disk.is_finished(folder) and not _damage(folder, key)


def _damage(folder: Path, key: str) -> list[Damage]:
    """What is damaged in an artifact; that it is another one's is damage too."""
    found = checksums.check(folder)
    if not found and checksums.is_sealed(folder) and fingerprint(identity_of(folder)) != key:
        return [Damage(folder, "identity.json", "it is that of another folder")]
    return found


def _keep_what_is_whole(work: Path, identity: Identity, keep: Keep | None, aside: Path) -> None:
    """Takes what is damaged, and what hangs on it, out of a folder that was finished once; all of it where it must."""
    names = [damage.name for damage in checksums.check(work)]
    if "identity.json" in names:  # what its bytes were is known if the same source wrote them
        is_same = checksums.sealed_hash(work, "identity.json") == hash_of(json_text(_with_maker(identity)).encode())
    else:
        is_same = fingerprint(identity_of(work)) == fingerprint(identity)
    for name in {*names, checksums.NAME, "identity.json"}:
        (work / name).unlink(missing_ok=True)
    if not (is_same and keep is not None and keep(work, names)):
        disk.publish(work, aside)
        work.mkdir(exist_ok=True)


def _take_part(work: Path, target: Path, before: tuple[int, int] | None, make: Callable[[Path], None] | None) -> None:
    """What ranks but the first do while it builds; should it fail, ``torchrun`` ends every rank."""

    def is_made() -> bool:
        return disk.is_finished(target) and _state(target) != before

    while make is not None and not work.is_dir() and not is_made():
        time.sleep(0.1)
    if make is not None and work.is_dir():
        make(work)
    while not is_made():
        time.sleep(0.1)


def _state(folder: Path) -> tuple[int, int] | None:
    """What tells a folder that was made again from the one before it."""
    with contextlib.suppress(OSError):
        found = (folder / checksums.NAME).stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _leave_nothing_of(work: Path) -> None:
    """A mistake leaves nothing behind; work that can be gone on with stays."""
    if not any(any(work.glob(pattern)) for pattern in _WORK):
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Holds the claim to make an artifact, and waits for it while another process makes that; see ``disk.held``."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(disk.held(path))
        except disk.Busy:
            name = path.name.strip(".").removesuffix(".lock")
            logger.warning("%s: another process is making %s now, which is waited for", path.parent, name)
            stack.enter_context(disk.held(path, patience=math.inf))
        yield
