"""From a batch, an objective and a teacher's labels to nats per position: the one entry point of a trainer.

Letters: B sequences, T positions, N = B·T, V vocabulary, K stored ids, D width. Knows no model and no ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.config import ObjectiveConfig
from stillroom.objectives.head import fused_linear_cross_entropy
from stillroom.objectives.routing import route
from stillroom.objectives.targets import SparseTarget, hard_target, mix
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError


@dataclass(frozen=True)
class TokenLosses:
    """Nats per position and what they are made of.

    ``loss_N`` is differentiable and exactly 0 where ``counted_N`` is False. ``terms`` maps a name to (values, weights),
    detached: a term's mean is Σ weight·value / Σ weight over all micro-batches and ranks.
    """

    loss_N: Tensor
    counted_N: Tensor  # bool: positions with a target
    terms: dict[str, tuple[Tensor, Tensor]]
    routed_N: Tensor  # bool: positions whose distillation term was dropped


def token_losses(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    batch: Batch,
    objective: ObjectiveConfig,
    labels: SoftLabels | None = None,
    *,
    bias: Tensor | None = None,
    seed: int = 0,
    softcap: float | None = None,
    chunk_size: int | None = None,
) -> TokenLosses:
    """Nats per position of (1 - alpha)·CE(next token) + alpha·CE(teacher's label) at every counted position.

    Arguments:
        hidden_ND: final hidden states of the batch, (B, T) flattened.
        weight_VD: the unembedding.
        batch: tokens, targets and documents.
        objective: alpha, temperature and routing.
        labels: the teacher's labels, leading shape (B, T) or (N,); needed where alpha is above 0.
        bias: of the unembedding.
        seed: of the random routing control; give it something that changes with the step and the rank.
        softcap: of the logits, where the model has one.
        chunk_size: positions whose logits are held at once; None picks what suits the device.

    Returns:
        ``TokenLosses``; the terms are ``ce`` (hard label), and with a teacher ``teacher_ce``, ``teacher_entropy``,
        ``forward_kl``, ``routed_share``, ``entropy_kept`` and ``entropy_routed``.
    """
    targets_N = batch.targets_BT.reshape(-1)
    counted_N = targets_N != IGNORE_INDEX
    if objective.alpha == 0:
        out = fused_linear_cross_entropy(
            hidden_ND, weight_VD, hard_target(targets_N), bias=bias, softcap=softcap, chunk_size=chunk_size
        )
        terms = {"ce": (out.nll_NK[:, 0], counted_N.float())}
        return TokenLosses(out.loss_N, counted_N, terms, torch.zeros_like(counted_N))
    if labels is None:
        raise UserError(
            f"objective.alpha: is {objective.alpha:g} but no labels were given; give a label store or set it to 0."
        )
    labels = labels.flatten()
    routed_N = _routed(objective, batch, labels, seed)
    target = _distilled_target(objective, targets_N, labels, routed_N)
    out = fused_linear_cross_entropy(hidden_ND, weight_VD, target, bias=bias, softcap=softcap, chunk_size=chunk_size)
    terms = _terms(out.nll_NK, out.tail_nll_N, labels, counted_N, routed_N, target.active_N)
    return TokenLosses(out.loss_N, counted_N, terms, routed_N)


def _routed(objective: ObjectiveConfig, batch: Batch, labels: SoftLabels, seed: int) -> Tensor:
    shape = batch.targets_BT.shape
    if objective.routing is None:
        return torch.zeros(batch.num_positions, dtype=torch.bool, device=batch.targets_BT.device)
    return route(
        objective.routing,
        batch,
        entropy_BT=labels.entropy.view(shape),
        gold_logprob_BT=labels.gold_logprob.view(shape),
        seed=seed,
    ).reshape(-1)


def _distilled_target(
    objective: ObjectiveConfig, targets_N: Tensor, labels: SoftLabels, routed_N: Tensor
) -> SparseTarget:
    """(1 - alpha) on the next token and alpha on the labels; routed positions lose the second."""
    alpha = objective.alpha
    restored = objective.routing is not None and objective.routing.hard_weight == "restore"
    soft_N = torch.where(routed_N | (targets_N == IGNORE_INDEX), 0.0, alpha)
    hard_N = torch.where(routed_N, 1.0 if restored else 1.0 - alpha, 1.0 - alpha)
    tail = None if labels.tail is None else labels.tail * soft_N
    soft = SparseTarget(labels.ids, labels.weights * soft_N[:, None], tail, labels.weights > 0)
    return mix(targets_N, hard_N, soft)


def _terms(
    nll_NK: Tensor,
    tail_nll_N: Tensor | None,
    labels: SoftLabels,
    counted_N: Tensor,
    routed_N: Tensor,
    active_N: Tensor,
) -> dict[str, tuple[Tensor, Tensor]]:
    teacher_ce = (labels.weights * nll_NK[:, 1:]).sum(-1)
    entropy = labels.entropy
    if labels.tail is not None and tail_nll_N is not None:
        teacher_ce = teacher_ce + labels.tail * tail_nll_N
    kept_N = (counted_N & ~routed_N).float()
    routed_weight_N = routed_N.float()
    return {
        "ce": (nll_NK[:, 0], (counted_N & active_N).float()),
        "teacher_ce": (teacher_ce, kept_N),
        "teacher_entropy": (entropy, kept_N),
        "forward_kl": (teacher_ce - entropy, kept_N),
        "routed_share": (routed_weight_N, counted_N.float()),
        "entropy_kept": (entropy, kept_N),
        "entropy_routed": (entropy, routed_weight_N),
    }
