"""Run folders: claimed by a configuration, sealed when they are complete, left as they were by a mistake."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stillroom import checksums, disk
from stillroom.checksums import Damage, hash_of
from stillroom.config import Strict, to_yaml
from stillroom.files import disk_errors, read_bytes, write_bytes
from stillroom.places import PLACES
from stillroom.stores import address_of, published
from stillroom.types import UserError

CONFIG, LOGS = "config.yaml", "logs"
Keep = Callable[[Path, list[str]], bool]
"""As in ``artifacts``: takes what hangs on damaged files, which are gone already, out of a folder."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, claimed by its resolved configuration, ``text``, in ``config.yaml``."""

    path: Path
    text: str

    @classmethod
    def of(cls, config: Strict, kind: str, name: str, out: Path | None, made: str = "by another configuration") -> Self:
        """The folder ``out``, or ``runs/NAME-FINGERPRINT``; refuses one that is not this run's. Writes nothing.

        A ``config.yaml`` that was this configuration when the run was sealed is damaged, and is written anew by
        ``claimed``; one that was another one then was changed since.
        """
        folder = cls(out or Path("runs") / f"{name}-{config.fingerprint()[:8]}", to_yaml(config, kind))
        folder._check(made)
        return folder

    @property
    def artifacts(self) -> Path:
        """Where artifacts lie that runs share, unless another folder is named."""
        return self.path.parent / "artifacts"

    def _check(self, made: str) -> None:
        existing, wanted = self.path / CONFIG, self.text.encode()
        with disk_errors(self.path):
            found = read_bytes(existing) if existing.exists() else None
            is_strange = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        sealed = checksums.sealed_hash(self.path, CONFIG)
        if sealed == hash_of(wanted) or (found == wanted and sealed is None):
            return
        if found == wanted:
            raise UserError(
                f"{existing}: was changed after the run that it belongs to; save the changed one elsewhere, run that, "
                "and leave this folder to its own run."
            )
        if found is not None:
            raise UserError(
                f"{self.path}: was made {made} (its config.yaml differs from this one); choose another "
                "--out or run that config.yaml."
            )
        if is_strange:
            raise UserError(
                f"{self.path}: exists and is no run folder; choose another --out, nothing there was touched."
            )

    @contextlib.contextmanager
    def claimed(self, say: Callable[[str, Sequence[Damage]], None], keeps_logs: bool = False) -> Iterator[None]:
        """Writes the configuration; a mistake in the block takes it away again where it was not there.

        What a run had written before stays; ``say`` hears what of it is damaged, which is written anew. With
        ``keeps_logs`` a run that has logs stays: they tell of the mistake.
        """
        if damage := damage_of(self.path):
            say("run folder", damage)
        path = self.path / CONFIG
        is_new = not path.exists()
        if is_new or read_bytes(path) != self.text.encode():
            write_bytes(path, self.text.encode())
        try:
            yield
        except UserError:
            removed = {CONFIG, PLACES} if keeps_logs else {CONFIG, PLACES, LOGS}
            if is_new and {entry.name for entry in self.path.iterdir()} <= removed:
                path.unlink()
                shutil.rmtree(self.path / LOGS, ignore_errors=True)
                (self.path / PLACES).unlink(missing_ok=True)
                for empty in (self.path, self.path.parent):
                    with contextlib.suppress(OSError):
                        empty.rmdir()
            raise

    @contextlib.contextmanager
    def written(self, names: Iterable[str]) -> Iterator[None]:
        """The block writes a run's files; then those of ``names`` that are there get checksums. One at a time.

        Another process that began the same run and could not go on may have taken the folder away again meanwhile.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with disk.held(self.path / ".writing", patience=600.0):
                if not (self.path / CONFIG).exists():
                    write_bytes(self.path / CONFIG, self.text.encode())
                yield
                checksums.seal(self.path, [name for name in (CONFIG, *names) if (self.path / name).is_file()])


def damage_of(folder: Path) -> list[Damage]:
    """What of a run folder is not as it was written; the run that is complete again writes it anew."""
    return checksums.check(folder) if folder.is_dir() else []


@contextlib.contextmanager
def kept_at_address(folder: Path, work: Path | None = None) -> Iterator[None]:
    """The block makes a folder, which is then published where it is the home of an address; see ``stores``."""
    address = address_of(folder)
    if address is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"--out {address}: ranks of torchrun need a folder that all of them see; name one.")
    with held_alone(folder, "writing") if address else contextlib.nullcontext(), published(folder, address, work):
        yield


@contextlib.contextmanager
def held_alone(folder: Path, doing: str) -> Iterator[None]:
    """The block is the only one that works into a folder, on all machines that share it; others are told to wait."""
    with contextlib.ExitStack() as stack:
        with disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(disk.held(folder.with_name(f".{folder.name}.lock")))
            except disk.Busy:
                raise UserError(
                    f"{folder}: another process is {doing} into it now; wait for it, then run the same command again."
                ) from None
        yield


def set_damage_aside(folder: Path, keep: Keep, say: Callable[[Sequence[Damage]], None]) -> list[Damage]:
    """Takes damaged files, and what ``keep`` takes with them, out of a folder of parts, so that they are made again.

    The folder is the user's to name, so nothing damaged is deleted: it stays beside as ``.NAME.damaged``.
    """
    damage = damage_of(folder)
    if not damage:
        return []
    say(damage)
    with disk_errors(folder):
        for one in damage:
            if one.file.exists():
                disk.replace(one.file, one.file.with_name(f".{one.file.name}.damaged"))
        keep(folder, [one.name for one in damage])
        (folder / checksums.NAME).unlink(missing_ok=True)
    return damage


@contextlib.contextmanager
def parts(folder: Path, keep: Keep, say: Callable[[Sequence[Damage]], None]) -> Iterator[None]:
    """The block adds to a folder of parts what is not there yet; then it is sealed. A mistake leaves none empty."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        set_damage_aside(folder, keep, say)
        yield
        checksums.seal(folder)
    except UserError:
        for empty in (folder, *list(folder.parents)[:2]):
            with contextlib.suppress(OSError):
                empty.rmdir()
        raise
