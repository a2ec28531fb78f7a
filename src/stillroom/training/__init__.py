"""The engine: one step, one loop, optimizers, checkpoints, and the same path on one process or many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.training.budget import num_steps
    from stillroom.training.checkpoint import Checkpoints
    from stillroom.training.distributed import ALONE, Ranks, join
    from stillroom.training.errors import DivergedError, Interrupted
    from stillroom.training.loop import Hooks, TrainingData, TrainingResult, train
    from stillroom.training.optimizer import build_optimizers, learning_rate_factor
    from stillroom.training.optimizer_registry import OPTIMIZERS, Trained
    from stillroom.training.step import StepSums, Student, global_step, validate

__all__ = [
    "ALONE",
    "OPTIMIZERS",
    "Checkpoints",
    "DivergedError",
    "Hooks",
    "Interrupted",
    "Ranks",
    "StepSums",
    "Student",
    "Trained",
    "TrainingData",
    "TrainingResult",
    "build_optimizers",
    "global_step",
    "join",
    "learning_rate_factor",
    "num_steps",
    "train",
    "validate",
]

__getattr__ = names_of(__name__)
