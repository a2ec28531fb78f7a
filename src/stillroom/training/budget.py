"""How long a run is: steps from a budget in tokens, steps or FLOPs."""

from __future__ import annotations

from stillroom.training.training_config import TrainingConfig
from stillroom.types import UserError


def num_steps(
    config: TrainingConfig, num_sequences: int, sequence_length: int = 0, flops_per_token: float | None = None
) -> int:
    """Optimizer steps of a run: whole global batches only, at least one.

    ``flops_per_token`` (forward and backward) is needed where the budget is in FLOPs.
    """
    if config.steps is not None:
        return config.steps
    if config.flops is None:
        return max(1, int(num_sequences * config.epochs) // config.batch_sequences)
    if flops_per_token is None:
        raise UserError("training.flops: is set, but the FLOPs of a token are not known here; set training.steps.")
    return max(1, int(config.flops / (flops_per_token * config.batch_sequences * sequence_length)))
