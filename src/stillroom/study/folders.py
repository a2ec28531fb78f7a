"""Run folders: claimed by a configuration, sealed when they are complete, left as they were by a mistake."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from stillroom import checksums, disk
from stillroom.checksums import Damage, hash_of
from stillroom.files import disk_errors, read_bytes, write_bytes
from stillroom.types import UserError

CONFIG = "config.yaml"
Keep = Callable[[Path, list[str]], bool]
"""As in ``artifacts``: takes what hangs on damaged files, which are gone already, out of a folder."""


def check_run_folder(folder: Path, text: str, made: str = "by another configuration") -> None:
    """Refuses a folder that another configuration made, or that is no run folder. Writes nothing.

    ``text`` is the resolved configuration. A ``config.yaml`` that was this text when the run was sealed is damaged, and
    is written anew by ``claimed``; one that was another text then was changed since.
    """
    existing, wanted = folder / CONFIG, text.encode()
    with disk_errors(folder):
        found = read_bytes(existing) if existing.exists() else None
        is_strange = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    sealed = checksums.sealed_hash(folder, CONFIG)
    if sealed == hash_of(wanted) or (found == wanted and sealed is None):
        return
    if found == wanted:
        raise UserError(
            f"{existing}: was changed after the run that it belongs to; save the changed one elsewhere, run that, and "
            "leave this folder to its own run."
        )
    if found is not None:
        raise UserError(
            f"{folder}: was made {made} (its config.yaml differs from this one); choose another "
            "--out or run that config.yaml."
        )
    if is_strange:
        raise UserError(f"{folder}: exists and is no run folder; choose another --out, nothing there was touched.")


@contextlib.contextmanager
def claimed(folder: Path, text: str) -> Iterator[None]:
    """Writes the configuration into the run folder; a mistake in the block takes it away again where it was not there.

    What a run had written before stays.
    """
    path = folder / CONFIG
    is_new = not path.exists()
    if is_new or read_bytes(path) != text.encode():
        write_bytes(path, text.encode())
    try:
        yield
    except UserError:
        if is_new and [entry.name for entry in folder.iterdir()] == [CONFIG]:
            path.unlink()
            for empty in (folder, folder.parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()
        raise


@contextlib.contextmanager
def written(folder: Path, text: str, names: Iterable[str]) -> Iterator[None]:
    """The block writes the files of a run; then those of ``names`` that are there get checksums. One at a time.

    Another process that began the same run and could not go on may have taken the folder away again meanwhile.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with disk.held(folder / ".writing", patience=600.0):
            if not (folder / CONFIG).exists():
                write_bytes(folder / CONFIG, text.encode())
            yield
            checksums.seal(folder, [name for name in (CONFIG, *names) if (folder / name).is_file()])


def damage_of(folder: Path) -> list[Damage]:
    """What of a run folder is not as it was written; the run that is complete again writes it anew."""
    return checksums.check(folder) if folder.is_dir() else []


@contextlib.contextmanager
def alone(folder: Path, doing: str) -> Iterator[None]:
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
