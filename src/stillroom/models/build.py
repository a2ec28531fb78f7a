"""Builds, loads and exports causal language models; weights travel as safetensors only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from stillroom.config import ModelConfig
from stillroom.types import UserError


def llama_config(config: ModelConfig, vocab_size: int) -> LlamaConfig:
    """The transformers configuration of a model in the Llama layout."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads or config.num_heads,
        max_position_embeddings=config.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_embeddings,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def build_model(config: ModelConfig, vocab_size: int, seed: int) -> PreTrainedModel:
    """A fresh model in fp32 whose weights depend on the configuration and the seed alone.

    Matrices are normal with standard deviation 0.02; those that write into the residual stream are divided by
    sqrt(2·layers) (GPT-2, section 2.3), so that its variance does not grow with depth.
    """
    if config.path is not None:
        return load_model(config.path)
    with torch.random.fork_rng(devices=[]):  # transformers draws its own weights, which are replaced below
        model = LlamaForCausalLM(llama_config(config, vocab_size))
    generator = torch.Generator().manual_seed(seed)
    residual_scale = (2 * config.num_layers) ** -0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0)
                continue
            scale = residual_scale if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            parameter.normal_(0.0, 0.02 * scale, generator=generator)
    model.tie_weights()
    return model.train()


def load_model(path: str | Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A pretrained model from a folder or a hub id, in evaluation mode; code from the folder is never run."""
    folder = Path(path)
    if folder.suffix == ".gguf":
        return _load_gguf(folder, dtype)
    looks_local = folder.is_absolute() or str(path).startswith((".", "~")) or folder.exists()
    if looks_local and not (folder / "config.json").is_file():
        raise UserError(
            f"{path}: holds no config.json; expected a Hugging Face model folder, a run's model or a hub id."
        )
    try:
        with _no_bars():
            model = AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype, use_safetensors=True)
    except OSError as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{path}: no model could be loaded ({reason}); check the path or the network.") from error
    return model.eval()


def _load_gguf(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model from a GGUF file, as ordinary weights: rebuilt without the quantisation note so that it can be saved."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a GGUF file.")
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
