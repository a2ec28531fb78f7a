"""One optimizer step over a global batch, and the one place where per-token nats are reduced.

Letters: B sequences, T positions, N = B·T, D width, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.config import ObjectiveConfig
from stillroom.models import hidden_states, precision, unembedding
from stillroom.objectives import token_losses
from stillroom.types import IGNORE_INDEX, Batch, Sequences, SoftLabels


class LabelSource(Protocol):
    """Soft labels for a batch's tokens: a store, a live teacher, or a world's exact teacher."""

    def lookup(self, tokens_BT: Tensor) -> SoftLabels:
        """Labels with leading shape (B, T)."""
        ...


@dataclass
class StepSums:
    """Sums over a global step: of nats and of positions, per term. Means are taken once, at the end."""

    nats: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    weight: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, name: str, values: Tensor, weight: Tensor) -> None:
        """Adds Σ weight·values and Σ weight of some positions, in float64."""
        weight = weight.double()
        self.nats[name] += float((values.double() * weight).sum())
        self.weight[name] += float(weight.sum())

    def means(self) -> dict[str, float]:
        """Σ weight·nats / Σ weight for every term that received a position."""
        return {name: self.nats[name] / weight for name, weight in self.weight.items() if weight > 0}


def split_batch(batch: Batch, size: int) -> list[Batch]:
    """Micro-batches of ``size`` sequences."""
    parts = [
        None if value is None else value.split(size)
        for value in (batch.tokens_BT, batch.targets_BT, batch.document_BT, batch.process_BT)
    ]
    count = len(parts[0] or ())
    return [Batch(*(None if part is None else part[index] for part in parts)) for index in range(count)]  # type: ignore[arg-type]


def global_step(
    model: PreTrainedModel,
    micro_batches: Sequence[Batch],
    objective: ObjectiveConfig,
    labels: LabelSource | None,
    *,
    isolate: bool,
    precision_name: str,
    seed: int,
) -> StepSums:
    """Leaves the gradient of the mean loss of the global step in the parameters and returns its sums.

    The mean is over all counted positions of all micro-batches, so it does not depend on how the batch was split.
    """
    count = sum(int((batch.targets_BT != IGNORE_INDEX).sum()) for batch in micro_batches)
    sums = StepSums()
    for number, batch in enumerate(micro_batches):
        soft = labels.lookup(batch.tokens_BT) if labels is not None and objective.alpha > 0 else None
        with precision(precision_name, batch.tokens_BT.device.type):
            hidden_BTD = hidden_states(model, batch, isolate)
            weight_VD, bias = unembedding(model)
            losses = token_losses(
                hidden_BTD.flatten(0, 1), weight_VD, batch, objective, soft, bias=bias, seed=seed + number
            )
        (losses.loss_N.sum() / max(1, count)).backward()
        sums.add("loss", losses.loss_N.detach(), losses.counted_N)
        for name, (values_N, weight_N) in losses.terms.items():
            sums.add(name, values_N, weight_N)
    return sums


@torch.no_grad()
def validate(
    model: PreTrainedModel, sequences: Sequences, *, isolate: bool, precision_name: str, batch_size: int = 64
) -> float:
    """Mean cross-entropy of the true next token over held-out sequences, in nats per token."""
    sums = StepSums()
    plain = ObjectiveConfig()
    for start in range(0, len(sequences), batch_size):
        batch = sequences.batch(range(start, min(len(sequences), start + batch_size)))
        with precision(precision_name, batch.tokens_BT.device.type):
            hidden_BTD = hidden_states(model, batch, isolate)
            weight_VD, bias = unembedding(model)
            losses = token_losses(hidden_BTD.flatten(0, 1), weight_VD, batch, plain, None, bias=bias)
        sums.add("ce", losses.loss_N, losses.counted_N)
    return sums.means()["ce"]
