"""Prepares a model for a run: moved to its device, with recomputation, compiled and sharded block by block as asked."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from transformers import PreTrainedModel

from stillroom.models import ModelPlan, use_short_attention
from stillroom.objectives.objective_config import ObjectiveConfig
from stillroom.teachers import LiveTeacher
from stillroom.training.blocks import blocks
from stillroom.training.distributed import Ranks
from stillroom.training.materialise import materialise
from stillroom.training.mtp_heads import FurtherHeads, check_further, first_weights
from stillroom.training.step import Student
from stillroom.training.training_config import ParallelConfig, TrainingConfig
from stillroom.types import UserError


def prepare(
    source: PreTrainedModel | ModelPlan, config: TrainingConfig, objective: ObjectiveConfig, ranks: Ranks
) -> Student:
    """The student of a run on this rank's device: a model that is there, or one that is made in its sharded form."""
    model = source.model if isinstance(source, ModelPlan) else source
    parallel = config.parallel
    if parallel.recompute:
        recompute_blocks(model)
    if objective.heads > 1 and model is source:
        check_further(model)
    further = FurtherHeads(model, objective.heads - 1) if objective.heads > 1 else None
    student = Student(model, further)
    if model is source:
        student.to(ranks.device)
    inner = [*blocks(model), *(further.blocks if further is not None else ())]
    if parallel.compile:
        for block in inner:
            block.compile()
    if is_sharded(parallel, ranks):
        if parallel.tensor > 1:
            split_matrices(model, ranks)
        shard(student, inner, parallel, ranks)
    if isinstance(source, ModelPlan):
        materialise(student, source, ranks, first_weights(model, further))
    use_short_attention(model)
    return student


def recompute_blocks(model: PreTrainedModel) -> None:
    """Activation checkpointing of every block; blocks that are copied from one afterwards do it too."""
    enable = getattr(model, "activation_checkpointing_enable", None)  # younger than the oldest release we support
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def prepare_teacher(teacher: LiveTeacher, config: TrainingConfig, ranks: Ranks) -> LiveTeacher:
    """A live teacher on this rank's device, sharded in its own precision where there are ranks."""
    if teacher.plan is None:
        teacher.to(ranks.device)
    if is_sharded(config.parallel, ranks):
        shard(teacher, list(blocks(teacher.model)), config.parallel, ranks)
    if teacher.plan is not None:
        materialise(teacher, teacher.plan, ranks)
    use_short_attention(teacher.model)
    return teacher


def is_sharded(parallel: ParallelConfig, ranks: Ranks) -> bool:
    """Whether ranks hold parts of the model; else each holds it whole, and only gradients are sent.

    Weights that are gathered in bfloat16 need the sharded form even where there is one shard.
    """
    if ranks.mesh is None:
        return False
    return ranks.mesh["shard"].size() * ranks.mesh["tensor"].size() > 1 or parallel.parameter_precision == "bf16"


_STYLES = {"colwise": ColwiseParallel, "rowwise": RowwiseParallel}


def split_matrices(model: PreTrainedModel, ranks: Ranks) -> None:
    """Splits the blocks' matrices over the ranks of a tensor-parallel group, by the plan that transformers has."""
    assert ranks.mesh is not None
    plan = check_split(model, ranks.mesh["tensor"].size())
    styles = {name: _STYLES[style]() for name, style in plan.items()}
    parallelize_module(model.base_model, ranks.mesh["tensor"], styles)


def check_split(model: PreTrainedModel, size: int) -> dict[str, str]:
    """The plan by which ``size`` processes share a model's matrices; refuses a model that has none, or one of other
    styles than whole columns and rows, which would leave out a sum of gradients.
    """
    plan = dict(getattr(model.config, "base_model_tp_plan", None) or {})
    other = next((f"{name} is {style}" for name, style in plan.items() if style not in _STYLES), None)
    heads = getattr(model.config, "num_key_value_heads", None) or getattr(model.config, "num_attention_heads", 1)
    reason = f"has {heads} key and value heads" if heads % size else None
    if other is not None:
        reason = f"is a {type(model).__name__}, in whose plan {other}"
    elif not plan:
        reason = f"is a {type(model).__name__}, which has no plan"
    if reason is None:
        return plan
    raise UserError(
        f"training.parallel.tensor: is {size}, but the model {reason}; give a number that divides the heads of a "
        "model with a tensor-parallel plan, or 1."
    )


def shard(module: nn.Module, inner: list[nn.Module], parallel: ParallelConfig, ranks: Ranks) -> None:
    """Shards every inner block and then the rest (embedding, final norm, unembedding) over the mesh, in place."""
    assert ranks.mesh is not None
    mesh = ranks.mesh["replicate", "shard"] if ranks.mesh["replicate"].size() > 1 else ranks.mesh["shard"]
    dtype = torch.bfloat16 if parallel.parameter_precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
    for block in inner:
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=parallel.reshard)
    # What is left is used at both ends of the forward pass, so letting go of it in between would only cost messages.
    fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            # The loss is divided by the global count already: gradients are summed over ranks, not averaged.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sums
