"""A distillation loss in plain PyTorch that is right, and ones that are wrong in one way each."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stillroom.conformance import Adapter, LossCase
from stillroom.types import IGNORE_INDEX, SoftLabels


class Loss:
    """The right loss; a mutant overrides one part."""

    def logits(self, case: LossCase) -> tuple[Tensor, Tensor]:
        both = case.logits_BTV, case.teacher_logits_BTW
        if case.softcap is not None:
            both = tuple(self.capped(one, case.softcap) for one in both)
        return self.cut(both[0], both[1], case.vocab_size)

    def capped(self, logits: Tensor, cap: float) -> Tensor:
        return cap * torch.tanh(logits / cap)

    def cut(self, student: Tensor, teacher: Tensor, size: int | None) -> tuple[Tensor, Tensor]:
        return student[..., :size], teacher[..., :size]

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def squared(self, soft: Tensor, t: float) -> Tensor:
        return soft * t * t

    def listed(self, log_p: Tensor, labels: SoftLabels) -> Tensor:
        """The teacher's term of truncated labels with one further outcome for what is outside."""
        inside = log_p.gather(-1, labels.ids)
        outside = torch.ones_like(log_p).scatter(-1, labels.ids, 0.0)
        return -(labels.weights * inside).sum(-1) - labels.tail * (log_p.exp() * outside).sum(-1).log()

    def soft(self, case: LossCase, student: Tensor, teacher: Tensor) -> Tensor:
        if case.labels is not None:
            return self.listed(student.log_softmax(-1), case.labels)
        t = case.temperature
        found = self.divergence((student / t).log_softmax(-1), (teacher / t).log_softmax(-1))
        return self.squared(found, t)

    def hard(self, case: LossCase, student: Tensor) -> Tensor:
        nats = -student.log_softmax(-1).gather(-1, self.targets(case).clamp(min=0)[..., None]).squeeze(-1)
        return nats

    def targets(self, case: LossCase) -> Tensor:
        return case.targets_BT

    def counted(self, case: LossCase) -> Tensor:
        return case.targets_BT != IGNORE_INDEX

    def total(self, case: LossCase, soft: Tensor, hard: Tensor) -> Tensor:
        return (case.alpha * soft + (1 - case.alpha) * hard)[self.counted(case)].sum()

    def reduced(self, case: LossCase, total: Tensor) -> Tensor:
        return total / case.counted

    def __call__(self, case: LossCase) -> Tensor:
        student, teacher = self.logits(case)
        total = self.total(case, self.soft(case, student, teacher), self.hard(case, student))
        return self.reduced(case, total)


def draw(logits: Tensor, draws: int, seed: int) -> SoftLabels:
    """Independent draws, each of weight 1 / draws."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.multinomial(logits.softmax(-1), draws, replacement=True, generator=g)
    nothing = torch.zeros(len(ids))
    return SoftLabels(ids, torch.full(ids.shape, 1 / draws), nothing, nothing, nothing.int())


def draw_and_keep_the_frequent(logits: Tensor, draws: int, seed: int) -> SoftLabels:
    """Only the twelve ids that were drawn most often, made to sum to 1 again."""
    drawn = draw(logits, draws, seed)
    counts = torch.zeros_like(logits).scatter_add(-1, drawn.ids, drawn.weights)
    top = counts.topk(12, -1)
    return replace(drawn, ids=top.indices, weights=top.values / top.values.sum(-1, keepdim=True))


def draw_and_weigh_again(logits: Tensor, draws: int, seed: int) -> SoftLabels:
    """Draws by probability that are weighted by probability once more."""
    drawn = draw(logits, draws, seed)
    weights = logits.softmax(-1).gather(-1, drawn.ids)
    return replace(drawn, weights=weights / weights.sum(-1, keepdim=True))


class _OneWay(torch.autograd.Function):
    """A factor on the value that the gradient does not see."""

    @staticmethod
    def forward(ctx, value, factor):
        return value * factor

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def _unshifted(self: Loss, case: LossCase) -> Tensor:
    return case.targets_BT.roll(1, -1)


def _within(self: Loss, log_p: Tensor, labels: SoftLabels) -> Tensor:
    return -(labels.weights * log_p.gather(-1, labels.ids).log_softmax(-1)).sum(-1)


def _padded_with_zeros(self: Loss, student: Tensor, teacher: Tensor, size: int | None) -> tuple[Tensor, Tensor]:
    more = max(teacher.shape[-1] - student.shape[-1], 0), max(student.shape[-1] - teacher.shape[-1], 0)
    return torch.nn.functional.pad(student, (0, more[0])), torch.nn.functional.pad(teacher, (0, more[1]))


def _own(case: LossCase) -> Tensor:
    """How many positions of this call count."""
    return (case.targets_BT != IGNORE_INDEX).sum()


def _changed(**parts) -> Adapter:
    return replace(RIGHT, loss=type("Mutant", (Loss,), parts)(), sample=None)


RIGHT = Adapter(
    name="plain",
    loss=Loss(),
    reduction="step",
    masked=True,
    hard=True,
    temperature="squared",
    padding=True,
    softcap=True,
    tail="bucket",
    sample=draw,
)
MUTANTS: dict[str, tuple[str, Adapter]] = {
    "cross-entropy called a divergence": (
        "identity",
        _changed(divergence=lambda self, log_p, log_q: -(log_q.exp() * log_p).sum(-1)),
    ),
    "reverse called forward": (
        "gradient",
        _changed(divergence=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q)).sum(-1)),
    ),
    "T² on the value alone": ("temperature", _changed(squared=lambda self, soft, t: _OneWay.apply(soft, t * t))),
    "no T²": ("temperature", _changed(squared=lambda self, soft, t: soft)),
    "ignored positions counted": (
        "ignore-index",
        _changed(counted=lambda self, case: torch.ones_like(case.targets_BT, dtype=torch.bool)),
    ),
    "mean of nothing": (
        "ignore-index",
        _changed(reduced=lambda self, case, total: total / _own(case) * (_own(case) / case.counted)),
    ),
    "next tokens not shifted": ("shift", _changed(targets=_unshifted)),
    "next token's gradient dropped": (
        "terms",
        _changed(total=lambda self, case, soft, hard: Loss.total(self, case, soft, hard.detach())),
    ),
    "teacher's term dropped": (
        "terms",
        _changed(total=lambda self, case, soft, hard: Loss.total(self, case, soft * (case.alpha == 1), hard)),
    ),
    "padding counted": ("padded-vocabulary", _changed(cut=_padded_with_zeros)),
    "soft cap left out": ("soft-cap", _changed(capped=lambda self, logits, cap: logits)),
    "soft cap without its gradient": (
        "soft-cap",
        _changed(capped=lambda self, logits, cap: logits + (cap * torch.tanh(logits / cap) - logits).detach()),
    ),
    "tail left out": (
        "top-k",
        _changed(listed=lambda self, log_p, labels: -(labels.weights * log_p.gather(-1, labels.ids)).sum(-1)),
    ),
    "student renormalised too": ("top-k", _changed(listed=_within)),
    "only frequent draws kept": ("sampling", replace(RIGHT, sample=draw_and_keep_the_frequent)),
    "draws weighted again": ("sampling", replace(RIGHT, sample=draw_and_weigh_again)),
    "mean of means": (
        "micro-batches",
        _changed(reduced=lambda self, case, total: total / _own(case).clamp(min=1) / (2 - (case.step_counted is None))),
    ),
    "whole logits called fused": ("memory", replace(RIGHT, fused=True, sample=None)),
}
"""What is wrong → the property that must break, and the adapter."""
