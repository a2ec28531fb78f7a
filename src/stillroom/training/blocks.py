"""Finds the parts of a transformers model that training works on one by one."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from stillroom.models.forward import NORMS, last_norm, layer_list
from stillroom.types import UserError


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer blocks: the one list of modules inside the model that is as long as it has layers."""
    found = layer_list(model)
    if found is not None:
        return found
    count = getattr(model.config, "num_hidden_layers", None)
    raise UserError(
        f"model: no list of {count} blocks was found in {type(model).__name__}; sharding, recomputation, compiling and "
        "further heads go block by block: leave training.parallel at its defaults and run one process."
    )


def final_norm(model: PreTrainedModel, asked_by: str = "objective.heads") -> nn.Module:
    """The norm between the last block and the unembedding; ``asked_by`` names the field that needs it."""
    found = last_norm(model)
    if found is not None:
        return found
    raise UserError(
        f"{asked_by}: {type(model).__name__} has none of the final norms {', '.join(NORMS)}; leave it at its default."
    )
