"""What a position is trained towards: a short list of weighted token ids, or a teacher's full distribution.

Letters: N positions, V vocabulary, K listed ids, E width of the teacher. Imports types only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from stillroom.types import IGNORE_INDEX, SoftLabels, UserError

Divergence = Literal["cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"]
TailPolicy = Literal["bucket", "renormalise", "gold"]


@dataclass(frozen=True)
class SparseTarget:
    """K weighted token ids per position; the loss is Σ_k weights_k · (logsumexp(z) - z[ids_k]), in nats.

    A weight of 0 makes an entry free of effect; its id must still be a token of the vocabulary. Ids may repeat within a
    row: their weights then add. ``tail_N`` is a mass that belongs to no listed id and adds
    ``-tail · log(1 - Σ_listed p(id))``, the "ghost token" of truncated labels; ``listed_NK`` says which entries are
    outside the tail (default: those with a positive weight), and those must not repeat.
    """

    ids_NK: Tensor  # int64
    weights_NK: Tensor  # float32
    tail_N: Tensor | None = None  # float32
    listed_NK: Tensor | None = None  # bool

    @property
    def active_N(self) -> Tensor:
        """Positions that have any weight; the others cost no matmul on a CPU and have loss exactly 0 (bool)."""
        active = (self.weights_NK != 0).any(-1)
        return active if self.tail_N is None else active | (self.tail_N != 0)

    @property
    def outside_tail_NK(self) -> Tensor:
        """Entries whose probability the tail excludes (bool)."""
        return self.weights_NK > 0 if self.listed_NK is None else self.listed_NK

    def scaled(self, weight_N: Tensor) -> SparseTarget:
        """The same target with every position's mass multiplied."""
        listed = None if self.tail_N is None else self.outside_tail_NK  # a weight of 0 does not change what is listed
        tail = None if self.tail_N is None else self.tail_N * weight_N
        return SparseTarget(self.ids_NK, self.weights_NK * weight_N[:, None], tail, listed)

    def rows(self, index: Tensor | slice) -> SparseTarget:
        """The target of some positions: ``index`` is a slice, or their numbers or a mask, (n,) or (N,)."""
        return SparseTarget(
            self.ids_NK[index],
            self.weights_NK[index],
            None if self.tail_N is None else self.tail_N[index],
            None if self.listed_NK is None else self.listed_NK[index],
        )


@dataclass(frozen=True)
class TeacherLogits:
    """A live teacher's logits: its hidden states and unembedding, multiplied chunk by chunk inside the head.

    ``hidden_NE`` may also hold ready logits (N, V), where ``weight_VE`` is None. Nothing here receives gradient.
    """

    hidden_NE: Tensor
    weight_VE: Tensor | None
    bias_V: Tensor | None = None
    softcap: float | None = None

    @property
    def vocab_size(self) -> int:
        """V of the teacher, padding included."""
        return self.hidden_NE.shape[1] if self.weight_VE is None else self.weight_VE.shape[0]

    def rows(self, index: Tensor | slice) -> TeacherLogits:
        """The logits of some positions: ``index`` is a slice, or their numbers or a mask, (n,) or (N,)."""
        return replace(self, hidden_NE=self.hidden_NE[index])

    def to(self, dtype: torch.dtype) -> TeacherLogits:
        """The same teacher in another dtype (ready logits stay as they are)."""
        if self.weight_VE is None:
            return self
        return replace(self, hidden_NE=self.hidden_NE.to(dtype), weight_VE=self.weight_VE.to(dtype))

    def cut(self, vocab_size: int) -> TeacherLogits:
        """The same teacher without the logits from ``vocab_size`` on: padding gets no probability."""
        if vocab_size == self.vocab_size:
            return self
        if self.weight_VE is None:
            return replace(self, hidden_NE=self.hidden_NE[:, :vocab_size])
        bias = None if self.bias_V is None else self.bias_V[:vocab_size]
        return replace(self, weight_VE=self.weight_VE[:vocab_size], bias_V=bias)


@dataclass(frozen=True)
class DenseTarget:
    """A teacher's full distribution q with a weight per position, beside an optional hard target.

    With p the student's distribution, per position and in nats: ``cross-entropy`` is -Σ q log p, ``forward-kl`` is
    KL(q‖p), ``reverse-kl`` is KL(p‖q), ``jensen-shannon`` is β·KL(q‖m) + (1-β)·KL(p‖m) with m = (1-β)·p + β·q
    (Agarwal et al. 2024, 2306.13649, eq. 1).
    """

    teacher: TeacherLogits
    weight_N: Tensor  # float32
    hard: SparseTarget | None = None
    temperature: float = 1.0
    """Of the teacher's softmax."""
    divergence: Divergence = "cross-entropy"
    beta: float = 0.5

    def hard_or_none(self) -> SparseTarget:
        """The hard target, or one without entries (K = 0)."""
        if self.hard is not None:
            return self.hard
        nothing = self.weight_N[:, None][:, :0]
        return SparseTarget(nothing.long(), nothing)

    @property
    def active_N(self) -> Tensor:
        """Positions that have any weight (bool)."""
        active = self.weight_N != 0
        return active if self.hard is None else active | self.hard.active_N

    def rows(self, index: Tensor | slice) -> DenseTarget:
        """The target of some positions: ``index`` is a slice, or their numbers or a mask, (n,) or (N,)."""
        hard = None if self.hard is None else self.hard.rows(index)
        return replace(self, teacher=self.teacher.rows(index), weight_N=self.weight_N[index], hard=hard)


