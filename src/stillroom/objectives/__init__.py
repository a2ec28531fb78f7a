"""Targets, routing and the fused head: from hidden states to nats per position, usable from any trainer."""

from stillroom.objectives.head import HeadOutput, fused_linear_cross_entropy
from stillroom.objectives.losses import TokenLosses, token_losses
from stillroom.objectives.routing import copyable, route
from stillroom.objectives.targets import SparseTarget, hard_target, mix

__all__ = [
    "HeadOutput",
    "SparseTarget",
    "TokenLosses",
    "copyable",
    "fused_linear_cross_entropy",
    "hard_target",
    "mix",
    "route",
    "token_losses",
]
