"""Batches for nanoGPT or nanochat from a corpus, in a fixed order, and the distilled loss from a label store.

    reader = Reader(open_corpus("corpus").train, batch_size=12, seed=0)
    x, y = reader(step)                        # in the place of get_batch(); y is -1 where nothing is learnt
    loss = distilled(model, reader, step, LabelStore.open("labels"))

A batch is a function of (seed, epoch, step): a resumed run needs no state but its step, every epoch is a permutation of
its own, and the ranks of a launch share one order. Their models let packed documents see one another, so build the
corpus with ``--set isolate_documents=false`` and label it so: the teacher then sees what the student sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stillroom.corpora.order import batch_indices
from stillroom.integrations import hidden_before
from stillroom.labels import LabelStore
from stillroom.objectives import Objective, token_losses
from stillroom.types import IGNORE_INDEX, Batch, Sequences


@dataclass(frozen=True)
class Reader:
    """``batch_size`` is that of all ranks together."""

    sequences: Sequences
    batch_size: int
    seed: int = 0
    rank: int = 0
    world: int = 1

    def batch(self, step: int) -> Batch:
        """This rank's sequences of a step, counted from 0 over all epochs."""
        numbers = batch_indices(step, self.batch_size, len(self.sequences), self.seed)
        return self.sequences.batch(numbers[self.rank :: self.world].tolist())

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """``x`` and ``y`` (B, T) as their models take them."""
        batch = self.batch(step)
        return batch.tokens_BT, batch.targets_BT.masked_fill(batch.targets_BT == IGNORE_INDEX, -1)


def distilled(model: Any, reader: Reader, step: int, store: LabelStore, softcap: float | None = None) -> Tensor:
    """Mean nats per target of this rank's batch; logits are never formed (nanochat caps them: ``softcap`` 15)."""
    batch = reader.batch(step).to(model.lm_head.weight.device)
    with hidden_before(model.lm_head) as seen:  # targets of -1 alone, so that its own loss has nothing to look at
        model(batch.tokens_BT, torch.full_like(batch.tokens_BT, -1))
    objective, size = Objective(alpha=0.9), store.manifest.vocab_size  # their vocabulary is padded
    losses = token_losses(
        seen[-1].flatten(0, 1), model.lm_head.weight, batch, objective, store.labels(batch),
        seed=step, softcap=softcap, vocab_size=size,
    )  # fmt: skip
    return losses.loss_N.sum() / losses.counted_N.sum()
