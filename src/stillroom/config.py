"""A run and a study, put together from the configurations that stand beside their components; every name to write one.

A recipe is a Python function that returns one of these objects; the resolved object is written to every run folder as
YAML and can be run again from there. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.evaluation.evaluation_config import EvaluationConfig
from stillroom.executors.resources_config import JobResources, ResourcesConfig
from stillroom.labels.labels_config import LabelsConfig
from stillroom.models.model_config import ModelConfig, heads_that_do_not_fit
from stillroom.objectives.objective_config import ObjectiveConfig, RoutingConfig, ScheduleConfig
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.results.schema import arm_and_seed
from stillroom.strict import (
    ADDED_LATER,
    Factor,
    Name,
    Named,
    Positive,
    PositiveFloat,
    Seed,
    Strict,
    nearest,
    override,
    parse,
    to_yaml,
)
from stillroom.training.training_config import ParallelConfig, TrainingConfig
from stillroom.types import UserError

__all__ = [
    "ArmConfig",
    "CorpusConfig",
    "EvaluationConfig",
    "JobResources",
    "LabelsConfig",
    "MixtureConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "ParallelConfig",
    "ResourcesConfig",
    "RoutingConfig",
    "RunConfig",
    "ScheduleConfig",
    "SourceConfig",
    "Strict",
    "StudyConfig",
    "TeacherConfig",
    "TeachingConfig",
    "TrainingConfig",
    "arm_and_seed",
    "heads_that_do_not_fit",
    "ladder",
    "over_seeds",
    "override",
    "parse",
    "to_yaml",
]


_PARTS = {1 / 2: "half", 1 / 4: "quarter", 1 / 8: "eighth", 1 / 16: "sixteenth"}


class ArmConfig(ObjectiveConfig):
    """One student of a study: its objective, and what differs from the study's training."""

    data: Factor = 1.0
    """Distinct tokens as a multiple of ``training.tokens``: 2 for SPT-2x."""
    epochs: Factor = 1.0
    """Passes over them."""
    teacher: Literal["stored", "live"] = "stored"
    """Where the teacher's labels come from: the store that all arms share, or the teacher itself at every step."""
    like: str | None = None
    """Another arm whose budget this one takes, as ``budget`` says; ``data`` is then worked out."""
    budget: Literal["iso-data", "iso-compute"] = "iso-data"
    """What is taken from arm ``like``: its tokens and epochs, or its FLOPs of student and teacher together (labelling
    counts once for every distinct token)."""
    learning_rate: PositiveFloat | None = None
    """None means the study's."""
    seed: Seed | None = None
    """Seed of weights and order; None means the study's."""


def over_seeds(arms: Mapping[str, ArmConfig], seeds: Sequence[int]) -> dict[str, ArmConfig]:
    """Every arm at every seed, named ``arm-s0``, ``arm-s1``, ... as reports group them.

    Seed by seed, so that a study cut short has whole seeds.
    """
    return {
        f"{name}-s{seed}": arm.model_copy(
            update={"seed": seed, "like": f"{arm.like}-s{seed}" if arm.like in arms else arm.like}
        )
        for seed in seeds
        for name, arm in arms.items()
    }


def ladder(*parts: float, arm: ArmConfig | None = None, name: str = "spt") -> dict[str, ArmConfig]:
    """Arms of hard labels that differ in their text alone, least first: what the worth of a soft label is read off.

    Arguments:
        parts: distinct tokens of each as a multiple of ``training.tokens``, two or more, all different.
        arm: what they share, such as a learning rate; it learns from no teacher.
        name: of the arm on all of the text; others are called ``spt_half``, ``spt2x``, ``spt0.75x``.

    Raises:
        UserError: the parts make no ladder, or the arm has a teacher, several passes or a budget of another arm.
    """
    arm = ArmConfig() if arm is None else arm
    if len(set(parts)) < 2 or len(set(parts)) < len(parts):
        raise UserError(f"ladder: has the parts {list(parts)}; expected two or more amounts of text, all different.")
    if ever_needs_teacher(arm) or arm.epochs != 1 or arm.like is not None:
        raise UserError(
            "ladder: its arms learn from hard labels in one pass; set alpha to 0, epochs to 1, like to None."
        )
    return {
        (name if part == 1 else f"{name}_{_PARTS[part]}" if part in _PARTS else f"{name}{part:g}x"): parse(
            ArmConfig, {**arm.model_dump(exclude_unset=True), "data": part}, "ladder"
        )
        for part in sorted(parts)
    }


