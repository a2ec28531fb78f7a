"""The fused head: hidden states to nats per position, with the gradient taken in the forward pass.

Legend: N positions, V vocabulary, K listed ids, D width. Knows no model, no trainer and no ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stillroom.objectives._kernels import Pass, Settings, sparse_pass
from stillroom.objectives.targets import SparseTarget
from stillroom.types import UserError


@dataclass(frozen=True)
class HeadOutput:
    """Nats per position. ``loss_N`` and ``total`` carry gradient; the rest is detached.

    ``total`` is Σ loss_N: its gradient is always the one taken in the forward pass. ``loss_N`` gives the same gradient
    at the same cost when every position's upstream gradient is equal (a sum or a mean over all of them), and computes
    the chunks again when it is not.
    """

    loss_N: Tensor
    total: Tensor
    nll_NK: Tensor
    """-log p of every listed id; 0 on positions that have no weight."""
    lse_N: Tensor
    """logsumexp of the logits; 0 on positions that have no weight."""
    tail_nll_N: Tensor | None
    """-log of the probability outside the listed ids, where the target has a tail."""


def fused_linear_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target: SparseTarget,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    z_loss: float = 0.0,
    chunk_size: int | None = None,
    vocab_size: int | None = None,
) -> HeadOutput:
    """Cross-entropy (nats) of ``softmax(hidden·weightᵀ + bias)`` against a weighted target, never holding N·V logits.

    Arguments:
        hidden_ND: hidden states in any floating dtype; under autocast the matmuls run in the autocast dtype.
        weight_VD: the unembedding.
        target: weighted ids of each position.
        bias: (V,) added to the logits.
        softcap: logits become softcap·tanh(logits / softcap).
        z_loss: adds z_loss·logsumexp² on every position that has weight.
        chunk_size: positions whose logits are held at once; None picks what suits the device.
        vocab_size: tokens of the tokenizer where the weight is padded beyond it; padding gets probability exactly 0.

    Returns:
        ``HeadOutput``. Sums are over positions, never means: who reduces knows the global count.
    """
    _check(hidden_ND, weight_VD, target)
    if vocab_size is not None and vocab_size < weight_VD.shape[0]:
        weight_VD, bias = weight_VD[:vocab_size], None if bias is None else bias[:vocab_size]
    settings = Settings(_matmul_dtype(hidden_ND), softcap, z_loss, chunk_size)
    index, hidden, kept = _compress(hidden_ND, target)
    results = _FusedHead.apply(hidden, weight_VD, bias, kept, settings)
    loss, total, nll, lse, tail_nll = results  # type: ignore[misc]
    if index is not None:
        num = hidden_ND.shape[0]
        loss, nll, lse, tail_nll = (
            part.new_zeros(num, *part.shape[1:]).index_put((index,), part) for part in (loss, nll, lse, tail_nll)
        )
    return HeadOutput(loss, total, nll, lse, None if target.tail_N is None else tail_nll)


def _check(hidden_ND: Tensor, weight_VD: Tensor, target: SparseTarget) -> None:
    if hidden_ND.ndim != 2 or weight_VD.ndim != 2 or hidden_ND.shape[1] != weight_VD.shape[1]:
        raise UserError(
            f"fused_linear_cross_entropy: hidden {tuple(hidden_ND.shape)} and weight {tuple(weight_VD.shape)} do not "
            "fit, expected (N, D) and (V, D); flatten batch and time."
        )
    if target.ids_NK.shape[0] != hidden_ND.shape[0]:
        raise UserError(
            f"fused_linear_cross_entropy: the target has {target.ids_NK.shape[0]} positions, the hidden states have "
            f"{hidden_ND.shape[0]}; give one target per position."
        )


def _matmul_dtype(hidden_ND: Tensor) -> torch.dtype:
    kind = hidden_ND.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_ND.dtype


def _compress(hidden_ND: Tensor, target: SparseTarget) -> tuple[Tensor | None, Tensor, SparseTarget]:
    """Leaves positions without weight out of the matmuls on a CPU, where counting them is free of a device sync."""
    if hidden_ND.device.type != "cpu":
        return None, hidden_ND, target
    active = target.active_N
    if bool(active.all()):
        return None, hidden_ND, target
    index = active.nonzero().squeeze(1)
    return index, hidden_ND[index], target.rows(index)


def uniform(gradient_N: Tensor) -> bool:
    """Whether a gradient is one number repeated, judged from its strides alone (no device sync)."""
    return gradient_N.numel() == 1 or gradient_N.stride(0) == 0


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: SparseTarget, settings: Settings
    ) -> tuple[Tensor, ...]:
        with torch.autocast(hidden.device.type, enabled=False):
            result = sparse_pass(hidden, weight, bias, target, settings, ctx.needs_input_grad[:3])
        ctx.save_for_backward(hidden, weight, bias)
        ctx.target, ctx.settings, ctx.taken = target, settings, result
        ctx.set_materialize_grads(False)
        outputs = (result.loss_N, result.loss_N.sum(), result.nll_NK, result.lse_N, result.tail_nll_N)
        ctx.mark_non_differentiable(*outputs[2:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        loss_gradient, total_gradient = upstream[:2]
        hidden, weight, bias = ctx.saved_tensors
        taken: Pass | None = ctx.taken
        if loss_gradient is None and total_gradient is None:
            return None, None, None, None, None
        if taken is not None and (loss_gradient is None or uniform(loss_gradient)):
            repeated = None if loss_gradient is None else loss_gradient[:1].sum()
            factor = sum(part for part in (repeated, total_gradient) if part is not None)
            ctx.taken = None  # scaled in place: a second backward computes the chunks again
            scaled = [
                None if part is None else part.mul_(factor)
                for part in (taken.grad_hidden_ND, taken.grad_weight_VD, taken.grad_bias_V)
            ]
        else:
            scale = 0.0 if total_gradient is None else total_gradient
            scale_N = hidden.new_zeros(hidden.shape[0], dtype=ctx.settings.precise) + scale
            scale_N = scale_N if loss_gradient is None else scale_N + loss_gradient
            with torch.autocast(hidden.device.type, enabled=False):
                again = sparse_pass(hidden, weight, bias, ctx.target, ctx.settings, ctx.needs_input_grad[:3], scale_N)
            scaled = [again.grad_hidden_ND, again.grad_weight_VD, again.grad_bias_V]
        casts = [
            None if part is None else part.to(like.dtype)
            for part, like in zip(scaled, (hidden, weight, bias), strict=True)
        ]
        return casts[0], casts[1], casts[2], None, None
