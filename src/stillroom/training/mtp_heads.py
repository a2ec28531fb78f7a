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

from stillroom.models import readout
from stillroom.models.forward import calls_of
from stillroom.models.output_layer import matrix, output_layer, unembedding_inputs
from stillroom.training.blocks import blocks, final_norm
from stillroom.types import Batch, UserError


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
        plan = calls_of(model, batch, isolate)
        try:
            outputs = [plan.gathered([unembedding_inputs(model, **arguments) for arguments in plan.arguments])]
        finally:
            hook.remove()
        norm, scale = final_norm(model), readout(model).scale
        for block in self.blocks:
            given = [block(*values, **named) for values, named in seen]
            normed = [norm(output[0] if isinstance(output, tuple) else output) for output in given]
            outputs.append(plan.gathered([hidden if scale == 1.0 else hidden * scale for hidden in normed]))
        return torch.stack([hidden.flatten(0, 1) for hidden in outputs])


def check_further(model: PreTrainedModel) -> None:
    """Refuses a model for which the last block and the final norm are not all that lies between trunk and unembedding:
    one whose further heads, copies of that block, do not begin with the model's own hidden states.
    """
    tokens_BT = torch.arange(6, device=model.device).view(1, 6) % matrix(output_layer(model)).shape[0]
    batch = Batch(tokens_BT, tokens_BT, torch.tensor([[0, 0, 0, 0, 1, 1]], device=model.device))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            first_ND, further_ND = FurtherHeads(model, 1).eval().hidden_states(model, batch, isolate=True)
        same = torch.allclose(first_ND, further_ND, rtol=1e-3, atol=1e-4 * float(first_ND.abs().max()))
    except UserError:
        raise
    except Exception:  # what a class raises when its block is called twice is its own affair
        same = False
    finally:
        model.train(was_training)
    if not same:
        raise UserError(
            f"objective.heads: {type(model).__name__} does more than its last block and a norm before its unembedding, "
            "expected a model whose last block further heads can begin as; leave it at 1."
        )


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
