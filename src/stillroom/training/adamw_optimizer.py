"""AdamW for every parameter."""

from __future__ import annotations

from torch.optim import AdamW, Optimizer

from stillroom.training.optimizer_registry import ParameterGroup, Trained
from stillroom.training.training_config import TrainingConfig


def adamw(groups: list[ParameterGroup], config: TrainingConfig) -> AdamW:
    """AdamW on some groups, with the configuration's betas."""
    return AdamW(
        [dict(group) for group in groups], lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
    )


def _optimizers(trained: Trained, config: TrainingConfig) -> list[Optimizer]:
    decay, rate = config.weight_decay / trained.narrower, config.learning_rate * trained.narrower
    return [adamw([*trained.groups(trained.matrices, decay, rate), *trained.plain], config)]


OPTIMIZER = _optimizers
