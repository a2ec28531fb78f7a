"""What a recall study can be asked for: a world, teachers, arms and seeds, and presets from 0.1M to 120M parameters."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stillroom.config import ModelConfig, ObjectiveConfig, Strict, TrainingConfig
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.strict import Fraction, Items, Name, Named, Seed, Temperature


class RecallWorldConfig(Strict):
    """See ``worlds.recall.RecallOptions``; the sequence length beside it."""

    characters: Annotated[int, Field(ge=4, le=90)] = 65
    triggers: Annotated[int, Field(gt=0, le=90)] = 5
    draw: Literal["fixed", "per-sequence"] = "fixed"
    skip: Annotated[int, Field(ge=0, le=90)] = 0
    """The most frequent characters that are no triggers (``fixed``)."""
    outputs: Literal["uniform", "row", "other"] = "uniform"
    sequence_length: Annotated[int, Field(ge=16, le=65_536)] = 128
    """T, in tokens."""

    @model_validator(mode="after")
    def _triggers_fit(self) -> Self:
        if self.triggers + self.skip >= self.characters:
            raise ValueError(
                f"triggers {self.triggers} and skip {self.skip} leave nothing of {self.characters} characters; "
                "lower them or raise characters"
            )
        return self


class RecallTeacherConfig(Strict):
    """One teacher of the arms."""

    kind: Literal["exact", "leaking", "trained"] = "exact"
    """``exact`` knows the rule. ``leaking`` is the exact one made wrong by ``leak`` and ``temperature``. ``trained`` is
    a model like the students, from hard labels, other data and another seed."""
    leak: Fraction = 0.0
    """η: probability that goes astray (``leaking``)."""
    towards: Literal["unigram", "uniform", "context"] = "unigram"
    """Where it goes: the characters' frequencies, all characters alike, or those of the context."""
    temperature: Temperature = 1.0
    """Of the true distribution, before the leak (``leaking``)."""
    until: Fraction = 1.0
    """Copy accuracy at which a ``trained`` teacher is taken; 1 means at the end of its training."""


class RecallArmConfig(Strict):
    """One student."""

    label: str
    teacher: str | None = None
    """A name in ``teachers``; None where ``objective.alpha`` is 0."""
    objective: ObjectiveConfig = ObjectiveConfig()


class RecallProbeConfig(Strict):
    """What is measured while a student trains, on held-out sequences."""

    sequences: Items = 64
    """For losses and accuracies."""
    pattern_sequences: Items = 16
    """For the scores of heads."""
    per_doubling: Annotated[int, Field(gt=0, le=1000)] = 4
    """Probes each time that the number of steps doubles."""


class RecallConfig(Strict):
    """A recall study: every arm at every seed.

    A seed fixes first weights, data and their order, so arms of one seed differ in nothing but objective and teacher.
    """

    name: Name = "recall"
    world: RecallWorldConfig = RecallWorldConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    teachers: Named[RecallTeacherConfig] = Field(default_factory=dict)
    arms: Named[RecallArmConfig] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    probes: RecallProbeConfig = RecallProbeConfig()
    keep_models: bool = True
    """Keep the weights of every finished student."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.training.steps is None:
            raise ValueError("training.steps is not set; the recall world has no end, so give the steps")
        if self.world.sequence_length > self.model.max_positions:
            raise ValueError(
                f"world.sequence_length is {self.world.sequence_length} but model.max_positions is "
                f"{self.model.max_positions}; shorten the sequences or raise the positions"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} holds one twice; give each once")
        for name, arm in self.arms.items():
            if (arm.teacher is None) == ever_needs_teacher(arm.objective):
                raise ValueError(f"arms.{name}: a teacher is needed where objective.alpha is above 0, and only there")
            if arm.teacher is not None and arm.teacher not in self.teachers:
                known = ", ".join(self.teachers) or "none"
                raise ValueError(f"arms.{name}.teacher is {arm.teacher!r}, expected one of teachers: {known}")
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps of a student."""
        return self.training.steps or 0

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a batch."""
        return self.training.batch_sequences * self.world.sequence_length
