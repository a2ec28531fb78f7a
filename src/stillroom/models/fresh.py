"""New models of any architecture: weights drawn by this package's rules or by their own, or cut from a teacher's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from stillroom.models.forward import last_norm, layer_list
from stillroom.models.likeness import cut_weights
from stillroom.models.loading import modules_of
from stillroom.models.meta import ModelPlan, initial_scale, pad_as_generate_does, thaw_padding
from stillroom.types import UserError

_RESIDUAL = re.compile(r"\.(o_proj|out_proj|c_proj|dense|dense_4h_to_h|down_proj|fc2|fc_out|w2)(\.weight)?$")
"""Names of the matrices that write into the residual stream, in the words of transformers."""
_OWN = re.compile(r"\.dt_proj\.weight$")
"""Matrices that a state space model begins with at a scale of its own."""


@dataclass(frozen=True)
class Drawing:
    """How weights are drawn: everything beside the configuration that they depend on."""

    seed: int
    base_width: int | None = None
    """As ``TrainingConfig.base_width``."""
    rule: Literal["stillroom", "model"] = "stillroom"
    """As ``ModelConfig.initialisation``."""


def plan_new(
    config: PreTrainedConfig, drawing: Drawing, teacher: Callable[[], PreTrainedModel] | None = None
) -> ModelPlan:
    """A new model in fp32, whose weights depend on these arguments and the release of transformers.

    By the rule ``stillroom`` matrices are drawn as ``plan_fresh`` says, which in the Llama layout is the same model;
    everything else (norms, biases, decays, convolutions) begins as the architecture's own code says. With ``teacher``
    its weights are cut. The first rank makes them, and the others get theirs from it.
    """
    model = thaw_padding(modules_of(config))
    pad_as_generate_does(model)
    _check_width(model, drawing)

    def weights() -> Iterator[tuple[str, Tensor]]:
        if teacher is not None:
            yield from cut_weights(model, teacher())
            return
        whole = modules_of(config, seed=drawing.seed)
        if drawing.rule == "stillroom":
            _draw(whole, drawing)
        yield from whole.named_parameters()
        yield from whole.named_buffers()

    return ModelPlan(model.train(), weights, on_every_rank=False)


def _check_width(model: PreTrainedModel, drawing: Drawing) -> None:
    """Refuses to scale a model by its width that is not made of matrices below one norm."""
    if drawing.base_width is None:
        return
    kind, embeddings = type(model).__name__, [part for part in model.modules() if isinstance(part, nn.Embedding)]
    reason = None
    if drawing.rule == "model":
        reason = "initialisation is the model's own, which is not scaled by it"
    elif getattr(last_norm(model), "weight", None) is None:
        reason = f"a {kind} has no last norm whose weight could be scaled"
    elif len(embeddings) > 1 or any(one.ndim > 2 for one in model.parameters()):
        reason = f"a {kind} has weights beside matrices (positions, experts, convolutions) whose scaling is not known"
    if reason is not None:
        raise UserError(f"training.base_width: {reason}; leave it out.")


@torch.no_grad()
def _draw(model: PreTrainedModel, drawing: Drawing) -> None:
    """Draws the matrices anew, in the order of their names in the model."""
    config, generator = model.config, torch.Generator().manual_seed(drawing.seed)
    narrower = 1.0 if drawing.base_width is None else drawing.base_width / config.hidden_size
    place, drawn = _place_of_layers(model), set(_matrices(model))
    for name, parameter in model.named_parameters():
        if name in drawn:
            num_layers = config.num_hidden_layers if _RESIDUAL.search(name) else None
            scale = initial_scale(name.startswith(place), num_layers, narrower)
            parameter.normal_(0.0, scale, generator=generator)
    norm = last_norm(model)
    if drawing.base_width is not None and norm is not None:
        norm.get_parameter("weight").add_(narrower - 1.0)  # of some norms the weight is what is added to 1


def _place_of_layers(model: PreTrainedModel) -> str:
    """What the names of weights inside layers begin with."""
    layers = layer_list(model)
    return next((f"{name}." for name, part in model.named_modules() if part is layers), "(no layers)")


def _matrices(model: PreTrainedModel) -> Iterator[str]:
    """Names of the matrices of linear layers, embeddings and experts."""
    for place, module in model.named_modules():
        is_linear = isinstance(module, nn.Linear | Conv1D | nn.Embedding)
        is_experts = "experts" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False):
            whole = f"{place}.{name}"
            if parameter.ndim == (2 if is_linear else 3) and (is_linear or is_experts) and not _OWN.search(whole):
                yield whole
