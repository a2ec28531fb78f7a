"""Optimizers by name: each is a file ``NAME_optimizer.py``, or another package's. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from stillroom.registry import Registry

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from stillroom.training.training_config import TrainingConfig


class ParameterGroup(TypedDict):
    """Parameters on one mesh, as torch's optimizers take them."""

    params: list[nn.Parameter]
    weight_decay: float
    lr: float
    peak: float
    """The highest rate of the run, which the schedule scales."""


@dataclass(frozen=True)
class Trained:
    """What a run trains, sorted by how it is trained."""

    matrices: list[nn.Parameter]
    """The hidden ones; never embeddings."""
    plain: list[ParameterGroup]
    """Everything else, without weight decay."""
    narrower: float
    """base_width / width (1 where ``base_width`` is not given): what AdamW's rate on the matrices falls by."""
    groups: Callable[[list[nn.Parameter], float, float], list[ParameterGroup]]
    """Of parameters, weight decay and highest rate: by the ranks that they are sharded over."""


OPTIMIZERS: Registry[Callable[[Trained, TrainingConfig], list[Optimizer]]] = Registry(
    "stillroom.training", Path(__file__).parent, "optimizer", "stillroom.optimizers"
)
"""By name, what makes the optimizers of a run; another package adds one by the entry point ``stillroom.optimizers``."""
