"""The accountant: FLOPs of student and teacher per arm, and arms that match another one in data or in compute."""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.config import ArmConfig, StudyConfig, parse
from stillroom.models.cost import flops_per_token
from stillroom.strict import nearest
from stillroom.types import UserError


@dataclass(frozen=True)
class Account:
    """Model FLOPs that an arm takes."""

    student: float
    """Forward and backward passes over every token seen."""
    teacher: float
    """The teacher's forward pass over every distinct token; stored labels serve all epochs, a live teacher one."""

    @property
    def total(self) -> float:
        """Both together; what the teacher's own training took is not counted (it is there already, or shared)."""
        return self.student + self.teacher


def account(config: StudyConfig, arm: ArmConfig) -> Account:
    """What an arm takes, by its ``data`` and ``epochs``."""
    vocab, length = config.corpus.vocab_size, config.corpus.sequence_length
    distinct = config.training.tokens * arm.data
    student = flops_per_token(config.student, vocab, length, backward=True) * distinct * arm.epochs
    if arm.highest_alpha == 0:
        return Account(student, 0.0)
    forward = flops_per_token(config.teacher.model, vocab, length, backward=False) * distinct
    return Account(student, forward * (arm.epochs if arm.teacher == "live" else 1.0))


def with_budgets(config: StudyConfig) -> StudyConfig:
    """The study with the data of every arm that is to be ``like`` another one worked out.

    ``iso-data`` takes the other's tokens and epochs. ``iso-compute`` takes as many distinct tokens as make student and
    teacher together cost what the other costs. Resolving a study twice changes nothing.
    """
    arms = {name: _resolved(config, name, arm) for name, arm in config.arms.items()}
    if arms == config.arms:
        return config
    values = config.model_dump() | {"arms": {name: arm.model_dump() for name, arm in arms.items()}}
    return parse(StudyConfig, values, config.name)


def _resolved(config: StudyConfig, name: str, arm: ArmConfig) -> ArmConfig:
    if arm.like is None:
        return arm
    other = config.arms.get(arm.like)
    if other is None or other.like is not None:
        choices = [choice for choice, value in config.arms.items() if value.like is None]
        found = "is no arm" if other is None else "follows another arm itself"
        raise UserError(f"arms.{name}.like: {arm.like!r} {found}{nearest(arm.like, choices)}.")
    if arm.budget == "iso-data":
        return arm.model_copy(update={"data": other.data, "epochs": other.epochs})
    once = account(config, arm.model_copy(update={"data": 1.0})).total
    return arm.model_copy(update={"data": round(account(config, other).total / once, 6)})
