"""From a batch, an objective and a teacher's labels to nats per position: the one entry point of a trainer.

Letters: B sequences, T positions, N = B·T, H prediction heads, M = H·N, V vocabulary, K stored ids, D width.
Knows no model and no ranks (but those that a vocabulary is cut over).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from stillroom.objectives.distillation import Head, Parts, distilled, smooth
from stillroom.objectives.head.fused import HeadOptions
from stillroom.objectives.multitoken import look_ahead
from stillroom.objectives.schedules import Progress, objective_at
from stillroom.objectives.targets import TeacherLogits, hard_target
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError

if TYPE_CHECKING:
    from stillroom.objectives.objective import AnyObjective


@dataclass(frozen=True)
class TokenLosses:
    """Nats per position, N of them in flat order, and what they are made of.

    ``loss_N`` is differentiable and exactly 0 where nothing is trained. ``terms`` maps a name to values and weights,
    (N,) each and detached: a term's mean is Σ weight·value / Σ weight over all micro-batches and ranks.
    """

    loss_N: Tensor
    counted_N: Tensor  # bool: positions with a target
    terms: dict[str, tuple[Tensor, Tensor]]
    routed_N: Tensor  # bool: positions whose distillation term was dropped


class LossOptions(HeadOptions, total=False):
    """What the unembedding and the labels are like."""

    label_temperature: float
    """At which stored labels were made (their manifest says so); 1 where it is left out."""


def token_losses(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    batch: Batch,
    objective: AnyObjective,
    labels: SoftLabels | TeacherLogits | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Unpack[LossOptions],
) -> TokenLosses:
    """Nats per position of (1 - alpha)·CE(next token) + alpha·CE(teacher's label) at every counted position.

    Arguments:
        hidden_ND: final hidden states of the batch, (B, T) flattened; (H, N, D) with ``objective.heads`` = H > 1.
        weight_VD: the unembedding.
        batch: tokens, targets and documents.
        objective: what to minimise.
        labels: the teacher's stored labels (leading shape (B, T) or (N,)) or its live logits; needed where alpha > 0.
        seed: of the random routing control; let it change with the step, and be the same for all micro-batches and
            ranks: what is drawn depends on the seed and on each sequence's tokens.
        progress: tokens seen, where the objective has schedules.
        options: what the unembedding and the labels are like; see ``LossOptions`` and ``HeadOptions``.

    Returns:
        ``TokenLosses``, N positions as they lie in ``hidden_ND``; the terms are ``ce`` (hard label; ``ce_2`` and on for
        further heads), and with a teacher ``teacher_ce``, ``teacher_entropy``, ``forward_kl``, a further divergence by
        its name, ``routed_share``, ``entropy_kept`` and ``entropy_routed`` (the teacher's, nats).

    Raises:
        UserError: The objective needs labels, progress, another temperature or a whole distribution that was not given.
    """
    objective, label_temperature = _at(objective, progress), options.pop("label_temperature", 1.0)
    ahead = look_ahead(batch, objective.heads)
    head = Head(_flat(hidden_ND, ahead.targets_HN), weight_VD, options, objective.z_loss)
    if objective.alpha == 0:
        parts = _hard(head, ahead.targets_HN.reshape(-1), objective)
    else:
        parts = distilled(head, batch, ahead, objective, _usable(labels, objective, label_temperature), seed)
    loss_N = parts.loss_M.view(objective.heads, -1).sum(0) if objective.heads > 1 else parts.loss_M
    counted_N = batch.targets_BT.reshape(-1) != IGNORE_INDEX
    routed_N = torch.zeros_like(counted_N) if parts.soft is None else parts.soft.routed_N
    return TokenLosses(loss_N, counted_N, _terms(parts, ahead.targets_HN, counted_N, objective), routed_N)


def require_terms(tokens_per_term: Mapping[str, float]) -> None:
    """Raises a ``UserError`` if a term that the objective declares received no token: check this on the first step.

    Arguments:
        tokens_per_term: Σ weights of every term of ``TokenLosses.terms``, over all micro-batches and ranks.
    """
    for name, tokens in tokens_per_term.items():
        if name.startswith(("ce", "teacher_ce")) and not tokens > 0:
            raise UserError(
                f"objective: the term {name} received 0 tokens in the first step, expected at least one; check that "
                "the labels belong to this corpus, and alpha, heads and the routing share."
            )


def _at(objective: AnyObjective, progress: Progress | None) -> AnyObjective:
    routing = objective.routing
    scheduled = objective.alpha_schedule or objective.temperature_schedule or (routing and routing.share_schedule)
    if progress is None:
        if scheduled:
            raise UserError("objective: has a schedule but no progress was given; pass the tokens seen and in all.")
        return objective
    return objective_at(objective, progress)


def _flat(hidden: Tensor, targets_HN: Tensor) -> Tensor:
    """Hidden states of all heads as (M, D)."""
    heads, num = targets_HN.shape
    found = hidden.shape[0] if hidden.ndim == 3 else 1
    if found != heads or hidden.shape[-2] != num:
        raise UserError(
            f"objective.heads: is {heads} for {num} positions, but the hidden states are {tuple(hidden.shape)}; give "
            "(positions, width) for one head and (heads, positions, width) for more."
        )
    return hidden.reshape(heads * num, hidden.shape[-1])


def _usable(
    labels: SoftLabels | TeacherLogits | None, objective: AnyObjective, label_temperature: float
) -> SoftLabels | TeacherLogits:
    """Labels that can serve this objective, or the reason why they cannot."""
    if labels is None:
        raise UserError(
            f"objective.alpha: is {objective.alpha:g} but no labels were given; give a label store or set it to 0."
        )
    if isinstance(labels, TeacherLogits):
        if objective.label_smoothing and objective.temperature_form == "teacher":
            raise UserError("objective.label_smoothing: is above 0 with a live teacher; set one of them aside.")
        return labels
    if objective.temperature != label_temperature:
        raise UserError(
            f"objective.temperature: is {objective.temperature:g} but the labels were made at {label_temperature:g}; "
            "label again with labels.temperature set to it, or use a live teacher."
        )
    if objective.divergence in ("reverse-kl", "jensen-shannon"):
        raise UserError(
            f"objective.divergence: {objective.divergence} needs the teacher's whole distribution, found stored labels;"
            " use a live teacher, or cross-entropy or forward-kl."
        )
    return labels


def _hard(head: Head, targets_M: Tensor, objective: AnyObjective) -> Parts:
    target = smooth(hard_target(targets_M), targets_M, objective.label_smoothing, head)
    out = head(target)
    return Parts(out.loss_N, out.nll_NK[:, 0], target.active_N, None)


def _terms(
    parts: Parts, targets_HN: Tensor, counted_N: Tensor, objective: AnyObjective
) -> dict[str, tuple[Tensor, Tensor]]:
    """Every term by its name, for the first head; the further heads' hard terms by their number.

    At alpha = 1 without restored positions, a hard term with a softmax of its own is no part of the objective and is
    left out.
    """
    num, routing = counted_N.shape[0], objective.routing
    restored = routing is not None and routing.hard_weight == "restore"
    has_hard = objective.alpha < 1 or restored or objective.temperature_form != "both"
    measured_HN = ((targets_HN != IGNORE_INDEX) & parts.active_M.view(-1, num)).float()
    terms = {
        "ce" if head == 0 else f"ce_{head + 1}": (ce_N, measured_HN[head])
        for head, ce_N in enumerate(parts.ce_M.view(-1, num))
        if has_hard
    }
    soft = parts.soft
    if soft is None:
        return terms
    kept_N = soft.kept_M[:num].float()
    teacher_ce, entropy = soft.teacher_ce_M[:num], soft.entropy_M[:num]
    terms["teacher_ce"] = (teacher_ce, kept_N)
    terms["teacher_entropy"] = (entropy, kept_N)
    terms["forward_kl"] = (teacher_ce - entropy, kept_N)
    if soft.divergence_M is not None:
        terms[soft.name.replace("-", "_")] = (soft.divergence_M[:num], kept_N)
    routed_N = soft.routed_N.float()
    terms["routed_share"] = (routed_N, counted_N.float())
    terms["entropy_kept"] = (soft.teacher_entropy_N, counted_N.float() - routed_N)
    terms["entropy_routed"] = (soft.teacher_entropy_N, routed_N)
    return terms
