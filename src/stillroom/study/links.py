"""The names of a run's parts in its folder: a record while it is under way, links to the artifacts when it is complete.

corpus  labels  models/dpt90/model    where links are refused, corpus.path and so on hold the place as text
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stillroom.files import write_text
from stillroom.places import PLACES
from stillroom.results.json_form import write
from stillroom.results.schema import Places
from stillroom.training.distributed import launched_rank


@dataclass
class NotedPlaces:
    """Writes down where the parts of a run under way lie, or will; nothing of no run, whose ``folder`` is None."""

    folder: Path | None = None
    places: Places = field(default_factory=Places)

    def note(
        self, *, corpus: str | None = None, labels: str | None = None, models: Mapping[str, Path] | None = None
    ) -> None:
        """Adds parts; a process of its own may read the file at any time."""
        if self.folder is None or launched_rank() > 0:
            return
        known = self.places
        self.places = replace(
            known,
            corpus=known.corpus if corpus is None else seen_from(self.folder, corpus),
            labels=known.labels if labels is None else seen_from(self.folder, labels),
            models={**known.models, **{name: seen_from(self.folder, path) for name, path in (models or {}).items()}},
        )
        if not (self.folder / "study.json").is_file():
            write(self.folder / PLACES, self.places)


def seen_from(folder: Path, path: str | Path) -> str:
    """A place as a run's record has it: a URL as it is, a path from the run's folder."""
    return str(path) if "://" in str(path) else os.path.relpath(path, folder)


def link_parts(folder: Path, places: Places) -> None:
    """Makes the links of a complete run anew, and takes away what told of it under way."""
    wanted = {f"models/{name}/model": where for name, where in places.models.items()}
    wanted |= {name: where for name, where in (("corpus", places.corpus), ("labels", places.labels)) if where}
    for name, where in wanted.items():
        if "://" not in where:
            _link(folder / name, os.path.relpath(folder / where, (folder / name).parent))
    (folder / PLACES).unlink(missing_ok=True)


def _link(path: Path, target: str) -> None:
    if path.is_symlink():
        if os.readlink(path) == target:
            return
        path.unlink()
    with contextlib.suppress(FileExistsError):  # a copy stands there, made with what the links led to
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(target, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            write_text(path.with_name(f"{path.name}.path"), target + "\n")