class MixtureConfig(Strict):
    """Further teachers beside the study's own, whose name among them is ``teacher``."""

    rule: Literal["average", "position", "domain"] = "average"
    """``average``: of their probabilities. ``position``: at every position the one with the lowest cross-entropy (it
    looks at the next token to choose). ``domain``: each for the sources that ``domains`` gives it."""
    teachers: Named[str] = Field(min_length=1)
    """A model folder, hub id or GGUF file by name; all must have the corpus's tokenizer."""
    weights: dict[str, Factor] = Field(default_factory=dict)
    """By teacher's name, relative to the others (``average``); 1 where none is given."""
    domains: dict[str, str] = Field(default_factory=dict)
    """The name of the teacher for a source (``domain``); ``teacher`` where none is given."""

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        if "teacher" in self.teachers:
            raise ValueError("teachers names one 'teacher', which is the study's own; call it otherwise")
        known = ["teacher", *self.teachers]
        for field, names in (("weights", self.weights), ("domains", self.domains.values())):
            for name in names:
                if name not in known:
                    raise ValueError(f"{field} names teacher {name!r}, which is not one{nearest(name, known)}")
        return self


class TeacherConfig(Strict):
    """The teacher of a study: trained here, or a pretrained model named by ``model.path``."""

    model: ModelConfig = ModelConfig(hidden_size=256, intermediate_size=768, num_layers=4)
    training: TrainingConfig | None = TrainingConfig(epochs=2.0)
    """None where ``model.path`` names a model to be used as it is. Where it is not set, such a model is; any other is
    trained as its students are, on the same tokens twice."""
    mixture: MixtureConfig | None = None
    """Further teachers whose labels are mixed with this one's."""

    @field_validator("model")
    @classmethod
    def _is_like_none(cls, model: ModelConfig) -> ModelConfig:
        if model.like_teacher is not None:
            raise ValueError("like_teacher is of students, but this is the teacher; leave it out")
        return model

    def for_students(self, training: TrainingConfig) -> Self:
        """This teacher, with a training that was not set worked out from that of its students."""
        if "training" in self.model_fields_set:
            return self
        own = None if self.model.path else training.model_copy(update={"epochs": 2.0})
        teacher = self.model_copy(update={"training": own})
        teacher.model_fields_set.discard("training")
        return teacher


class TeachingConfig(Strict):
    """What stands behind the soft labels of one run, in full: its recipe makes the same student anywhere."""

    teacher: TeacherConfig
    labels: LabelsConfig = LabelsConfig()
    labelled_tokens: Positive | None = None
    """Training tokens whose labels are stored; None means those that the run sees."""
    source: Literal["stored", "live"] = "stored"
    """As ``ArmConfig.teacher``."""


