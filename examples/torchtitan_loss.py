"""A loss for torchtitan (0.3) that learns from a label store, without forming logits.

    config.loss = DistillationLoss.Config(store="labels")     # and Trainer of this file builds and runs the config

Labels are found by the tokens, which torchtitan does not give a loss: the trainer hands them over at the place that
torchtitan has for it. As for every chunked loss, torchtitan gives hidden states and the head instead of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torchtitan.trainer
from torchtitan.components.loss import ChunkedLossWrapper

from stillroom.labels import LabelStore
from stillroom.objectives import Objective, token_losses
from stillroom.types import Batch


class DistillationLoss(ChunkedLossWrapper):
    """Σ nats over the valid tokens of the step, of which each rank and micro-batch gives its part."""

    @dataclass(kw_only=True, slots=True)
    class Config(ChunkedLossWrapper.Config):
        store: str = "labels"
        alpha: float = 0.9

    def __init__(self, config: Config, *, compile_config: Any = None) -> None:
        super().__init__(config, compile_config=compile_config)
        self.store, self.objective = LabelStore.open(config.store), Objective(alpha=config.alpha)
        self.tokens_BT: torch.Tensor | None = None

    def __call__(self, pred: Any, labels: Any, global_valid_tokens: Any = None, **_: Any) -> Any:
        """The loss and no metrics, of hidden states (B, T, D) and targets (B, T)."""
        assert self.tokens_BT is not None and self.lm_head is not None
        batch = Batch(self.tokens_BT, labels, torch.zeros_like(labels, dtype=torch.int32))
        weight: Any = self.lm_head.weight
        losses = token_losses(pred.flatten(0, 1), weight, batch, self.objective, self.store.labels(batch))
        return losses.loss_N.sum() / (1 if global_valid_tokens is None else global_valid_tokens), {}


class Trainer(torchtitan.trainer.Trainer):
    """torchtitan's trainer, whose loss knows the tokens."""

    def post_dataloading_process(self, input_dict: dict[str, torch.Tensor], labels: torch.Tensor) -> Any:
        """That of torchtitan."""
        loss: Any = self.loss_fn
        loss.tokens_BT = input_dict["input"]
        return super().post_dataloading_process(input_dict, labels)
