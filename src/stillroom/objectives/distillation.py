"""The distillation part of the loss: labels, routing and temperature become one weighted target.

Letters: N = B·T positions, H prediction heads, M = H·N, V vocabulary, K stored ids. No model, no reduction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stillroom.objectives.entropy import RowStatistics, row_statistics
from stillroom.objectives.head.fused import HeadOptions, HeadOutput, fused_linear_cross_entropy
from stillroom.objectives.multitoken import Ahead
from stillroom.objectives.routing import route
from stillroom.objectives.routing_rules import RULES
from stillroom.objectives.targets import (
    DenseTarget,
    SparseTarget,
    Target,
    TeacherLogits,
    hard_target,
    label_target,
    mix,
    smoothed,
)
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels

if TYPE_CHECKING:
    from stillroom.objectives.objective import AnyObjective


@dataclass(frozen=True)
class Head:
    """Hidden states of all positions, the unembedding, and how to use it."""

    hidden_MD: Tensor
    weight_VD: Tensor
    options: HeadOptions
    z_loss: float

    def __call__(self, target: Target, temperature: float = 1.0, z_loss: float | None = None) -> HeadOutput:
        """The fused head on a target."""
        z_loss = self.z_loss if z_loss is None else z_loss
        return fused_linear_cross_entropy(
            self.hidden_MD, self.weight_VD, target, temperature=temperature, z_loss=z_loss, **self.options
        )

    @property
    def vocab_size(self) -> int:
        """V without padding (this rank's part of it)."""
        return self.options.get("vocab_size") or self.weight_VD.shape[0]

    def student(self, num: int) -> TeacherLogits:
        """The student's own logits at the first ``num`` positions, without gradient."""
        bias = self.options.get("bias")
        logits = TeacherLogits(
            self.hidden_MD[:num].detach(),
            self.weight_VD.detach(),
            None if bias is None else bias.detach(),
            self.options.get("softcap"),
        )
        return logits.cut(self.vocab_size)

    def statistics(self, model: TeacherLogits, targets_N: Tensor, temperature: float = 1.0) -> RowStatistics:
        """Entropy and gold log-probability of a model on the same vocabulary."""
        chunk_size, group = self.options.get("chunk_size"), self.options.get("group")
        return row_statistics(model, targets_N, temperature=temperature, chunk_size=chunk_size, group=group)


@dataclass(frozen=True)
class SoftPart:
    """The teacher's side of a loss. Values of (M,) are of every head, of (N,) of positions."""

    name: str
    teacher_ce_M: Tensor
    entropy_M: Tensor  # of the target as used: a truncated label's buckets, say
    divergence_M: Tensor | None  # where it is neither cross-entropy nor forward KL
    kept_M: Tensor  # bool
    routed_N: Tensor  # bool
    teacher_entropy_N: Tensor  # of the teacher's full distribution


@dataclass(frozen=True)
class Parts:
    """A loss with gradient, and what it is made of, detached."""

    loss_M: Tensor
    ce_M: Tensor
    active_M: Tensor
    soft: SoftPart | None


@dataclass(frozen=True)
class _Plan:
    """What each position is trained on, before the head runs."""

    targets_M: Tensor
    hard_M: Tensor  # weight of the hard label
    soft_M: Tensor  # weight of the teacher's label
    labels: SparseTarget | TeacherLogits  # mass about 1 per position
    entropy_M: Tensor
    routed_N: Tensor
    teacher_entropy_N: Tensor


def distilled(
    head: Head, batch: Batch, ahead: Ahead, objective: AnyObjective, labels: SoftLabels | TeacherLogits, seed: int
) -> Parts:
    """The loss of a distilled objective (alpha > 0) at every position of every head."""
    plan = _plan(head, batch, ahead, objective, labels, seed)
    if objective.temperature_form == "both" and objective.temperature != 1.0:
        parts = _two_softmaxes(head, plan, objective)
    else:
        parts = _one_softmax(head, plan, objective)
    if objective.divergence == "forward-kl" and isinstance(plan.labels, SparseTarget):
        return replace(parts, loss_M=parts.loss_M - plan.soft_M * plan.entropy_M * _softened(objective))
    return parts


def smooth(target: SparseTarget, targets_M: Tensor, smoothing: float, head: Head) -> Target:
    """Takes ``smoothing`` of the hard label (column 0) and spreads it evenly over the vocabulary."""
    if smoothing == 0.0:
        return target
    hard_M = target.weights_NK[:, 0] * (targets_M != IGNORE_INDEX)
    weights = torch.cat([(hard_M * (1 - smoothing))[:, None], target.weights_NK[:, 1:]], dim=1)
    return smoothed(replace(target, weights_NK=weights), hard_M * smoothing, head.vocab_size)


def _plan(
    head: Head, batch: Batch, ahead: Ahead, objective: AnyObjective, labels: SoftLabels | TeacherLogits, seed: int
) -> _Plan:
    if isinstance(labels, SoftLabels):
        labels = labels.flatten()
        own = RowStatistics(labels.entropy, labels.gold_logprob)
    else:
        labels = labels if head.options.get("vocab_size") is None else labels.cut(head.vocab_size)
        own = RowStatistics(torch.empty(0), torch.empty(0))
        if objective.routing is not None:
            own = head.statistics(labels, batch.targets_BT.reshape(-1), objective.temperature)
    routed_N = _routed(head, batch, objective, own, seed)
    targets_M, source_M = ahead.targets_HN.reshape(-1), ahead.source_HN.reshape(-1)
    routed_M = routed_N if objective.heads == 1 else routed_N[source_M]
    kept_M = (targets_M != IGNORE_INDEX) & ~routed_M
    restored = 1.0 if objective.routing is not None and objective.routing.hard_weight == "restore" else None
    hard_M = torch.where(routed_M, restored or 1.0 - objective.alpha, 1.0 - objective.alpha)
    if isinstance(labels, SoftLabels):
        target, entropy_N = label_target(labels, batch.targets_BT.reshape(-1), objective.tail)
    else:
        target, entropy_N = labels, own.entropy_N
    if objective.heads > 1:
        target = target.rows(source_M)
        entropy_N = entropy_N[source_M] if entropy_N.numel() else entropy_N
    return _Plan(targets_M, hard_M, kept_M * objective.alpha, target, entropy_N, routed_N, own.entropy_N)


def _routed(head: Head, batch: Batch, objective: AnyObjective, teacher: RowStatistics, seed: int) -> Tensor:
    shape = batch.targets_BT.shape
    if objective.routing is None:
        return torch.zeros(batch.num_positions, dtype=torch.bool, device=batch.targets_BT.device)
    student_BT = None
    if RULES.find(objective.routing.rule).of_student:
        targets_N = batch.targets_BT.reshape(-1)
        student_BT = head.statistics(head.student(batch.num_positions), targets_N).entropy_N.view(shape)
    return route(
        objective.routing,
        batch,
        entropy_BT=teacher.entropy_N.view(shape),
        gold_logprob_BT=teacher.gold_logprob_N.view(shape),
        student_entropy_BT=student_BT,
        seed=seed,
    ).reshape(-1)


def _softened(objective: AnyObjective) -> float:
    """Hinton's factor: T² where the student's softmax has the temperature too, so that gradients keep their size."""
    return objective.temperature**2 if objective.temperature_form == "both" else 1.0


def _soft_target(plan: _Plan, weight_M: Tensor, hard: SparseTarget | None, objective: AnyObjective) -> Target:
    if isinstance(plan.labels, TeacherLogits):
        return DenseTarget(plan.labels, weight_M, hard, objective.temperature, objective.divergence, objective.beta)
    scaled = plan.labels.scaled(weight_M)
    return scaled if hard is None else mix(plan.targets_M, plan.hard_M, scaled)


def _one_softmax(head: Head, plan: _Plan, objective: AnyObjective) -> Parts:
    """Hard and soft term from the same probabilities."""
    target = _soft_target(plan, plan.soft_M, hard_target(plan.targets_M, plan.hard_M), objective)
    active_M = target.active_N
    if isinstance(target, SparseTarget):
        target = smooth(target, plan.targets_M, objective.label_smoothing, head)
    out = head(target)
    return Parts(out.loss_N, out.nll_NK[:, 0], active_M, _soft_part(out, out.nll_NK[:, 1:], plan, objective))


def _two_softmaxes(head: Head, plan: _Plan, objective: AnyObjective) -> Parts:
    """The hard term at temperature 1, the soft term with the student at the teacher's temperature, times T²."""
    target = hard_target(plan.targets_M, plan.hard_M)
    hard = head(smooth(target, plan.targets_M, objective.label_smoothing, head))
    weight_M = plan.soft_M * _softened(objective)
    soft = head(_soft_target(plan, weight_M, None, objective), temperature=objective.temperature, z_loss=0.0)
    part = _soft_part(soft, soft.nll_NK, plan, objective)
    return Parts(hard.loss_N + soft.loss_N, hard.nll_NK[:, 0], target.active_N, part)


def _soft_part(out: HeadOutput, nll_MK: Tensor, plan: _Plan, objective: AnyObjective) -> SoftPart:
    entropy_M, teacher_entropy_N = plan.entropy_M, plan.teacher_entropy_N
    divergence_M = None
    if isinstance(plan.labels, SparseTarget):
        teacher_ce_M = (plan.labels.weights_NK * nll_MK).sum(-1)
        if plan.labels.tail_N is not None and out.tail_nll_N is not None:
            teacher_ce_M = teacher_ce_M + plan.labels.tail_N * out.tail_nll_N
    else:
        assert out.teacher_ce_N is not None and out.teacher_entropy_N is not None
        teacher_ce_M, entropy_M = out.teacher_ce_N, out.teacher_entropy_N
        if objective.divergence in ("reverse-kl", "jensen-shannon"):
            divergence_M = out.divergence_N
        if not teacher_entropy_N.numel():
            teacher_entropy_N = entropy_M[: plan.routed_N.shape[0]]
    return SoftPart(
        objective.divergence,
        teacher_ce_M,
        entropy_M,
        divergence_M,
        plan.soft_M > 0,
        plan.routed_N,
        teacher_entropy_N,
    )
