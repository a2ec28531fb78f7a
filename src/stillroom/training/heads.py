"""Heads for tokens further ahead (multi-token prediction): a block each, on the trunk that the next token's head uses.

Gloeckle et al. 2024 (2404.19737), section 2: head i is a transformer block over a shared trunk, with the final norm and
the unembedding shared by all. The last block of the model is the head of the next token, so that the model alone is
what is used and exported; n - 1 blocks are taken off the trunk, so that the parameters are those of a plain model.
Letters: H heads, N = B·T positions, D width.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillroom.models import hidden_states
from stillroom.training.blocks import blocks, final_norm
from stillroom.types import Batch


class FurtherHeads(nn.Module):
    """Blocks for the tokens 2, 3, ... places ahead, each beginning as a copy of the model's last block."""

    def __init__(self, model: PreTrainedModel, num: int) -> None:
        super().__init__()
        last = blocks(model)[-1]
        self.blocks = nn.ModuleList(copy.deepcopy(last) for _ in range(num))

    def hidden_states(self, model: PreTrainedModel, batch: Batch, isolate: bool) -> Tensor:
        """Final hidden states of every head, (H, N, D); the first is the model's own."""
        seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        # What the last block is given (trunk output, mask, rotary angles) is given to the further heads too.
        hook = blocks(model)[-1].register_forward_pre_hook(
            lambda module, values, named: seen.append((values, named)), with_kwargs=True
        )
        try:
            first_BTD = hidden_states(model, batch, isolate)
        finally:
            hook.remove()
        values, named = seen[0]
        norm = final_norm(model)
        outputs = [first_BTD]
        for block in self.blocks:
            output = block(*values, **named)
            outputs.append(norm(output[0] if isinstance(output, tuple) else output))
        return torch.stack([hidden.flatten(0, 1) for hidden in outputs])


def first_weights(model: PreTrainedModel, further: FurtherHeads | None) -> dict[str, list[str]]:
    """For every parameter of the model's last block, by its name in the model, the names in a ``Student`` of the
    further heads' parameters that begin as the same weight.
    """
    if further is None:
        return {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    last = dict(blocks(model)[-1].named_parameters())
    return {
        names[id(parameter)]: [f"further.blocks.{number}.{inner}" for number in range(len(further.blocks))]
        for inner, parameter in last.items()
    }
