"""Builds, loads and exports causal language models; weights travel as safetensors only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from stillroom.checksums import require
from stillroom.config import ModelConfig
from stillroom.disk import let_all_read
from stillroom.models.plan import ModelPlan, plan_fresh, plan_pretrained, realise
from stillroom.types import UserError


def plan_model(config: ModelConfig, vocab_size: int, seed: int, base_width: int | None = None) -> ModelPlan:
    """The plan of a model that takes no memory yet: a fresh one, or the pretrained one that ``config.path`` names."""
    if config.path is None:
        return plan_fresh(config, vocab_size, seed, base_width)
    return plan_pretrained_model(config.path)


def plan_pretrained_model(path: str | Path) -> ModelPlan:
    """The plan of a pretrained model, which the first rank will read in the precision of its file."""
    _check_is_there(path)
    dtype = torch.float32 if Path(path).suffix == ".gguf" else "auto"
    return plan_pretrained(path, lambda: load_model(path, dtype=dtype))


def build_model(config: ModelConfig, vocab_size: int, seed: int, base_width: int | None = None) -> PreTrainedModel:
    """A model in fp32: fresh, with weights that depend on the arguments alone (see ``plan_fresh``), or the pretrained
    one that ``config.path`` names.
    """
    if config.path is not None:
        return load_model(config.path)
    return realise(plan_fresh(config, vocab_size, seed, base_width))


def load_model(path: str | Path, *, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """A pretrained model from a folder or a hub id, in evaluation mode; code from the folder is never run.

    ``dtype`` ``auto`` keeps the precision of its file.
    """
    _check_is_there(path)
    require(path)
    if Path(path).suffix == ".gguf":
        return _load_gguf(Path(path), torch.float32 if dtype == "auto" else dtype)
    try:
        with _no_bars():
            model = AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype, use_safetensors=True)
    except OSError as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{path}: no model could be loaded ({reason}); check the path or the network.") from error
    return model.eval()


def _check_is_there(path: str | Path) -> None:
    """Refuses a path on this machine that holds no model; what does not look like one may be a hub id."""
    folder = Path(path)
    if folder.suffix == ".gguf":
        if not folder.is_file():
            raise UserError(f"{path}: no such file; expected a GGUF file.")
        return
    looks_local = folder.is_absolute() or str(path).startswith((".", "~")) or folder.exists()
    if looks_local and not (folder / "config.json").is_file():
        raise UserError(
            f"{path}: holds no config.json; expected a Hugging Face model folder, a run's model or a hub id."
        )


def _load_gguf(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model from a GGUF file, as ordinary weights: rebuilt without the quantisation note so that it can be saved."""
    try:
        quantised = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=dtype)
    except (ImportError, ValueError) as error:  # transformers raises either where a package is missing
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{path}: cannot be read ({reason}); it needs pip install 'stillroom[gguf]'.") from error
    config = quantised.config
    config.__dict__.pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.load_state_dict(quantised.state_dict())
    return model.eval()


def export_model(model: PreTrainedModel, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Writes weights (safetensors) and configuration for ``AutoModelForCausalLM.from_pretrained``.

    ``weights`` takes the place of the model's own state where those are sharded.
    """
    with _no_bars():
        model.save_pretrained(folder, state_dict=weights)
    for path in folder.glob("*.safetensors"):
        let_all_read(path)  # the library leaves them readable by their owner alone


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars of transformers, which would run through the caller's own."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
