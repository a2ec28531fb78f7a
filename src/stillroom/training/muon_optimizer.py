"""Muon for the hidden matrices (Jordan et al. 2024, as in torch; in fp32 where bf16 is emulated), AdamW for the rest.

Muon's update has the same spectral norm at every width, so ``base_width`` leaves it alone.
"""

from __future__ import annotations

from torch.optim import Muon, Optimizer

from stillroom.models import multiplies_bf16
from stillroom.training.adamw_optimizer import adamw
from stillroom.training.full_precision_muon import FullPrecisionMuon
from stillroom.training.optimizer_registry import Trained
from stillroom.training.training_config import TrainingConfig


def _optimizers(trained: Trained, config: TrainingConfig) -> list[Optimizer]:
    rate = config.muon_learning_rate
    native = all(multiplies_bf16(parameter.device) for parameter in trained.matrices)
    groups = [dict(group) for group in trained.groups(trained.matrices, config.weight_decay, rate)]
    return [(Muon if native else FullPrecisionMuon)(groups, lr=rate), adamw(trained.plain, config)]


OPTIMIZER = _optimizers
