"""Targets, routing and the fused head: from hidden states to nats per position, usable from any trainer."""

from stillroom.objectives.head import HeadOutput, fused_linear_cross_entropy
from stillroom.objectives.losses import TokenLosses, token_losses
from stillroom.objectives.routing import copyable, route
from stillroom.objectives.targets import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    hard_target,
    label_target,
    mix,
    smoothed_target,
)

__all__ = [
    "DenseTarget",
    "HeadOutput",
    "SparseTarget",
    "TeacherLogits",
    "TokenLosses",
    "copyable",
    "fused_linear_cross_entropy",
    "hard_target",
    "label_target",
    "mix",
    "route",
    "smoothed_target",
    "token_losses",
]
