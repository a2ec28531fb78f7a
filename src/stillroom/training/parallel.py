"""Prepares a model for a run: moved to its device, with recomputation, compiled and sharded block by block as asked."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel

from stillroom.config import ObjectiveConfig, ParallelConfig, TrainingConfig
from stillroom.models import use_short_attention
from stillroom.training.distributed import Ranks
from stillroom.training.step import Student
from stillroom.types import UserError


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer blocks: the one list of modules inside the model that is as long as it has layers."""
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UserError(
        f"model: no list of {count} blocks was found in {type(model).__name__}; sharding, recomputation and compiling "
        "go block by block: leave training.parallel at its defaults and run one process."
    )


def prepare(model: PreTrainedModel, config: TrainingConfig, objective: ObjectiveConfig, ranks: Ranks) -> Student:
    """The student of a run on this rank's device."""
    use_short_attention(model)
    model.to(ranks.device)  # type: ignore[arg-type]
    parallel = config.parallel
    if parallel.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if parallel.compile:
        for block in blocks(model):
            block.compile()
    student = Student(model)
    if ranks.mesh is not None:
        shard(student, parallel, ranks)
    return student


def shard(student: Student, parallel: ParallelConfig, ranks: Ranks) -> None:
    """Shards every block and then the rest (embedding, final norm, unembedding) over the mesh, in place."""
    assert ranks.mesh is not None
    mesh = ranks.mesh["replicate", "shard"] if parallel.replicas > 1 else ranks.mesh["shard"]
    dtype = torch.bfloat16 if parallel.parameter_precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
    for block in blocks(student.model):
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=parallel.reshard)
    fully_shard(student, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for module in student.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided by the global count already: gradients are summed over ranks, not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sums
