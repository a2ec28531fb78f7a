"""Targets, routing, schedules and the fused head: from hidden states to nats per position, usable from any trainer.

    from stillroom.objectives import fused_linear_cross_entropy, hard_target

    out = fused_linear_cross_entropy(hidden_ND, weight_VD, hard_target(targets_N))
    out.loss_N.sum().backward()

A trainer of this package calls ``token_losses``; another one may call either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.objectives.entropy import RowStatistics, row_statistics
    from stillroom.objectives.head.fused import HeadOutput, fused_linear_cross_entropy
    from stillroom.objectives.losses import TokenLosses, require_terms, token_losses
    from stillroom.objectives.multitoken import Ahead, look_ahead
    from stillroom.objectives.objective import Objective, Routing, Schedule
    from stillroom.objectives.routing import copyable, last_successor, route
    from stillroom.objectives.routing_rules import RULES, RoutingInput, RoutingRule
    from stillroom.objectives.schedules import Progress, ever_needs_teacher, highest_alpha, objective_at, value_at
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
    "RULES",
    "Ahead",
    "DenseTarget",
    "HeadOutput",
    "Objective",
    "Progress",
    "Routing",
    "RoutingInput",
    "RoutingRule",
    "RowStatistics",
    "Schedule",
    "SparseTarget",
    "TeacherLogits",
    "TokenLosses",
    "copyable",
    "ever_needs_teacher",
    "fused_linear_cross_entropy",
    "hard_target",
    "highest_alpha",
    "label_target",
    "last_successor",
    "look_ahead",
    "mix",
    "objective_at",
    "require_terms",
    "route",
    "row_statistics",
    "smoothed_target",
    "token_losses",
    "value_at",
]

__getattr__ = names_of(__name__)
