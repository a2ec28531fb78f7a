"""Checkpoints: weights, optimizer state and position, complete or not there, checked by hash when read.

Tensors travel as safetensors and everything else as JSON, so that loading one never runs code.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from stillroom.files import file_hash, folder_aside, read_json, write_json
from stillroom.types import UserError

logger = logging.getLogger(__name__)
_FILES = ("model.safetensors", "optimizer.safetensors")


def _model_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters by name; tied ones once."""
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


def _optimizer_tensors(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    tensors = {}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{number}.{index}.{key}": value.contiguous() for key, value in state.items()}
    return tensors


def save_checkpoint(
    folder: Path, step: int, model: PreTrainedModel, optimizers: list[Optimizer], state: dict[str, Any], keep: int = 2
) -> Path:
    """Writes ``folder/step-NNNNNNNN`` and removes all but the newest ``keep``; returns the new one's path."""
    target = folder / f"step-{step:08d}"
    with folder_aside(target) as scratch:
        save_file(_model_tensors(model), scratch / _FILES[0])
        save_file(_optimizer_tensors(optimizers), scratch / _FILES[1])
        hashes = {name: file_hash(scratch / name) for name in _FILES}
        write_json(scratch / "state.json", {"step": step, "hashes": hashes, **state})
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def latest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged checkpoint and its state; a damaged one is named in a warning and passed over."""
    for path in reversed(_checkpoints(folder)):
        try:
            state = read_json(path / "state.json")
            damaged = [name for name in _FILES if file_hash(path / name) != state["hashes"][name]]
        except (UserError, KeyError, TypeError, OSError):
            damaged = ["state.json"]
        if not damaged:
            return path, state
        logger.warning("%s: %s is damaged; going back to the checkpoint before it", path, damaged[0])
    return None


def load_checkpoint(path: Path, model: PreTrainedModel, optimizers: list[Optimizer]) -> None:
    """Puts a checkpoint's tensors into the model and the optimizers, which must have been built the same way."""
    try:
        weights, moments = load_file(path / _FILES[0]), load_file(path / _FILES[1])
    except SafetensorError as error:
        raise UserError(f"{path}: is not a readable checkpoint ({error}); delete it and run again.") from error
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in moments.items():
        number, index, name = key.split(".", 2)
        states[int(number)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
