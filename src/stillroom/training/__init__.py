"""The engine: one step, one loop, optimizers, checkpoints."""

from stillroom.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from stillroom.training.loop import DivergedError, Interrupted, TrainingData, TrainingResult, num_steps, train
from stillroom.training.optimizer import build_optimizers, learning_rate_factor
from stillroom.training.step import StepSums, global_step, validate

__all__ = [
    "DivergedError",
    "Interrupted",
    "StepSums",
    "TrainingData",
    "TrainingResult",
    "build_optimizers",
    "global_step",
    "latest_checkpoint",
    "learning_rate_factor",
    "load_checkpoint",
    "num_steps",
    "save_checkpoint",
    "train",
    "validate",
]
