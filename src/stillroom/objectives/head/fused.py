"""The fused head: hidden states to nats per position, with the gradient taken in the forward pass.

Legend: N positions, V vocabulary, K listed ids, D width. Knows no model, no trainer and no reduction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import torch
import torch.distributed as dist
from torch import Tensor

from stillroom.objectives.head._call import Call, backward, needs_of
from stillroom.objectives.head._chunks import Needs, Settings
from stillroom.objectives.head._compiled import compiled_head
from stillroom.objectives.head._shards import Shard
from stillroom.objectives.targets import DenseTarget, Target, TeacherLogits
from stillroom.types import UserError


@dataclass(frozen=True)
class HeadOutput:
    """Nats per position. ``loss_N`` and ``total`` carry gradient; the rest is detached, and 0 without meaning where a
    position has no weight.

    ``total`` () is Σ loss_N: its gradient is always the one taken in the forward pass. ``loss_N`` gives the same
    gradient at the same cost when every position's upstream gradient is equal (a sum or a mean over all of them), and
    computes the chunks again when it is not.
    """

    loss_N: Tensor
    total: Tensor
    nll_NK: Tensor
    """-log p of every listed id of the (hard) target."""
    lse_N: Tensor
    """logsumexp of the logits."""
    tail_nll_N: Tensor | None = None
    """-log of the probability outside the listed ids, where the target has a tail."""
    divergence_N: Tensor | None = None
    """The divergence from a dense target's teacher, without its weight."""
    teacher_ce_N: Tensor | None = None
    """Cross-entropy against a dense target's teacher."""
    teacher_entropy_N: Tensor | None = None
    """That teacher's entropy, at the target's temperature."""


class HeadOptions(TypedDict, total=False):
    """What the unembedding is like; what is left out is None."""

    bias: Tensor | None
    """(V,) added to the logits."""
    softcap: float | None
    """Logits become softcap·tanh(logits / softcap)."""
    chunk_size: int | None
    """Positions whose logits are held at once; None picks what suits the device."""
    vocab_size: int | None
    """Tokens of the tokenizer where student or teacher is padded beyond it; padding gets probability 0."""
    group: dist.ProcessGroup | None
    """Ranks that hold the vocabulary in parts: ``weight_VD`` and ``bias`` (and a teacher's) are this rank's rows, in
    rank order (of a DTensor: ``weight.to_local()`` and its mesh's group); ids stay global and hidden states are the
    same on every rank."""


def fused_linear_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target: Target,
    *,
    temperature: float = 1.0,
    z_loss: float = 0.0,
    **options: Unpack[HeadOptions],
) -> HeadOutput:
    """Loss (nats) of ``softmax(hidden·weightᵀ + bias)`` against a weighted target, never holding N·V logits.

    Arguments:
        hidden_ND: hidden states in any floating dtype; under autocast the matmuls run in the autocast dtype.
        weight_VD: the unembedding.
        target: weighted ids, or a live teacher, at each position.
        temperature: of the student's softmax, for every term of the target.
        z_loss: adds z_loss·logsumexp² on every position that has weight.
        options: what the unembedding is like; see ``HeadOptions``.

    Returns:
        ``HeadOutput``. Sums are over positions, never means: who reduces knows the global count.

    Raises:
        UserError: The shapes do not fit one another, or ``vocab_size`` is given with ``group``.
    """
    bias, group, vocab_size = options.get("bias"), options.get("group"), options.get("vocab_size")
    if vocab_size is not None:
        weight_VD, bias, target = _cut(weight_VD, bias, target, vocab_size, group)
    _check(hidden_ND, weight_VD, target)
    dtype = matmul_dtype(hidden_ND)
    teacher_dtype = teacher_matmul_dtype(target.teacher) if isinstance(target, DenseTarget) else dtype
    settings = Settings(dtype, teacher_dtype, options.get("softcap"), temperature, z_loss, options.get("chunk_size"))
    if not torch.compiler.is_compiling():
        outputs = eager_head(hidden_ND, weight_VD, bias, target, settings, group)
    elif group is None:
        outputs = compiled_head(hidden_ND, weight_VD, bias, target, settings)
    else:
        from stillroom.objectives.head._uncompiled import uncompiled_head

        outputs = uncompiled_head(hidden_ND, weight_VD, bias, target, settings, group)
    return _output(outputs, target)


