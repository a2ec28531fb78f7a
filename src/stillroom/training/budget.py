"""How long a run is, and what it costs: steps from a budget in tokens, steps or FLOPs; FLOPs of student and teacher."""

from __future__ import annotations

from stillroom.config import TrainingConfig
from stillroom.corpora import SequenceSet


def num_steps(config: TrainingConfig, data: SequenceSet, flops_per_token: float | None = None) -> int:
    """Optimizer steps of a run: whole global batches only, at least one."""
    if config.steps is not None:
        return config.steps
    return max(1, int(len(data) * config.epochs) // config.batch_sequences)
