"""How long a run is and what it costs: steps from a budget in tokens, steps or FLOPs, and model FLOPs of a run.

Letters: V vocabulary, D width, L layers, T positions.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from stillroom.training.blocks import blocks
from stillroom.training.training_config import TrainingConfig
from stillroom.types import UserError


def model_flops_per_token(
    model: PreTrainedModel, sequence_length: int, *, backward: bool, further_blocks: int = 0
) -> float:
    """Model FLOPs per token of a model that is built, whatever its layout.

    2 per multiply-add of the blocks' matrices, the unembedding and causal attention over the mean T/2 earlier
    positions; a backward pass counts twice a forward pass (Kaplan et al. 2020, 2001.08361, appendix B). Heads beyond
    the first (``further_blocks``) are a block each, with the unembedding once more. Recomputation is not counted.
    """
    layers = blocks(model)
    per_block = _matrix_size(layers[-1]) + model.config.hidden_size * sequence_length
    unembedding = model.get_output_embeddings().weight.numel()  # type: ignore[union-attr]
    total = (len(layers) + further_blocks) * per_block + (1 + further_blocks) * unembedding
    return 2.0 * total * (3.0 if backward else 1.0)


def _matrix_size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim >= 2)


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
