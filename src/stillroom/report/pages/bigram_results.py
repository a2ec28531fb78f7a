"""What the page of a bigram sandbox reads: ``sandbox.json`` of a run folder, checked, and a style for every arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillroom.checksums import require
from stillroom.files import read_json_object, read_text
from stillroom.report.view import Style, styles
from stillroom.results.bigram_file import KIND, BigramArm, BigramResults
from stillroom.results.json_form import from_json
from stillroom.types import UserError

CLASSES = {"high": "high-entropy rows", "low": "low-entropy rows"}


@dataclass(frozen=True)
class BigramRun:
    """A finished sweep."""

    data: BigramResults
    environment: Mapping[str, object]
    config: str

    @property
    def samples(self) -> tuple[int, ...]:
        """Sizes of the training sample."""
        return self.data.samples

    @property
    def arms(self) -> tuple[BigramArm, ...]:
        """Every arm with its estimates."""
        return self.data.arms

    @property
    def drawn(self) -> list[BigramArm]:
        """The arms that the curves show."""
        return [arm for arm in self.arms if arm.drawn]

    @property
    def styles(self) -> dict[str, Style]:
        """A colour and a marker for each drawn arm, in their order."""
        return {style.name: style for style in styles([arm.name for arm in self.drawn])}

    @property
    def classes(self) -> list[str]:
        """The classes that have rows."""
        return [name for name in CLASSES if self.data.world.rows[name]]


def load_bigram_run(folder: Path) -> BigramRun:
    """The sweep of a run folder; a ``UserError`` names the file that is missing or is of something else."""
    require(folder)
    file = folder / "sandbox.json"
    data = read_json_object(file, "that of stillroom sandbox bigram")
    if data.get("kind") != KIND:
        raise UserError(f"{file}: is not of a bigram sandbox; run stillroom sandbox bigram to make one.")
    config = read_text(folder / "config.yaml") if (folder / "config.yaml").exists() else ""
    results = from_json(BigramResults, data, file)
    return BigramRun(results, read_json_object(folder / "environment.json"), config)
