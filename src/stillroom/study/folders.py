"""Run folders: claimed by a configuration, sealed when they are complete, left as they were by a mistake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from stillroom import checksums, disk
from stillroom.checksums import Damage, hash_of
from stillroom.files import disk_errors, read_bytes, write_bytes
from stillroom.types import UserError

CONFIG = "config.yaml"


def check_run_folder(folder: Path, text: str) -> None:
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
            f"{folder}: was made by another configuration (its config.yaml differs from this one); choose another "
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
def written(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """The block writes the files of a run; then those of ``names`` that are there get checksums. One at a time."""
    with disk_errors(folder), disk.held(folder / ".writing", patience=600.0):
        yield
        checksums.seal(folder, [name for name in (CONFIG, *names) if (folder / name).is_file()])


def damage_of(folder: Path) -> list[Damage]:
    """What of a run folder is not as it was written; the run that is complete again writes it anew."""
    return checksums.check(folder) if folder.is_dir() else []
