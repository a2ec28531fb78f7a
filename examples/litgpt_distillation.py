"""Pretraining a LitGPT model from a corpus and a label store: a data module, and a step for its Fabric loop.

    pip install litgpt
    data = StoredCorpus(open_corpus("corpus").train)
    loss = step(fabric, model, micro_batches, store)   # in the place of chunked_cross_entropy and fabric.backward

LitGPT's models let packed documents see one another, so build the corpus with ``--set isolate_documents=false`` and
label it so: the teacher then sees what the student sees.
"""

from __future__ import annotations

from typing import Any

import torch
from litgpt.data import DataModule
from torch.utils.data import DataLoader

from stillroom.integrations import SequenceCollator, hidden_before
from stillroom.labels import LabelStore, batch_of
from stillroom.objectives import Objective, token_losses
from stillroom.types import Sequences

OBJECTIVE = Objective(alpha=0.9)


class StoredCorpus(DataModule):
    """Sequences of a corpus as LitGPT's loops load them: ``input_ids``, ``labels`` and ``position_ids``."""

    def __init__(self, sequences: Sequences) -> None:
        super().__init__()
        self.sequences, self.batch_size = sequences, 1

    def connect(self, tokenizer: Any = None, batch_size: int = 1, max_seq_length: int | None = None, **_: Any) -> None:
        """Takes the size of a micro-batch; the corpus has its own length."""
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        """In an order of the loop's own seed."""
        numbers: Any = range(len(self.sequences))
        return DataLoader(numbers, self.batch_size, shuffle=True, collate_fn=SequenceCollator(self.sequences))


def step(fabric: Any, model: Any, micro_batches: list[dict[str, torch.Tensor]], store: LabelStore) -> torch.Tensor:
    """Leaves the gradient of the mean nats per target of a global step; returns that mean. Logits are not formed."""
    count = fabric.all_reduce(sum((one["labels"][:, 1:] >= 0).sum() for one in micro_batches), reduce_op="sum")
    total, head, config = torch.zeros((), device=fabric.device), model.lm_head, model.config
    options: Any = {"bias": head.bias, "softcap": config.final_logit_softcapping, "vocab_size": config.vocab_size}
    for number, batch in enumerate(map(batch_of, micro_batches)):
        with fabric.no_backward_sync(model, enabled=number < len(micro_batches) - 1):
            with hidden_before(head) as seen:
                model(batch.tokens_BT)
            losses = token_losses(seen[-1].flatten(0, 1), head.weight, batch, OBJECTIVE, store.labels(batch), **options)
            fabric.backward(losses.loss_N.sum() / count * fabric.world_size)  # DDP takes the mean over processes
        total += losses.loss_N.sum().detach() / count
    return fabric.all_reduce(total, reduce_op="sum")
