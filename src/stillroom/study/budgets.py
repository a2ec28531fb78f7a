"""The accountant: FLOPs of student and teacher per arm, and arms that match another one in data or in compute."""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.config import ArmConfig, StudyConfig, parse
from stillroom.costs import flops_per_token, size_of
from stillroom.models.model_config import ModelConfig
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.strict import nearest
from stillroom.types import UserError


@dataclass(frozen=True)
class Account:
    """Model FLOPs that an arm takes."""

    student: float
    """Forward and backward passes over every token seen."""
    teacher: float
    """Forward passes of whatever teaches."""

    @property
    def total(self) -> float:
        """Both together; what the teacher's own training took is not counted (it is there already, or shared)."""
        return self.student + self.teacher


def account(config: StudyConfig, arm: ArmConfig) -> Account:
    """What an arm is to take, by its ``data`` and ``epochs``."""
    distinct = config.training.tokens * arm.data
    return spent(config, arm, config.corpus.vocab_size, distinct, distinct * arm.epochs)


def spent(config: StudyConfig, arm: ArmConfig, vocab: int, distinct_tokens: float, tokens: float) -> Account:
    """What an arm takes that sees ``tokens`` in all and ``distinct_tokens`` among them.

    Stored labels serve all epochs; a live teacher reads every token as often as its student.
    """
    size, length = size_of(config.student, vocab), config.corpus.sequence_length
    further = 6.0 * (arm.heads - 1) * size.unembedding  # their blocks are taken off the trunk
    student = (size.flops_per_token(length, backward=True) + further) * tokens
    if not ever_needs_teacher(arm):
        return Account(student, 0.0)
    return Account(student, teaching_rate(config, vocab) * (tokens if arm.teacher == "live" else distinct_tokens))


def teaching_rate(config: StudyConfig, vocab: int) -> float:
    """FLOPs of a token's label: forward passes of the teacher and of all that are mixed with it.

    By domain one of them reads a token; their mean is taken.
    """
    length = config.corpus.sequence_length
    mixture, own = config.teacher.mixture, config.teacher.model
    models = [own] if mixture is None else [own, *(ModelConfig(path=path) for path in mixture.teachers.values())]
    rates = [flops_per_token(model, vocab, length, backward=False) for model in models]
    is_one_of_them = mixture is not None and mixture.rule == "domain"
    return sum(rates) / (len(rates) if is_one_of_them else 1)


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
