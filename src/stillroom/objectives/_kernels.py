"""One pass over the vocabulary, chunk by chunk: loss and gradient of a weighted target.

How it stays quick: the logits of a chunk live in one buffer that becomes the probabilities and then the gradient in
place; element-wise work runs over blocks of rows that fit the cache, in float32, whatever the precision of the matmuls.
Letters: N positions, n positions of a chunk, V vocabulary, K listed ids, D width. Imports targets only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.objectives.targets import SparseTarget

BLOCK_BYTES = 4 << 20  # element-wise work per step: within the last-level cache of one socket, even when shared
CHUNK_BYTES = 64 << 20  # logits held at once on a CPU: enough rows for the weight gradient to run at matmul speed
CHUNK_BYTES_GPU = 512 << 20


@dataclass(frozen=True)
class Settings:
    """What the head computes with: matmul dtype, and the knobs of the loss."""

    dtype: torch.dtype
    softcap: float | None = None
    z_loss: float = 0.0
    chunk_size: int | None = None

    @property
    def precise(self) -> torch.dtype:
        """The dtype of every element-wise step and of the accumulated gradient."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def rows(self, vocab_size: int, device: torch.device) -> int:
        """Positions per chunk."""
        if self.chunk_size is not None:
            return self.chunk_size
        limit = CHUNK_BYTES if device.type == "cpu" else CHUNK_BYTES_GPU
        return max(limit // (vocab_size * self.dtype.itemsize), 16)


@dataclass(frozen=True)
class Pass:
    """Per-position results in nats, and the gradient of their sum where it was asked for."""

    loss_N: Tensor
    nll_NK: Tensor
    lse_N: Tensor
    tail_nll_N: Tensor
    grad_hidden_ND: Tensor | None
    grad_weight_VD: Tensor | None
    grad_bias_V: Tensor | None


def spans(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` that cover ``range(total)``."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


class _Gradients:
    """Accumulators for the gradients that are wanted."""

    def __init__(self, hidden_ND: Tensor, weight_VD: Tensor, needs: tuple[bool, bool, bool], precise: torch.dtype):
        self.hidden = torch.zeros_like(hidden_ND) if needs[0] else None
        self.weight = torch.zeros_like(weight_VD, dtype=precise) if needs[1] else None
        self.bias = weight_VD.new_zeros(weight_VD.shape[0], dtype=precise) if needs[2] else None

    @property
    def wanted(self) -> bool:
        return self.hidden is not None or self.weight is not None or self.bias is not None

    def add(self, where: slice, grad_nV: Tensor, hidden_nD: Tensor, weight_VD: Tensor) -> None:
        """Takes the gradient of a chunk's logits on to hidden states and weight."""
        if self.hidden is not None:
            self.hidden[where] = (grad_nV @ weight_VD).to(self.hidden.dtype)
        if self.weight is None:
            return
        if grad_nV.dtype == self.weight.dtype:
            self.weight.addmm_(grad_nV.t(), hidden_nD)
        else:
            self.weight.add_(grad_nV.t() @ hidden_nD)


def sparse_pass(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    target: SparseTarget,
    settings: Settings,
    needs: tuple[bool, bool, bool],
    scale_N: Tensor | None = None,
) -> Pass:
    """Loss per position, and the gradient of Σ_n scale_n · loss_n for (hidden, weight, bias) as ``needs`` says."""
    vocab_size, num = weight_VD.shape[0], hidden_ND.shape[0]
    precise = settings.precise
    hidden, weight = hidden_ND.to(settings.dtype), weight_VD.to(settings.dtype)
    gradients = _Gradients(hidden_ND, weight_VD, needs, precise)
    rows = min(settings.rows(vocab_size, hidden.device), max(num, 1))
    buffer = hidden.new_empty(rows, vocab_size)
    out = Pass(
        hidden.new_zeros(num, dtype=precise),
        hidden.new_zeros(target.ids_NK.shape, dtype=precise),
        hidden.new_zeros(num, dtype=precise),
        hidden.new_zeros(num, dtype=precise),
        gradients.hidden,
        gradients.weight,
        gradients.bias,
    )
    for chunk in spans(num, rows):
        logits = buffer[: chunk.stop - chunk.start]
        torch.mm(hidden[chunk], weight.t(), out=logits)
        for block, values in _blocks(logits, chunk, settings):
            _block(values, bias_V, target.rows(block), settings, block, out, scale_N, gradients.wanted)
            if gradients.wanted and values.dtype != logits.dtype:
                logits[block.start - chunk.start : block.stop - chunk.start] = values
        if gradients.wanted:
            gradients.add(chunk, logits, hidden[chunk], weight)
    return out


def _blocks(logits_nV: Tensor, chunk: slice, settings: Settings) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of a chunk's rows in the precise dtype: views of the buffer, or copies in scratch memory."""
    size = logits_nV.shape[0]
    if logits_nV.device.type == "cpu":
        size = max(BLOCK_BYTES // (logits_nV.shape[1] * settings.precise.itemsize), 1)
    scratch = None
    for local in spans(logits_nV.shape[0], size):
        values = logits_nV[local]
        if values.dtype != settings.precise:
            scratch = torch.empty_like(values, dtype=settings.precise) if scratch is None else scratch
            values = scratch[: values.shape[0]].copy_(values)
        yield slice(chunk.start + local.start, chunk.start + local.stop), values


def _block(
    values_nV: Tensor,
    bias_V: Tensor | None,
    target: SparseTarget,
    settings: Settings,
    block: slice,
    out: Pass,
    scale_N: Tensor | None,
    gradient: bool,
) -> None:
    """Loss of a block of rows; turns its logits into the gradient of the loss for them, in place."""
    if bias_V is not None:
        values_nV += bias_V
    slope_nV = cap_(values_nV, settings.softcap)
    weights = target.weights_NK.to(values_nV.dtype)
    picked = values_nV.gather(1, target.ids_NK)
    lse_n = softmax_(values_nV)
    nll = lse_n[:, None] - picked
    active = target.active_N
    loss = (weights * nll).sum(-1)
    coefficient = weights.sum(-1)
    additions = -weights
    if target.tail_N is not None:
        tail = target.tail_N.to(values_nV.dtype)
        rest_n, listed = _rest(values_nV, target)
        tail_nll = -rest_n.log()
        loss = loss + torch.where(tail > 0, tail * tail_nll, 0.0)
        ratio = torch.where(tail > 0, tail / rest_n, 0.0)
        coefficient = coefficient - ratio * (1 - rest_n)
        additions = additions + ratio[:, None] * torch.where(listed, (-nll).exp(), 0.0)
        out.tail_nll_N[block] = tail_nll
    if settings.z_loss:
        loss = loss + settings.z_loss * lse_n.square() * active
        coefficient = coefficient + 2 * settings.z_loss * lse_n * active
    out.loss_N[block] = torch.where(active, loss, 0.0)
    out.nll_NK[block] = nll
    out.lse_N[block] = lse_n
    if not gradient:
        return
    if scale_N is not None:
        scale = scale_N[block].to(values_nV.dtype)
        coefficient, additions = coefficient * scale, additions * scale[:, None]
    values_nV.mul_(coefficient[:, None]).scatter_add_(1, target.ids_NK, additions)
    if slope_nV is not None:
        values_nV.mul_(slope_nV)
    if out.grad_bias_V is not None:
        out.grad_bias_V.add_(values_nV.sum(0))


def cap_(values_nV: Tensor, softcap: float | None) -> Tensor | None:
    """Caps logits to softcap·tanh(z / softcap) in place; the derivative of that, or None without a cap."""
    if softcap is None:
        return None
    values_nV.div_(softcap).tanh_()
    slope = 1 - values_nV.square()
    values_nV.mul_(softcap)
    return slope


def softmax_(values_nV: Tensor) -> Tensor:
    """Turns logits into probabilities in place; the logsumexp of each row.

    logsumexp = highest - log(probability of the highest), which is at least 1/V: no cancellation, no further pass.
    """
    highest_n, index_n = values_nV.max(-1)
    torch.softmax(values_nV, -1, out=values_nV)
    return highest_n - values_nV.gather(1, index_n[:, None]).squeeze(1).log()


def _rest(probabilities_nV: Tensor, target: SparseTarget) -> tuple[Tensor, Tensor]:
    """The probability outside the listed ids, summed directly (1 - Σ p cancels when it is small); the listed mask."""
    listed = target.outside_tail_NK
    picked = probabilities_nV.gather(1, target.ids_NK)
    removed = torch.where(listed, picked, 0.0)
    probabilities_nV.scatter_add_(1, target.ids_NK, -removed)
    rest_n = probabilities_nV.sum(-1).clamp(min=torch.finfo(picked.dtype).tiny)
    probabilities_nV.scatter_add_(1, target.ids_NK, removed)
    return rest_n, listed