class RunConfig(Strict):
    """One training run: ``stillroom train``."""

    name: Name = "run"
    """What the run is called in folders and tables."""
    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    labels: str | None = None
    """Folder of the label store, where ``objective.alpha`` is above 0."""
    teacher: str | None = None
    """Folder or hub id of a live teacher, instead of ``labels``."""
    teaching: TeachingConfig | None = None
    """A teacher to be made or loaded, and its labels, instead of both."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = [name for name in ("labels", "teacher", "teaching") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given; say once where soft labels come from")
        if problem := heads_that_do_not_fit(self.model, self.objective.heads):
            raise ValueError(f"objective.{problem}")
        self._follow_teacher()
        if self.teaching is not None:
            teacher = self.teaching.teacher.for_students(self.training)
            vars(self)["teaching"] = self.teaching.model_copy(update={"teacher": teacher})
        return self

    def _follow_teacher(self) -> None:
        """Works out a model that is like its teacher, whose weights must be there where it begins with them."""
        teacher = self.teaching.teacher.model if self.teaching else None
        if self.teacher is not None:
            teacher = ModelConfig(path=self.teacher)
        if teacher is not None:
            vars(self)["model"] = self.model.like(teacher)
        elif self.model.is_cut or (self.model.like_teacher is not None and self.model.config is None):
            raise ValueError("model.like_teacher is given, but no teacher; give teaching.teacher or teacher")

    def worked_out(self) -> tuple[str, ...]:
        """See ``Strict``."""
        is_set = self.teaching is None or "training" in self.teaching.teacher.model_fields_set
        likeness = ("model.config",) if self.model.like_teacher else ()
        return likeness if is_set else (*likeness, "teaching.teacher.training")


class StudyConfig(Strict):
    """A corpus, a teacher, its labels, students that differ in one thing each, and what is measured on all."""

    name: Name
    """What the study is called in its folder and on its page."""
    corpus: CorpusConfig
    teacher: TeacherConfig = TeacherConfig()
    labels: LabelsConfig = LabelsConfig()
    student: ModelConfig = ModelConfig()
    """The model of every student."""
    training: TrainingConfig = TrainingConfig()
    """The budget of every student, but for what its arm says otherwise."""
    arms: Named[ArmConfig] = Field(min_length=1)
    evaluation: EvaluationConfig = EvaluationConfig()
    resources: Annotated[ResourcesConfig, ADDED_LATER] = ResourcesConfig()
    """What stages ask for as jobs, with ``--on``; results do not depend on it."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        length = self.corpus.sequence_length
        vars(self)["student"] = self.student.like(self.teacher.model)
        for name, model in (("teacher.model", self.teacher.model), ("student", self.student)):
            if model.path is None and model.positions is not None and length > model.positions:
                field = "max_positions" if model.has_llama_sizes else "config's number of positions"
                raise ValueError(
                    f"corpus.sequence_length is {length} but {name}.{field} is {model.positions}; "
                    "shorten the sequences or raise the positions"
                )
        for source in self.teacher.mixture.domains if self.teacher.mixture else ():
            if source not in self.corpus.sources:
                hint = nearest(source, list(self.corpus.sources))
                raise ValueError(f"teacher.mixture.domains names source {source!r}, which is not one{hint}")
        if self.training.epochs != 1:
            raise ValueError(
                f"training.epochs is {self.training.epochs:g}, but every arm has its own; set arms.NAME.epochs"
            )
        seeds: dict[tuple[str, int | None], str] = {}
        for name, arm in self.arms.items():
            if (twin := seeds.setdefault(arm_and_seed(name), name)) != name:
                raise ValueError(f"arms {twin!r} and {name!r} are both named as one seed of one arm; rename one")
            if name.casefold() in ("teacher", "corpus", "labels") or re.fullmatch(r".*@\d+", name):
                raise ValueError(
                    f"arms names one {name!r}, which is what RUN:{name} says of the study itself; rename it"
                )
            if problem := heads_that_do_not_fit(self.student, arm.heads):
                raise ValueError(f"arms.{name}.{problem}")
        vars(self)["teacher"] = self.teacher.for_students(self.training)
        field, needed = self._most_tokens()
        if needed > self.corpus.train_tokens:
            raise ValueError(
                f"corpus.train_tokens is {self.corpus.train_tokens} but {field} asks for {needed}; raise the one or "
                "lower the other"
            )
        return self

    def _most_tokens(self) -> tuple[str, int]:
        """The field that asks for the most training tokens, and how many."""
        asked = {
            "training.tokens" + f" times arms.{name}.data" * (arm.data != 1): round(self.training.tokens * arm.data)
            for name, arm in self.arms.items()
        }
        if self.teacher.training is not None and "training" in self.teacher.model_fields_set:
            asked["teacher.training.tokens"] = self.teacher.training.tokens
        field = max(asked, key=asked.__getitem__)
        return field, asked[field]

    def for_results(self) -> Self:
        """The study without what its results do not depend on: what runs of it are told apart by."""
        return self.model_copy(update={"resources": ResourcesConfig()})

    def worked_out(self) -> tuple[str, ...]:
        """See ``Strict``."""
        likeness = ("student.config",) if self.student.like_teacher else ()
        return likeness if "training" in self.teacher.model_fields_set else (*likeness, "teacher.training")
