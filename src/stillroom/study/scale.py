"""What a run takes on GPUs, on paper: memory of each, time of a step, size of a label store. Imports no torch.

Letters: V vocabulary, D width, L layers, T positions, B sequences of a micro-batch on one GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stillroom.config import LabelsConfig, ModelConfig, TrainingConfig
from stillroom.models.cost import flops_per_token, num_parameters

GPU = "H100"
GPU_FLOPS = 989e12
"""Dense bf16 FLOP/s of one GPU (maker's data sheet)."""
UTILISATION = 0.4
"""Part of that rate that a step is assumed to reach."""
COUNTS = (1, 8, 64)
"""Numbers of GPUs that are planned for."""
_STATE_BYTES = 16
"""Per parameter: fp32 weight, gradient and two moments."""
_BLOCK_NUMBERS = 34
"""Numbers of width D kept per position inside a block for its backward pass (2 bytes each; no scores are kept)."""
_HEAD_POSITIONS = 4096
"""Positions whose logits are held at once."""
_DISTINCT_PER_SAMPLE = 0.25
"""Distinct ids per sample drawn (about 12 of 50; a peaked teacher repeats itself)."""
_SIDE_BYTES = 9.0
"""Bytes per token beside the ids: entropy, log-probability and rank of the gold token, key and index."""


@dataclass(frozen=True)
class GpuPlan:
    """One run on some GPUs."""

    gpus: int
    memory_bytes: float
    """Of each GPU."""
    step_seconds: float
    steps: int

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.step_seconds * self.steps / 3600


def num_planned_steps(training: TrainingConfig, rate: float, length: int) -> int:
    """Optimizer steps of a run whose tokens each take ``rate`` FLOPs."""
    if training.steps is not None:
        return training.steps
    per_step = training.batch_sequences * length
    tokens = training.tokens * training.epochs if training.flops is None else training.flops / rate
    return max(1, int(tokens / per_step))


def gpu_plan(
    model: ModelConfig,
    training: TrainingConfig,
    vocab: int,
    length: int,
    gpus: int,
    live_teacher: ModelConfig | None = None,
    reached: float = GPU_FLOPS * UTILISATION,
) -> GpuPlan | None:
    """The plan for ``gpus`` GPUs, each of which gets ``reached`` FLOP/s of a model done.

    None where the batch or the layout does not divide over so many.
    """
    layout = training.parallel
    state = _STATE_BYTES * num_parameters(model, vocab)
    if live_teacher is not None:
        state += 4 * num_parameters(live_teacher, vocab)
    replicas = layout.num_replicas(gpus, state)
    groups = replicas * layout.tensor
    data_ranks = gpus // layout.tensor
    if gpus % groups or training.batch_sequences % data_ranks:
        return None
    rate = flops_per_token(model, vocab, length, backward=True)
    steps = num_planned_steps(training, rate, length)
    if layout.recompute:
        rate *= 4 / 3
    if live_teacher is not None:
        rate += flops_per_token(live_teacher, vocab, length, backward=False)
    per_rank = training.batch_sequences // data_ranks
    micro = min(training.micro_batch_sequences or per_rank, per_rank)
    memory = _memory(model, training, vocab, micro * length, gpus // replicas)
    if live_teacher is not None:
        memory += 4.0 * num_parameters(live_teacher, vocab) / (gpus // replicas)
    seconds = rate * training.batch_sequences * length / (gpus * reached)
    return GpuPlan(gpus, memory, seconds, steps)


def _memory(model: ModelConfig, training: TrainingConfig, vocab: int, positions: int, shards: int) -> float:
    """Bytes on one GPU: its shard of the state, what is gathered at once, activations and one chunk of logits."""
    parameters = num_parameters(model, vocab)
    embeddings = vocab * model.hidden_size * (1 if model.tie_embeddings else 2)
    width = 4 if training.parallel.parameter_precision == "fp32" else 2
    block = (parameters - embeddings) / model.num_layers
    gathered = 0.0 if shards == 1 else (2 * block + embeddings) * (width + 4)  # weights, and gradients before the sum
    per_block = positions * model.hidden_size * _BLOCK_NUMBERS * 2.0
    kept = positions * model.hidden_size * 4.0  # input of a block
    if training.parallel.recompute:
        activations = model.num_layers * kept + per_block
    else:
        activations = model.num_layers * per_block
    logits = min(positions, _HEAD_POSITIONS) * vocab * 6.0 + embeddings * 4.0  # chunk in two precisions; its gradient
    return parameters * _STATE_BYTES / shards + gathered + activations + logits


def label_bytes_per_token(labels: LabelsConfig, vocab: int) -> float:
    """Estimated bytes of a stored label: its ids, their weights, and what is always beside them."""
    if labels.codec == "sampled":
        entries, weight_bits = labels.num_samples * _DISTINCT_PER_SAMPLE, math.log2(labels.num_samples + 1)
    else:
        entries, weight_bits = float(labels.k), 16.0
    return entries * (math.log2(vocab) + weight_bits) / 8 + _SIDE_BYTES
