"""Experiment trackers by name, imported when asked for (extra ``track``)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from stillroom.types import UserError


class Tracker(Protocol):
    """Takes the numbers of a step."""

    def log(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Records ``values`` under ``kind/name`` at ``step``."""
        ...

    def close(self) -> None:
        """Sends what is left and ends."""
        ...


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        _module("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, kind: str, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _Run:
    """Weights & Biases and trackio share one interface: ``init``, ``log``, ``finish``."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, object]) -> None:
        self._module = _module(name, name)
        run = folder.name.strip(".").removesuffix(".unfinished")  # the folder's name once it is finished
        options: dict[str, Any] = {"project": "stillroom", "name": run, "config": config, "resume": "allow"}
        if name == "wandb":
            options |= {"dir": str(folder), "id": run[:64]}
        self._module.init(**options)

    def log(self, kind: str, step: int, values: dict[str, float]) -> None:
        self._module.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._module.finish()


def _module(name: str, shown: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"training.tracker: is {shown!r} but that package is not installed; pip install 'stillroom[track]'."
        ) from error


def open_tracker(name: str, folder: Path, config: Mapping[str, object]) -> Tracker | None:
    """The tracker called ``name`` for the run in ``folder``; None for ``none``."""
    if name == "none":
        return None
    return _TensorBoard(folder) if name == "tensorboard" else _Run(name, folder, config)
