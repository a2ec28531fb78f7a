"""Goes through every byte of a finished folder and of all that it names: what ``stillroom inspect --verify`` does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stillroom import checksums
from stillroom.files import read_json_object
from stillroom.labels import LabelStore
from stillroom.training.checkpoint import Checkpoints, is_checkpoint
from stillroom.types import UserError, printable

_UNKNOWN = "without checksums"


@dataclass(frozen=True)
class Checked:
    """One folder and what was found: the number of files whose checksums hold, and what is wrong."""

    folder: Path
    what: str
    files: int
    faults: tuple[str, ...] = ()


def verify(path: Path) -> list[Checked]:
    """Checks a run with everything that it was made of, or any folder with the finished ones in it or around it."""
    found: list[Checked] = []
    seen: set[Path] = set()
    for place in (path, *_places(path)):
        if place.resolve() not in seen:
            found += _verified(place, seen)
    if all(one.what == _UNKNOWN for one in found):
        raise UserError(
            f"{path}: carries no checksums, nor does anything in it or around it; it was made by an earlier version or "
            "is not of stillroom's making, so nothing can be verified."
        )
    return found


def print_verified(path: Path, console: Console) -> None:
    """Prints what ``verify`` finds; a ``UserError`` names what is damaged."""
    found = verify(path)
    table = Table(title_justify="left")
    for heading in ("folder", "checked", "files", "state"):
        table.add_column(heading, justify="right" if heading == "files" else "left", overflow="fold")
    for one in found:
        known = Text("not known", "yellow") if one.what == _UNKNOWN else Text("whole", "green")
        state = Text("\n".join(map(printable, one.faults)), "red") if one.faults else known
        table.add_row(Text(printable(one.folder)), one.what, str(one.files) if one.files else "", state)
    console.print(table)
    faults = [fault for one in found for fault in one.faults]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(
            f"{path}: is damaged: {'; '.join(faults[:3])}{more}; run the command that made it again, which finds what "
            "is damaged and makes it anew."
        )


def _places(path: Path) -> Iterator[Path]:
    """The folders that a run's own record names."""
    for name in ("study.json", "sandbox.json"):
        if (path / name).is_file() and not any(damage.name == name for damage in checksums.check(path)):
            record: dict[str, Any] = read_json_object(path / name)
            places = record.get("places") or {}
            for value in places.values():
                inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
                yield from (Path(os.path.normpath(path / one)) for one in inner if one)


def _verified(place: Path, seen: set[Path]) -> Iterator[Checked]:
    if not place.exists():
        yield Checked(place, "folder", 0, (f"{place} is named by the run and not there",))
        return
    folders = sorted({*_around(place), *_inside(place)})
    if not folders:
        yield Checked(place, _UNKNOWN, 0)
    for folder in folders:
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        if checksums.is_sealed(folder):
            faults = tuple(map(str, checksums.check(folder)))
            yield Checked(folder, "checksums", len(checksums.sealed_names(folder)) - len(faults), faults)
        if (folder / "manifest.json").is_file():
            yield _store(folder)
        if is_checkpoint(folder):
            faults = () if Checkpoints(folder.parent).is_whole(folder) else (f"{folder} is damaged",)
            yield Checked(folder, "checkpoint", 0, faults)


def _around(place: Path) -> Iterator[Path]:
    """The folders whose checksums tell of a place, from the outermost."""
    whole = place.resolve()
    inner = checksums.sealed_folder(whole)
    outer = None if inner is None or inner == inner.parent else checksums.sealed_folder_above(inner)
    yield from (folder for folder in (outer, inner) if folder is not None)


def _inside(place: Path) -> Iterator[Path]:
    """Finished folders in a folder, itself among them: those with checksums, label stores and checkpoints."""
    if not place.is_dir():
        return
    for where, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.endswith(".damaged"))
        if checksums.NAME in files or "manifest.json" in files or is_checkpoint(Path(where)):
            yield Path(where)


def _store(folder: Path) -> Checked:
    """A label store, record by record."""
    try:
        return Checked(folder, "label store", sum(1 for _ in LabelStore.open(folder).verify()))
    except UserError as error:
        return Checked(folder, "label store", 0, (str(error),))