def _output(outputs: tuple[Tensor, ...], target: Target) -> HeadOutput:
    """The head's tensors by their names; those that the target does not give are None."""
    loss, total, nll, lse, tail_nll, *of_teacher = outputs
    dense = isinstance(target, DenseTarget)
    has_tail = (target.hard_or_none() if dense else target).tail_N is not None
    return HeadOutput(
        loss, total, nll, lse, tail_nll if has_tail else None, *(of_teacher if dense else [None] * len(of_teacher))
    )


def _cut(
    weight_VD: Tensor, bias_V: Tensor | None, target: Target, vocab_size: int, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor | None, Target]:
    """Student and teacher without their padding rows."""
    if group is not None:
        raise UserError("fused_linear_cross_entropy: vocab_size with group; give each rank its rows without padding.")
    if isinstance(target, DenseTarget):
        target = replace(target, teacher=target.teacher.cut(vocab_size))
    if vocab_size == weight_VD.shape[0]:
        return weight_VD, bias_V, target
    return weight_VD[:vocab_size], None if bias_V is None else bias_V[:vocab_size], target


def _check(hidden_ND: Tensor, weight_VD: Tensor, target: Target) -> None:
    if hidden_ND.ndim != 2 or weight_VD.ndim != 2 or hidden_ND.shape[1] != weight_VD.shape[1]:
        raise UserError(
            f"fused_linear_cross_entropy: hidden {tuple(hidden_ND.shape)} and weight {tuple(weight_VD.shape)} do not "
            "fit, expected (N, D) and (V, D); flatten batch and time."
        )
    num = target.active_N.shape[0]
    if num != hidden_ND.shape[0]:
        raise UserError(
            f"fused_linear_cross_entropy: the target has {num} positions, the hidden states have "
            f"{hidden_ND.shape[0]}; give one target per position."
        )
    if isinstance(target, DenseTarget) and target.teacher.vocab_size != weight_VD.shape[0]:
        raise UserError(
            f"fused_linear_cross_entropy: the teacher has {target.teacher.vocab_size} logits, the student "
            f"{weight_VD.shape[0]}; if one is padded beyond the same tokenizer, give vocab_size (the tokenizer's)."
        )


def matmul_dtype(hidden_ND: Tensor) -> torch.dtype:
    """The autocast dtype where autocast is on, else that of the hidden states."""
    kind = hidden_ND.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_ND.dtype


def teacher_matmul_dtype(teacher: TeacherLogits) -> torch.dtype:
    """The dtype in which a teacher's logits are multiplied out; ready logits are not rounded to it."""
    return teacher.hidden_NE.dtype if teacher.weight_VE is None else matmul_dtype(teacher.hidden_NE)


def eager_head(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Target,
    settings: Settings,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, ...]:
    """What ``compiled_head`` gives, outside ``torch.compile``."""
    shard = Shard.of(weight.shape[0], group, hidden.device)
    return _FusedHead.apply(hidden, weight, bias, target, settings, shard, needs_of(hidden, weight, bias))  # type: ignore[return-value]


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Target,
        settings: Settings,
        shard: Shard,
        needs: Needs,
    ) -> tuple[Tensor, ...]:
        ctx.call, ctx.needs = Call.of(target, settings, shard), needs
        values, ctx.taken = ctx.call.run(hidden, weight, bias, ctx.needs)
        ctx.save_for_backward(hidden, weight, bias)
        ctx.set_materialize_grads(False)
        loss, *rest = values.tensors()
        ctx.mark_non_differentiable(*rest)
        return loss, loss.sum(), *rest

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        of_loss, of_total = upstream[:2]
        if of_loss is None and of_total is None:
            return (None,) * 7
        taken, ctx.taken = ctx.taken, None  # scaled in place: a second backward computes the chunks again
        parts = None if taken is None else taken.tensors()
        result = backward(ctx.call, parts, ctx.saved_tensors, ctx.needs, of_loss, of_total, in_place=True)
        return *result, None, None, None, None
