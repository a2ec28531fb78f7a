"""What is right: the loss in float64 and in few lines, on whole logits, written for reading and for nothing else.

Letters as in ``adapter``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillroom.conformance.adapter import Adapter, LossCase, Tail
from stillroom.conformance.told import Broken
from stillroom.types import IGNORE_INDEX, SoftLabels

NAMES = ("the value", "the gradient of the hidden states", "the gradient of the unembedding")


@dataclass(frozen=True)
class Found:
    """A loss and its gradient, per counted position of the step."""

    value: Tensor
    hidden: Tensor
    weight: Tensor

    def __sub__(self, other: Found) -> Found:
        return Found(self.value - other.value, self.hidden - other.hidden, self.weight - other.weight)

    def __mul__(self, factor: float) -> Found:
        return Found(self.value * factor, self.hidden * factor, self.weight * factor)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Value, gradient of the hidden states, gradient of the unembedding."""
        return self.value, self.hidden, self.weight

    @property
    def named(self) -> tuple[tuple[str, Tensor], ...]:
        """The same with what each is called."""
        return tuple(zip(NAMES, self.tensors, strict=True))


def loss_case(seed: int = 0, rows: int = 2, length: int = 6, vocab: int = 24, width: int = 8) -> LossCase:
    """A small problem in float32; another seed gives another student, teacher and targets."""
    g = torch.Generator().manual_seed(seed)
    hidden, teacher = torch.randn(2, rows, length, width, generator=g)
    weight, teacher_weight = torch.randn(2, vocab, width, generator=g) * 0.6
    return LossCase(hidden, weight, teacher, teacher_weight, torch.randint(vocab, (rows, length), generator=g))


def divergence_nats(log_p: Tensor, log_q: Tensor, name: str, beta: float) -> Tensor:
    """Nats per position of a student p from a teacher q, given as logarithms over the last axis."""
    p, q = log_p.exp(), log_q.exp()
    if name == "cross-entropy":
        return -(q * log_p).sum(-1)
    if name == "forward-kl":
        return (q * (log_q - log_p)).sum(-1)
    if name == "reverse-kl":
        return (p * (log_p - log_q)).sum(-1)
    log_m = ((1 - beta) * p + beta * q).log()
    return beta * (q * (log_q - log_m)).sum(-1) + (1 - beta) * (p * (log_p - log_m)).sum(-1)


def sparse_loss(log_p: Tensor, labels: SoftLabels, tail: Tail | None) -> Tensor:
    """Cross-entropy per position against listed ids, with the declared tail; nothing is added for the teacher."""
    weights = labels.weights.to(log_p.dtype)
    listed = log_p.gather(-1, labels.ids)
    if tail == "renormalise":
        weights = weights / weights.sum(-1, keepdim=True)
    loss = -(weights * listed).sum(-1)
    if tail == "bucket" and labels.tail is not None:
        outside = torch.ones_like(log_p).scatter(-1, labels.ids, 0.0)
        loss = loss - labels.tail * (log_p.exp() * outside).sum(-1).log()
    return loss


def right(case: LossCase, tail: Tail | None = None) -> Found:
    """The loss that a case at temperature 1, without cap and padding, has, and its gradient, in float64."""
    leaves = replace(case, hidden_BTD=case.hidden_BTD.double(), weight_VD=case.weight_VD.double()).leaves()
    log_p = leaves.logits_BTV.log_softmax(-1)
    if case.labels is None:
        log_q = (case.teacher_hidden_BTE.double() @ case.teacher_weight_WE.double().t()).log_softmax(-1)
        soft = divergence_nats(log_p, log_q, case.divergence, case.beta)
    else:
        soft = sparse_loss(log_p, case.labels, tail)
    total = (case.alpha * soft + (1 - case.alpha) * next_token_loss(log_p, case.targets_BT))[
        case.targets_BT != IGNORE_INDEX
    ].sum()
    return _graded(total / case.counted, leaves)


def next_token_loss(log_p: Tensor, targets: Tensor) -> Tensor:
    """-log p of the next token, nats per position; 0 where there is no target."""
    nats = -log_p.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    return nats * (targets != IGNORE_INDEX)


def differentiated(adapter: Adapter, case: LossCase, view: Callable[[LossCase], LossCase] = lambda case: case) -> Found:
    """What an adapter's loss gives of ``view(case)``, with the gradient of the case's own tensors."""
    assert adapter.loss is not None
    leaves = case.leaves()
    shown = view(leaves)
    try:
        loss = adapter.loss(shown)
        loss = loss / max(shown.counted, 1) if adapter.reduction == "sum" else loss
        return _graded(loss, leaves)
    except Exception as error:
        rows = f"{shown.targets_BT.numel()} positions, {int((shown.targets_BT != IGNORE_INDEX).sum())} of them counted"
        raise Broken(f"{rows}: expected a scalar with gradient, found {type(error).__name__}: {error}") from error


def _graded(loss: Tensor, leaves: LossCase) -> Found:
    inputs = [leaves.hidden_BTD, leaves.weight_VD]
    grads = torch.autograd.grad(loss, inputs, allow_unused=True)
    filled = [torch.zeros_like(part) if grad is None else grad for part, grad in zip(inputs, grads, strict=True)]
    return Found(loss.detach(), *filled)


def largest_labels(case: LossCase, num: int) -> SoftLabels:
    """The teacher's ``num`` largest probabilities at every position, with what lies outside them."""
    q = case.teacher_logits_BTW.softmax(-1)
    top = q.topk(num, -1)
    gold = q.gather(-1, case.targets_BT.clamp(min=0)[..., None])
    rank = (q > gold).sum(-1).int()
    tail = (1 - top.values.sum(-1)).clamp(min=0)
    return SoftLabels(top.indices, top.values, torch.special.entr(q).sum(-1), gold.squeeze(-1).log(), rank, tail)
