"""A data loader for torchtitan (0.3) over a corpus: what a checkpoint keeps of it is the step, and nothing else.

    config.dataloader = CorpusLoader.Config(corpus="corpus", seed=0)

A batch is a function of (seed, step), the same for any number of ranks together. Packed documents are told apart by
``positions``, which restart at each; torchtitan's flex and varlen attention obey them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torchtitan.components.dataloader import BaseDataLoader

from stillroom.corpora import open_corpus
from stillroom.corpora.order import batch_indices
from stillroom.models import position_ids


class CorpusLoader(BaseDataLoader):
    """Inputs and targets (B, T) of this rank, step after step, without end."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        corpus: str = "corpus"
        seed: int = 0

    def __init__(self, config: Config, *, dp_world_size: int, dp_rank: int, local_batch_size: int, **_: Any) -> None:
        self.sequences, self.seed, self.step = open_corpus(config.corpus).train, config.seed, 0
        self.rank, self.world, self.size = dp_rank, dp_world_size, local_batch_size * dp_world_size

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        while True:
            numbers = batch_indices(self.step, self.size, len(self.sequences), self.seed)[self.rank :: self.world]
            batch, self.step = self.sequences.batch(numbers.tolist()), self.step + 1
            yield {"input": batch.tokens_BT, "positions": position_ids(batch.document_BT)}, batch.targets_BT

    def state_dict(self) -> dict[str, Any]:
        """The step."""
        return {"step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at the step of a checkpoint."""
        self.step = state_dict.get("step", 0)
