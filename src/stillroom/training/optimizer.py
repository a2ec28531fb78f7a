"""The learning rate of every step, and the optimizers that it is given to."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from stillroom.models import unembedding
from stillroom.training.blocks import final_norm
from stillroom.training.optimizer_registry import OPTIMIZERS, ParameterGroup, Trained
from stillroom.training.step import Student
from stillroom.training.training_config import TrainingConfig
from stillroom.types import UserError


def learning_rate_factor(config: TrainingConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step (0-based) as a part of the highest: linear warm-up, then the schedule.

    The last step ends at ``final_learning_rate`` (``constant`` stays at 1). ``wsd`` is warm-up, stable, linear decay
    over the last ``decay`` of the steps (Hu et al. 2024, 2404.06395). Where steps are so few that rounding would let
    phases overlap, the earlier one is shortened: the last step belongs to the decay.
    """
    falls = config.schedule != "constant"
    warmup = min(round(config.warmup * num_steps), num_steps - 1 if falls else num_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    floor = config.final_learning_rate
    progress = (step - warmup + 1) / max(1, num_steps - warmup)
    if config.schedule == "linear":
        return 1.0 - (1.0 - floor) * progress
    if config.schedule == "cosine":
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "wsd":
        decay = min(max(1, round(config.decay * num_steps)), num_steps - warmup)
        left = num_steps - 1 - step
        return 1.0 if left >= decay else 1.0 - (1.0 - floor) * (decay - left) / decay
    return 1.0


def build_optimizers(student: Student, config: TrainingConfig) -> list[Optimizer]:
    """The optimizers of a model, each group carrying its highest learning rate as ``peak``.

    Weight decay falls on the hidden matrices only: never on norms, biases and embeddings. With ``base_width`` AdamW's
    rate on the hidden matrices and on the final norm, whose weight is what logits are multiplied by
    (``models.plan_fresh``), falls as 1 / width (Yang et al. 2022, 2203.03466, table 8), and the decay of the matrices
    rises as much, so that the share of a weight that decays in a step stays.
    """
    model, rate = student.model, config.learning_rate
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    embeddings = {id(model.get_input_embeddings().weight), id(unembedding(model)[0])}
    matrices = [parameter for parameter in trained if parameter.ndim == 2 and id(parameter) not in embeddings]
    apart, narrower = {id(parameter) for parameter in matrices}, 1.0
    multiplier: list[nn.Parameter] = []
    if config.base_width is not None:
        narrower = config.base_width / model.config.hidden_size
        multiplier = list(final_norm(model, "training.base_width").parameters())
        apart |= {id(parameter) for parameter in multiplier}
    others = [parameter for parameter in trained if id(parameter) not in apart]
    plain = [*_groups(others, 0.0, rate), *_groups(multiplier, 0.0, rate * narrower)]
    return OPTIMIZERS.find(config.optimizer)(Trained(matrices, plain, narrower, _groups), config)


def _groups(parameters: list[nn.Parameter], decay: float, rate: float) -> list[ParameterGroup]:
    return [ParameterGroup(params=group, weight_decay=decay, lr=rate, peak=rate) for group in by_mesh(parameters)]


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> None:
    """Sets every group's learning rate to ``factor`` times its peak; refuses one that no weight can hold."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if not abs(group["peak"]) <= torch.finfo(torch.float32).max:
                raise UserError(
                    f"training.learning_rate: a rate of {group['peak']:g} is more than a weight can hold; lower it (or "
                    "training.muon_learning_rate)."
                )
            group["lr"] = group["peak"] * factor


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scales the gradients to a norm of at most ``limit`` (0 = leave them) and returns the norm before."""
    norms = [
        nn.utils.get_total_norm([parameter.grad for parameter in group if parameter.grad is not None], foreach=True)
        for group in by_mesh([parameter for parameter in model.parameters() if parameter.grad is not None])
    ]
    whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    total = whole[0] if len(whole) == 1 else torch.stack(whole).square().sum().sqrt()
    if limit > 0:
        scale = torch.clamp(limit / (total + 1e-6), max=1.0)
        for parameter in model.parameters():
            if parameter.grad is not None:
                local = parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad
                local.mul_(scale.to(local.dtype))
    return float(total)


def by_mesh(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters grouped by the ranks that they are sharded over: operations on many at once need one mesh."""
    groups: dict[object, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.device_mesh if isinstance(parameter, DTensor) else None, []).append(parameter)
    return list(groups.values())
