"""How alpha, temperature and routing share change with the tokens seen.

Pure functions of (schedule, value, progress): a resumed run needs no state. Imports nothing but the standard library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from stillroom.objectives.objective import AnyObjective, AnySchedule

Objectives = TypeVar("Objectives", bound="AnyObjective")


@dataclass(frozen=True)
class Progress:
    """Where a run stands: training tokens seen before this step, and in all."""

    tokens: int
    total_tokens: int

    @property
    def fraction(self) -> float:
        """Part of the run that is over, 0 to 1."""
        return min(max(self.tokens / max(self.total_tokens, 1), 0.0), 1.0)


def value_at(schedule: AnySchedule | None, value: float, progress: Progress) -> float:
    """The scheduled value of a field whose configured value is ``value``.

    ``linear`` and ``cosine`` go from the value to ``final`` over the run. ``warmup-stable-decay`` rises linearly from
    ``initial`` to the value, stays, and falls linearly to ``final``. ``switch`` is the value before ``at_tokens`` and
    ``final`` from then on. None and ``constant`` stay at the value.
    """
    if schedule is None or schedule.kind == "constant":
        return value
    if schedule.kind == "switch":
        return value if progress.tokens < (schedule.at_tokens or 0) else schedule.final
    done = progress.fraction
    if schedule.kind == "linear":
        return value + (schedule.final - value) * done
    if schedule.kind == "cosine":
        return schedule.final + (value - schedule.final) * 0.5 * (1.0 + math.cos(math.pi * done))
    if done < schedule.warmup:
        return schedule.initial + (value - schedule.initial) * done / schedule.warmup
    left = 1.0 - done
    if left < schedule.decay:
        return schedule.final + (value - schedule.final) * left / schedule.decay
    return value


def objective_at(objective: Objectives, progress: Progress) -> Objectives:
    """The objective with every scheduled value put in and no schedule left: what holds for one step."""
    routing = objective.routing
    if routing is not None:
        share = value_at(routing.share_schedule, routing.share, progress)
        routing = _changed(routing, share=share, share_schedule=None)
    return _changed(
        objective,
        alpha=value_at(objective.alpha_schedule, objective.alpha, progress),
        temperature=value_at(objective.temperature_schedule, objective.temperature, progress),
        alpha_schedule=None,
        temperature_schedule=None,
        routing=routing,
    )


def _changed(given: Any, **changes: object) -> Any:
    """A copy with other values: of plain values, or of a configuration."""
    return given.model_copy(update=changes) if hasattr(given, "model_copy") else replace(given, **changes)


def highest_alpha(objective: AnyObjective) -> float:
    """The largest weight of the teacher's label at any point of the run."""
    schedule = objective.alpha_schedule
    if schedule is None or schedule.kind == "constant":
        return objective.alpha
    values = [objective.alpha, schedule.final]
    return max([*values, schedule.initial] if schedule.kind == "warmup-stable-decay" else values)


def ever_needs_teacher(objective: AnyObjective) -> bool:
    """Whether alpha is above 0 at any point of the run."""
    return highest_alpha(objective) > 0
