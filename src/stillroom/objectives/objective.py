"""What is minimised, as plain values: for trainers that take the loss alone, without the machinery of configurations.

A recipe says the same by ``ObjectiveConfig``, which has the same fields; every function here takes either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stillroom.types import UserError

if TYPE_CHECKING:
    from typing import TypeAlias

    from stillroom.objectives.objective_config import ObjectiveConfig, RoutingConfig, ScheduleConfig

    AnySchedule: TypeAlias = "Schedule | ScheduleConfig"
    AnyRouting: TypeAlias = "Routing | RoutingConfig"
    AnyObjective: TypeAlias = "Objective | ObjectiveConfig"


@dataclass(frozen=True)
class Schedule:
    """How a field changes over the run; see ``ScheduleConfig`` for the fields."""

    kind: Literal["constant", "linear", "cosine", "warmup-stable-decay", "switch"]
    final: float = 0.0
    initial: float = 0.0
    warmup: float = 0.1
    decay: float = 0.2
    at_tokens: int | None = None


@dataclass(frozen=True)
class Routing:
    """Which positions lose their distillation term; see ``RoutingConfig`` for the fields."""

    rule: str
    share: float = 0.15
    share_schedule: Schedule | None = None
    threshold_nats: float | None = None
    """Nats."""
    hard_weight: Literal["restore", "keep"] = "restore"


@dataclass(frozen=True)
class Objective:
    """Loss = (1 - alpha)·CE(hard label) + alpha·CE(teacher's label), in nats per token; see ``ObjectiveConfig``."""

    alpha: float = 0.0
    temperature: float = 1.0
    temperature_form: Literal["teacher", "both"] = "teacher"
    divergence: Literal["cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"] = "cross-entropy"
    beta: float = 0.5
    tail: Literal["bucket", "renormalise", "gold"] = "bucket"
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    heads: int = 1
    alpha_schedule: Schedule | None = None
    temperature_schedule: Schedule | None = None
    routing: Routing | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise UserError(f"objective.alpha: is {self.alpha:g}, expected 0 to 1.")
        if not self.temperature > 0.0:
            raise UserError(f"objective.temperature: is {self.temperature:g}, expected more than 0.")
