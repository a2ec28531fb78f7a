"""Gives a model that is sharded but has no memory yet its weights, one parameter at a time.

A rank holds its part of the model and one whole parameter, so that what fits into the ranks together can be trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stillroom.models import ModelPlan, allocate, place
from stillroom.training.distributed import Ranks


def materialise(module: nn.Module, plan: ModelPlan, ranks: Ranks, copies: dict[str, list[str]] | None = None) -> None:
    """Allocates ``module``, which holds ``plan.model``, on this rank's device and fills it from the plan.

    The result is bit for bit that of a process that is alone. ``copies`` names for a parameter of the model the
    parameters of ``module`` that begin as the same weight. All ranks must call it.
    """
    allocate(plan.model, module, ranks.device)
    of_model = dict([*plan.model.named_parameters(), *plan.model.named_buffers()])
    of_module = dict(module.named_parameters())
    for name, whole in sent(plan, ranks):
        place(of_model[name], whole)
        for copy in (copies or {}).get(name, ()):
            place(of_module[copy], whole)


def sent(plan: ModelPlan, ranks: Ranks) -> Iterator[tuple[str, Tensor]]:
    """The weights of a plan on every rank, in the same order: made by each, or read by the first and sent on."""
    if ranks.mesh is None or plan.on_every_rank:
        yield from plan.weights()
        return
    source = plan.weights() if ranks.is_first else itertools.repeat(("", torch.empty(0)))
    while True:
        item = next(source, None)
        head: list[tuple[str, torch.Size, torch.dtype] | None] = [None]
        if ranks.is_first and item is not None:
            head = [(item[0], item[1].shape, item[1].dtype)]
        dist.broadcast_object_list(head, src=0)
        if head[0] is None or item is None:
            return
        name, shape, dtype = head[0]
        whole = item[1] if ranks.is_first else torch.empty(shape, dtype=dtype)
        whole = whole.to(ranks.device).contiguous()
        dist.broadcast(whole, src=0)
        yield name, whole
