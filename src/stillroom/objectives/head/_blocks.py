"""Loss and gradient of a block of rows that fits the cache, given its logits; element-wise work only.

Every function here works in place on the logits it is given. With the vocabulary cut over ranks, ``softmax_`` leaves
probabilities relative to the local part, and a factor per row carries the rest.
Letters: n positions of a block, V vocabulary (local part), K listed ids. Imports targets only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.objectives.head._shards import Shard
from stillroom.objectives.targets import DenseTarget, SparseTarget

LOWEST = -1e30
"""Stands for a logit of -inf (a probability given as exactly 0): 0 · -inf would be NaN."""


@dataclass(frozen=True)
class Softmax:
    """What is left of a row of logits besides its probabilities: logsumexp, and global over local probability."""

    lse_n: Tensor
    share_n: Tensor | None


def cap_(values_nV: Tensor, softcap: float | None) -> Tensor | None:
    """Caps logits to softcap·tanh(z / softcap) in place; the derivative of that, or None without a cap."""
    if softcap is None:
        return None
    values_nV.div_(softcap).tanh_()
    slope = 1 - values_nV.square()
    values_nV.mul_(softcap)
    return slope


def finish_(logits_nV: Tensor, bias_V: Tensor | None, softcap: float | None) -> Tensor | None:
    """Adds the bias and caps, in place; the derivative of the cap, or None without one."""
    if bias_V is not None:
        logits_nV += bias_V
    return cap_(logits_nV, softcap)


def softmax_(logits_nV: Tensor, shard: Shard, out: Tensor | None = None) -> Softmax:
    """Writes the (local) probabilities to ``out``, by default over the logits.

    logsumexp = highest logit - log(highest probability), which is at least 1/V: neither cancellation nor a pass with
    exponentials of its own.
    """
    highest_n = logits_nV.amax(-1)
    out = torch.softmax(logits_nV, -1, out=logits_nV if out is None else out)
    lse_n = highest_n - out.amax(-1).log()
    whole_n = shard.logsumexp(lse_n)
    return Softmax(whole_n, None if shard.group is None else (lse_n - whole_n).exp())


@dataclass(frozen=True)
class SparseBlock:
    """What a sparse target gives for a block.

    The gradient for the logits is coefficient·p + scatter(additions).
    """

    loss_n: Tensor
    nll_nK: Tensor
    tail_nll_n: Tensor | None
    coefficient_n: Tensor
    additions_nK: Tensor


def picked(logits_nV: Tensor, target: SparseTarget, shard: Shard) -> Tensor:
    """The logits of the listed ids (n, K)."""
    ids, here = shard.local(target.ids_NK)
    values = logits_nV.gather(1, ids)
    return values if here is None else shard.sum_(values.masked_fill_(~here, 0.0))


def gradient_(
    probabilities_nV: Tensor,
    coefficient_n: Tensor,
    additions_nK: Tensor,
    target: SparseTarget,
    softmax: Softmax,
    scale_n: Tensor | None,
    shard: Shard,
) -> None:
    """Turns probabilities into scale · (coefficient · p + scatter(additions)), in place; repeated ids add up."""
    if scale_n is not None:
        coefficient_n, additions_nK = coefficient_n * scale_n, additions_nK * scale_n[:, None]
    if softmax.share_n is not None:
        coefficient_n = coefficient_n * softmax.share_n
    ids, here = shard.local(target.ids_NK)
    probabilities_nV.mul_(coefficient_n[:, None])
    probabilities_nV.scatter_add_(1, ids, additions_nK if here is None else additions_nK * here)


def sparse_block(
    probabilities_nV: Tensor, picked_nK: Tensor, softmax: Softmax, target: SparseTarget, shard: Shard
) -> SparseBlock:
    """Loss of a weighted list of ids, and how the logits' gradient follows from the probabilities."""
    weights = target.weights_NK.to(picked_nK.dtype)
    nll = softmax.lse_n[:, None] - picked_nK
    loss, coefficient, additions = (weights * nll).sum(-1), weights.sum(-1), -weights
    tail_nll = None
    if target.tail_N is not None:
        tail = target.tail_N.to(weights.dtype)
        rest = _outside(probabilities_nV, nll, softmax, target, shard)
        tail_nll = -rest.log()
        ratio = torch.where(tail > 0, tail / rest, 0.0)
        loss = loss + torch.where(tail > 0, tail * tail_nll, 0.0)
        coefficient = coefficient - ratio * (1 - rest)
        additions = additions + ratio[:, None] * torch.where(target.outside_tail_NK, (-nll).exp(), 0.0)
    return SparseBlock(loss, nll, tail_nll, coefficient, additions)


