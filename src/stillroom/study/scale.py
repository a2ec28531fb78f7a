"""What a run takes on GPUs, on paper: memory of each and time of a step. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.config import ModelConfig, TrainingConfig
from stillroom.costs import STATE_BYTES, size_of, training_bytes

GPU = "H100"
GPU_FLOPS = 989e12
"""Dense bf16 FLOP/s of one GPU (maker's data sheet)."""
UTILISATION = 0.4
"""Part of that rate that a step is assumed to reach."""
COUNTS = (1, 8, 64)
"""Numbers of GPUs that are planned for."""


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
    """Optimizer steps of a run whose tokens each take ``rate`` FLOPs: whole sequences, whole batches, at least one."""
    if training.steps is not None:
        return training.steps
    if training.flops is not None:
        return max(1, int(training.flops / (rate * training.batch_sequences * length)))
    return max(1, int(training.tokens // length * training.epochs) // training.batch_sequences)


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
    size = size_of(model, vocab)
    teacher = None if live_teacher is None else size_of(live_teacher, vocab)
    held = 0 if teacher is None else 4 * teacher.parameters
    state = STATE_BYTES * size.parameters + held
    replicas = layout.num_replicas(gpus, state)
    groups = replicas * layout.tensor
    data_ranks = gpus // layout.tensor
    if gpus % groups or training.batch_sequences % data_ranks:
        return None
    rate = size.flops_per_token(length, backward=True)
    steps = num_planned_steps(training, rate, length)
    if layout.recompute:
        rate *= 4 / 3
    if teacher is not None:
        rate += teacher.flops_per_token(length, backward=False)
    per_rank = training.batch_sequences // data_ranks
    micro = min(training.micro_batch_sequences or per_rank, per_rank)
    shards = gpus // replicas
    weight_bytes = 4 if layout.parameter_precision == "fp32" else 2
    memory = training_bytes(size, micro * length, shards=shards, weight_bytes=weight_bytes, recompute=layout.recompute)
    memory += held / shards
    seconds = rate * training.batch_sequences * length / (gpus * reached)
    return GpuPlan(gpus, memory, seconds, steps)
