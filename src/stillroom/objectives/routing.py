"""Which positions lose their distillation term.

Every rule is a pure function of the batch and the teacher's per-position numbers. A share is a share of the *counted*
positions (those with a target) of each sequence: round(share · count) of them exactly, the earlier position first
where scores tie. Letters: B sequences, T positions. Imports config and types only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.objectives.objective_config import RoutingConfig
from stillroom.types import IGNORE_INDEX, Batch, UserError


def lowest_share(score_BT: Tensor, eligible_BT: Tensor, count_B: Tensor) -> Tensor:
    """The ``count`` eligible positions of each sequence with the lowest score (bool, B × T); fewer where fewer are.

    Ties go to the earlier position, so the result does not depend on device or chunking.
    """
    score_BT = score_BT.float().masked_fill(~eligible_BT, float("inf"))
    order_BT = score_BT.argsort(dim=1, stable=True)
    rank_BT = torch.empty_like(order_BT)
    rank_BT.scatter_(1, order_BT, torch.arange(order_BT.shape[1], device=order_BT.device).expand_as(order_BT))
    return (rank_BT < count_B[:, None]) & eligible_BT


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
    config: RoutingConfig,
    batch: Batch,
    *,
    entropy_BT: Tensor | None = None,
    gold_logprob_BT: Tensor | None = None,
    student_entropy_BT: Tensor | None = None,
    share: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Positions whose distillation term is dropped (bool, B × T), always a subset of those that have a target.

    Arguments:
        config: the rule; see ``RoutingConfig``.
        batch: tokens, targets and documents.
        entropy_BT: the teacher's entropy, nats.
        gold_logprob_BT: the teacher's log-probability of the target, nats.
        student_entropy_BT: the student's entropy, nats (``student-entropy`` only).
        share: overrides ``config.share`` (a schedule's current value).
        seed: of the random control; let it change with the step, and be the same for all ranks and micro-batches.
    """
    counted_BT = batch.targets_BT != IGNORE_INDEX
    if config.rule == "entropy-threshold":
        return (_needed(entropy_BT, config.rule, "entropy") < (config.threshold_nats or 0.0)) & counted_BT
    share = config.share if share is None else share
    count_B = (counted_BT.sum(1) * share).round().long()
    if config.rule == "low-entropy":
        return lowest_share(_needed(entropy_BT, config.rule, "entropy"), counted_BT, count_B)
    if config.rule == "random":
        return lowest_share(random_scores(batch.tokens_BT, seed), counted_BT, count_B)
    if config.rule == "student-entropy":  # the highest student entropy keeps its term, so the lowest loses it
        return lowest_share(_needed(student_entropy_BT, config.rule, "student entropy"), counted_BT, count_B)
    gold_BT = _needed(gold_logprob_BT, config.rule, "gold log-probability")
    if config.rule == "low-gold-probability":
        return lowest_share(gold_BT, counted_BT, count_B)
    return lowest_share(gold_BT, copyable(batch), count_B)


def _needed(value: Tensor | None, rule: str, what: str) -> Tensor:
    if value is None:
        raise UserError(
            f"routing.rule: {rule} needs the {what} of every position, found none; give labels that hold it."
        )
    return value