def _outside(probabilities_nV: Tensor, nll_nK: Tensor, softmax: Softmax, target: SparseTarget, shard: Shard) -> Tensor:
    """The probability outside the listed ids, summed directly: 1 - Σ p cancels where it is small."""
    ids, here = shard.local(target.ids_NK)
    listed = target.outside_tail_NK if here is None else target.outside_tail_NK & here
    removed = torch.where(listed, probabilities_nV.gather(1, ids), 0.0)
    probabilities_nV.scatter_add_(1, ids, -removed)
    rest = probabilities_nV.sum(-1)
    probabilities_nV.scatter_add_(1, ids, removed)
    rest = shard.sum_(rest if softmax.share_n is None else rest * softmax.share_n)
    return rest.clamp(min=torch.finfo(rest.dtype).tiny)


@dataclass(frozen=True)
class DenseBlock:
    """What a dense target gives for a block: values in nats; the gradient is left in the teacher's buffer."""

    loss_n: Tensor
    teacher_ce_n: Tensor
    entropy_n: Tensor
    lse_n: Tensor


def dense_block_(
    student_nV: Tensor, teacher_nV: Tensor, target: DenseTarget, shard: Shard, gradient: bool
) -> DenseBlock:
    """Turns student logits into probabilities, and teacher logits into d(divergence)/d(student logits), in place.

    Both are global (not per part) probabilities and gradients, unlike after ``softmax_``.
    """
    if target.temperature != 1.0:
        teacher_nV.div_(target.temperature)
    if target.teacher.weight_VE is None:
        teacher_nV.clamp_(min=LOWEST)
    q = torch.empty_like(teacher_nV)
    of_q = softmax_(teacher_nV, shard, out=q)
    _globalise_(q, of_q)
    entropy = of_q.lse_n - shard.sum_(torch.linalg.vecdot(q, teacher_nV))
    teacher_ce = -shard.sum_(torch.linalg.vecdot(q, student_nV))
    if target.divergence in ("cross-entropy", "forward-kl"):
        of_p = softmax_(student_nV, shard)
        _globalise_(student_nV, of_p)
        teacher_ce += of_p.lse_n
        if gradient:
            torch.sub(student_nV, q, out=teacher_nV)
        loss = teacher_ce if target.divergence == "cross-entropy" else teacher_ce - entropy
        return DenseBlock(loss, teacher_ce, entropy, of_p.lse_n)
    teacher_nV.sub_(of_q.lse_n[:, None])  # log q
    log_p = student_nV.clone()
    of_p = softmax_(student_nV, shard)
    _globalise_(student_nV, of_p)
    teacher_ce += of_p.lse_n
    log_p.sub_(of_p.lse_n[:, None])
    if target.divergence == "reverse-kl":
        loss = _reverse_(student_nV, log_p, teacher_nV, shard)
    else:
        loss = _jensen_shannon_(student_nV, log_p, q, teacher_nV, target.beta, shard)
    return DenseBlock(loss, teacher_ce, entropy, of_p.lse_n)


def _globalise_(probabilities_nV: Tensor, softmax: Softmax) -> None:
    if softmax.share_n is not None:
        probabilities_nV.mul_(softmax.share_n[:, None])


def _reverse_(p: Tensor, log_p: Tensor, log_q: Tensor, shard: Shard) -> Tensor:
    """KL(p‖q) per row; leaves p·(log p - log q - KL) in ``log_q``."""
    gap = torch.sub(log_p, log_q, out=log_q)
    loss = shard.sum_(torch.linalg.vecdot(p, gap))
    gap.sub_(loss[:, None]).mul_(p)
    return loss


def _jensen_shannon_(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor, beta: float, shard: Shard) -> Tensor:
    """β·KL(q‖m) + (1-β)·KL(p‖m) per row; leaves (1-β)·p·(log p - log m - KL(p‖m)) in ``log_q``."""
    log_m = torch.lerp(p, q, beta).clamp_(min=torch.finfo(p.dtype).tiny).log_()
    of_teacher = shard.sum_(torch.linalg.vecdot(q, log_q.sub_(log_m)))
    gap = torch.sub(log_p, log_m, out=log_q)
    of_student = shard.sum_(torch.linalg.vecdot(p, gap))
    gap.sub_(of_student[:, None]).mul_(p).mul_(1 - beta)
    return beta * of_teacher + (1 - beta) * of_student
