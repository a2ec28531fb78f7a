"""Which positions lose their distillation term.

Every rule is a pure function of the batch and the teacher's per-position numbers. A share is a share of the *counted*
positions (those with a target) of each sequence: round(share · count) of them exactly, the earlier position first
where scores tie. Letters: B sequences, T positions. Imports its rules and types only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stillroom.objectives.routing_rules import RULES, RoutingInput
from stillroom.types import IGNORE_INDEX, Batch

if TYPE_CHECKING:
    from stillroom.objectives.objective import AnyRouting


def random_scores(tokens_BT: Tensor, seed: int) -> Tensor:
    """Uniform scores (B × T) that depend on the seed and each sequence's tokens alone.

    So a sequence is routed alike on every device, in every micro-batch and on every rank.
    """
    places = torch.arange(1, tokens_BT.shape[1] + 1, device=tokens_BT.device)
    keys = ((tokens_BT + 1) * (places * 0x9E3779B97F4A7C1 | 1)).sum(1).tolist()  # wraps at 64 bits, as a hash may
    rows = []
    for key in keys:
        generator = torch.Generator().manual_seed((key ^ (seed * 0x2545F4914F6CDD1D)) & (2**63 - 1))
        rows.append(torch.rand(tokens_BT.shape[1], generator=generator))
    return torch.stack(rows).to(tokens_BT.device) if rows else torch.zeros(tokens_BT.shape, device=tokens_BT.device)


def last_successor(batch: Batch) -> Tensor:
    """The token (B × T) after the last earlier occurrence of each position's token in its document; -1 without one."""
    tokens, width = batch.tokens_BT, batch.tokens_BT.shape[1]
    key = batch.document_BT.to(torch.int64) * (tokens.amax() + 1) + tokens
    order = key.argsort(dim=1, stable=True)  # equal keys stay in time order: the neighbour before is the last time
    sorted_key = key.gather(1, order)
    before = torch.full_like(order, -1)
    before[:, 1:] = torch.where(sorted_key[:, 1:] == sorted_key[:, :-1], order[:, :-1], -1)
    last_BT = torch.empty_like(before).scatter_(1, order, before)
    return torch.where(last_BT >= 0, tokens.gather(1, (last_BT + 1).clamp(max=width - 1)), -1)


def copyable(batch: Batch) -> Tensor:
    """Positions whose gold token followed the last earlier occurrence of the current token in the document (B × T)."""
    return (batch.targets_BT != IGNORE_INDEX) & (last_successor(batch) == batch.targets_BT)


def route(
    config: AnyRouting,
    batch: Batch,
    *,
    entropy_BT: Tensor | None = None,
    gold_logprob_BT: Tensor | None = None,
    student_entropy_BT: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Positions whose distillation term is dropped (bool, B × T), always a subset of those that have a target.

    Arguments:
        config: the rule; see ``RoutingConfig``.
        batch: tokens, targets and documents.
        entropy_BT: the teacher's entropy, nats.
        gold_logprob_BT: the teacher's log-probability of the target, nats.
        student_entropy_BT: the student's entropy, nats (rules that are ``of_student`` only).
        seed: of the random control; let it change with the step, and be the same for all ranks and micro-batches.

    Raises:
        UserError: There is no such rule, or it needs a number that was not given.
    """
    given = {
        "entropy": entropy_BT,
        "gold log-probability": gold_logprob_BT,
        "student entropy": student_entropy_BT,
    }
    positions = RoutingInput(config, batch, given, seed)
    return RULES.find(config.rule).choose(positions) & positions.counted_BT