Target = SparseTarget | DenseTarget


def hard_target(targets_N: Tensor, weight_N: Tensor | float = 1.0) -> SparseTarget:
    """All mass on one token (K = 1); ``IGNORE_INDEX`` gets weight 0."""
    counted_N = targets_N != IGNORE_INDEX
    weights_N = counted_N.to(torch.float32) * weight_N
    return SparseTarget(targets_N.clamp(min=0)[:, None], weights_N[:, None])


def smoothed(target: SparseTarget, even_N: Tensor, vocab_size: int) -> DenseTarget:
    """A sparse target beside a weight that is spread evenly over the vocabulary (label smoothing).

    The even part is a teacher that knows nothing: all logits 0, without ever holding N · V of them.
    """
    nothing = torch.zeros((), device=even_N.device).expand(even_N.shape[0], vocab_size)
    return DenseTarget(TeacherLogits(nothing, None), even_N, target)


def smoothed_target(targets_N: Tensor, smoothing: float, vocab_size: int) -> DenseTarget:
    """Label smoothing: (1 - smoothing) on one token, smoothing spread evenly; ``IGNORE_INDEX`` gets weight 0."""
    even_N = (targets_N != IGNORE_INDEX).to(torch.float32) * smoothing
    return smoothed(hard_target(targets_N, 1.0 - smoothing), even_N, vocab_size)


def mix(targets_N: Tensor, hard_weight_N: Tensor, soft: SparseTarget) -> SparseTarget:
    """The hard label with its weight in column 0, followed by the soft target as it is (already weighted).

    ``IGNORE_INDEX`` gets hard weight 0. The hard label is never part of what the soft target's tail excludes.
    """
    hard = hard_target(targets_N, hard_weight_N)
    ids = torch.cat([hard.ids_NK, soft.ids_NK], dim=1)
    weights = torch.cat([hard.weights_NK, soft.weights_NK.to(torch.float32)], dim=1)
    if soft.tail_N is None:
        return SparseTarget(ids, weights)
    listed = torch.cat([torch.zeros_like(hard.ids_NK, dtype=torch.bool), soft.outside_tail_NK], dim=1)
    return SparseTarget(ids, weights, soft.tail_N, listed)


def label_target(labels: SoftLabels, targets_N: Tensor, tail: TailPolicy = "bucket") -> tuple[SparseTarget, Tensor]:
    """Stored labels (leading shape (N,)) as a target whose weights sum to about 1, and that target's entropy (nats).

    Labels without a tail (sampled) are taken as they are: unbiased, with the entropy that the teacher had. Truncated
    labels have a tail mass, and ``tail`` says what becomes of it: ``bucket`` keeps it as one further outcome, so that
    the divergence is a lower bound of the true one; ``renormalise`` drops it and is biased (the student never learns
    what lies outside); ``gold`` gives it to the true next token. Another name raises ``UserError``.
    """
    if labels.tail is None:
        return SparseTarget(labels.ids, labels.weights), labels.entropy
    listed, mass = labels.weights > 0, labels.tail.clamp(min=0)
    if tail == "bucket":
        target = SparseTarget(labels.ids, labels.weights, mass, listed)
        return target, _entropy(labels.weights) + _entropy(mass[:, None])
    if tail == "renormalise":
        total = labels.weights.sum(-1, keepdim=True)
        weights = torch.where(total > 0, labels.weights / total, 0.0)
        return SparseTarget(labels.ids, weights), _entropy(weights)
    if tail != "gold":
        raise UserError(f"objective.tail: is {tail!r}, expected bucket, renormalise or gold.")
    gold_N = targets_N.clamp(min=0)[:, None]
    is_gold = (labels.ids == gold_N) & listed
    found = is_gold.any(-1)
    merged = labels.weights + torch.where(is_gold, mass[:, None], 0.0)
    ids = torch.cat([labels.ids, gold_N], dim=1)
    weights = torch.cat([merged, torch.where(found, 0.0, mass)[:, None]], dim=1)
    return SparseTarget(ids, weights), _entropy(weights)


def _entropy(weights_NK: Tensor) -> Tensor:
    return torch.special.entr(weights_NK).sum(-1)
