"""What is minimised: the teacher's weight, the divergence, routing and schedules."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stillroom.objectives.routing_rules import RULES
from stillroom.strict import Fraction, Positive, PositiveFloat, Share, Strict, Temperature


class ScheduleConfig(Strict):
    """How a field changes over the run; the field's own value is the first one, or the plateau with a warm-up."""

    kind: Literal["constant", "linear", "cosine", "warmup-stable-decay", "switch"]
    """``linear`` and ``cosine`` go from the field's value to ``final`` over the run; ``warmup-stable-decay`` rises from
    ``initial`` to it, stays, and falls to ``final``; ``switch`` jumps to ``final`` at ``at_tokens``."""
    final: float = 0.0
    """Value at the end of the run."""
    initial: float = 0.0
    """Value at the start (``warmup-stable-decay``)."""
    warmup: Fraction = 0.1
    """Part of the run in which the value rises (``warmup-stable-decay``)."""
    decay: Fraction = 0.2
    """Part of the run in which the value falls at the end (``warmup-stable-decay``)."""
    at_tokens: Positive | None = None
    """Training tokens after which the value is ``final`` (``switch``)."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "switch" and self.at_tokens is None:
            raise ValueError("kind switch needs at_tokens, the training tokens after which the value is final")
        if self.kind == "warmup-stable-decay" and self.warmup + self.decay > 1 + 1e-9:
            raise ValueError(f"warmup {self.warmup:g} and decay {self.decay:g} together are more than the whole run")
        return self


def _stays_within(schedule: ScheduleConfig | None, field: str, low: float, high: float) -> None:
    """Refuses a schedule that takes its field out of the range [low, high]."""
    if schedule is None:
        return
    names = ("final", "initial") if schedule.kind == "warmup-stable-decay" else ("final",)
    for name in names:
        value = getattr(schedule, name)
        if not low <= value <= high:
            raise ValueError(f"{field}.{name} is {value:g}, expected a value from {low:g} to {high:g}")


class RoutingConfig(Strict):
    """Which positions lose their distillation term."""

    rule: str
    """``low-entropy``: the paper's rule, the share of positions per sequence with the lowest teacher entropy. Also
    ``entropy-threshold``, ``low-gold-probability``, ``copy-aware``, ``student-entropy``, ``random``, and those of other
    packages (entry point ``stillroom.routing``)."""
    share: Share = 0.15
    """Share of the positions of each sequence that are routed to the hard label alone."""
    share_schedule: ScheduleConfig | None = None
    """How ``share`` changes over the run."""
    threshold_nats: PositiveFloat | None = None
    """Positions whose teacher entropy is below this are routed (``entropy-threshold``; ``share`` is then ignored)."""
    hard_weight: Literal["restore", "keep"] = "restore"
    """Weight of the hard label on a routed position: back to 1 (``restore``) or still 1 - alpha (``keep``)."""

    @field_validator("rule")
    @classmethod
    def _is_known(cls, rule: str) -> str:
        return RULES.checked(rule)

    @model_validator(mode="after")
    def _threshold_where_needed(self) -> Self:
        if self.rule == "entropy-threshold" and self.threshold_nats is None:
            raise ValueError("rule entropy-threshold needs threshold_nats, in nats")
        _stays_within(self.share_schedule, "share_schedule", 0.0, 1.0)
        return self


class ObjectiveConfig(Strict):
    """Loss = (1 - alpha)·CE(hard label) + alpha·CE(teacher's label), in nats per token."""

    alpha: Fraction = 0.0
    """Weight of the teacher's label: 0 is standard pretraining (SPT), 0.9 is DPT-90."""
    temperature: Temperature = 1.0
    """Softmax temperature of the teacher; stored labels must have been made at it."""
    temperature_form: Literal["teacher", "both"] = "teacher"
    """``teacher``: the teacher's softmax alone (the paper's form). ``both``: teacher and student, with the soft term
    multiplied by temperature² (Hinton et al. 2015); costs a second softmax."""
    divergence: Literal["cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"] = "cross-entropy"
    """What the soft term measures. ``forward-kl`` is ``cross-entropy`` less the teacher's entropy, so it has the same
    gradient; the last two need a live teacher."""
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Weight of the teacher in the mixture of ``jensen-shannon``."""
    tail: Literal["bucket", "renormalise", "gold"] = "bucket"
    """What becomes of the mass outside truncated labels: one further outcome, dropped (biased), or given to the next
    token."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Part of the hard label that is spread evenly over the vocabulary."""
    z_loss: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of logsumexp² of the logits, which keeps them from drifting."""
    heads: Annotated[int, Field(gt=0, le=4096)] = 1
    """Tokens predicted ahead of each position (multi-token prediction); 1 is the next token alone."""
    alpha_schedule: ScheduleConfig | None = None
    """How ``alpha`` changes over the run."""
    temperature_schedule: ScheduleConfig | None = None
    """How ``temperature`` changes over the run; needs a live teacher."""
    routing: RoutingConfig | None = None

    @model_validator(mode="after")
    def _schedules_stay_in_range(self) -> Self:
        _stays_within(self.alpha_schedule, "alpha_schedule", 0.0, 1.0)
        _stays_within(self.temperature_schedule, "temperature_schedule", 0.01, 100.0)
        return self
