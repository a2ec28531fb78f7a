"""What a position is trained towards: a short list of weighted token ids, or a teacher's full distribution.

Letters: N positions, V vocabulary, K listed ids, D width of the teacher. Imports types only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.types import IGNORE_INDEX


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
        """Positions that have any weight; the others cost no matmul and have loss exactly 0 (bool)."""
        active = (self.weights_NK != 0).any(-1)
        return active if self.tail_N is None else active | (self.tail_N != 0)

    @property
    def outside_tail_NK(self) -> Tensor:
        """Entries whose probability the tail excludes (bool)."""
        return self.weights_NK > 0 if self.listed_NK is None else self.listed_NK

    def rows(self, index: Tensor | slice) -> SparseTarget:
        """The target of some positions."""
        return SparseTarget(
            self.ids_NK[index],
            self.weights_NK[index],
            None if self.tail_N is None else self.tail_N[index],
            None if self.listed_NK is None else self.listed_NK[index],
        )


def hard_target(targets_N: Tensor, weight_N: Tensor | float = 1.0) -> SparseTarget:
    """All mass on one token (K = 1); ``IGNORE_INDEX`` gets weight 0."""
    counted_N = targets_N != IGNORE_INDEX
    weights_N = counted_N.to(torch.float32) * weight_N
    return SparseTarget(targets_N.clamp(min=0)[:, None], weights_N[:, None])


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
