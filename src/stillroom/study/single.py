"""The training runs of a study, and one run as the study that makes its corpus, teacher and labels; no torch."""

from __future__ import annotations

import math
from typing import Any

from stillroom.config import (
    ArmConfig,
    LabelsConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    StudyConfig,
    TeacherConfig,
    TeachingConfig,
    TrainingConfig,
    parse,
)
from stillroom.objectives.schedules import ever_needs_teacher, highest_alpha
from stillroom.study.scale import num_planned_steps
from stillroom.types import UserError


def check_taught(run: RunConfig) -> None:
    """Refuses a run that learns from soft labels and does not say whose."""
    if ever_needs_teacher(run.objective) and run.labels is None and run.teacher is None and run.teaching is None:
        raise UserError(
            f"{run.name}: objective.alpha rises to {highest_alpha(run.objective):g} but nothing says whose soft labels "
            "are learnt from; give teaching.teacher (to make one), teacher (a model) or labels (a store)."
        )


def single_study(run: RunConfig) -> StudyConfig:
    """The study of a run alone; without a teacher that is to be trained where the run needs none."""
    teaching = run.teaching
    if teaching is not None:
        teacher, labels, source = teaching.teacher, teaching.labels, teaching.source
    else:
        teacher, labels = TeacherConfig(model=ModelConfig(path=run.teacher), training=None), LabelsConfig()
        source = "stored" if run.teacher is None else "live"
    training = run.training
    arm = run.objective.model_dump() | {"epochs": training.epochs, "teacher": source}
    values = {
        "name": run.name, "corpus": run.corpus, "student": run.model, "labels": labels, "teacher": teacher,
        "training": training.model_copy(update={"epochs": 1.0}), "arms": {"run": arm},
    }  # fmt: skip
    return parse(StudyConfig, values, run.name)


def labelled_tokens(config: StudyConfig) -> int:
    """Training tokens whose labels are stored: the most that an arm with stored labels reads; 0 where there is none."""
    stored = [arm for arm in config.arms.values() if ever_needs_teacher(arm) and arm.teacher == "stored"]
    return max((round(config.training.tokens * arm.data) for arm in stored), default=0)


def teacher_run(config: StudyConfig) -> RunConfig:
    """The training run of a study's teacher: hard labels alone."""
    assert config.teacher.training is not None
    return RunConfig(name="teacher", corpus=config.corpus, model=config.teacher.model, training=config.teacher.training)


def arm_run(config: StudyConfig, name: str) -> RunConfig:
    """The training run of an arm."""
    arm = config.arms[name]
    changes: dict[str, Any] = {"tokens": round(config.training.tokens * arm.data), "epochs": arm.epochs}
    own = {"learning_rate": arm.learning_rate, "seed": arm.seed}
    changes |= {field: value for field, value in own.items() if value is not None}
    return RunConfig(
        name=name,
        corpus=config.corpus,
        model=config.student,
        training=_kept_within(config.training.model_copy(update=changes), config.corpus.sequence_length),
        objective=arm_objective(arm),
        teaching=_teaching(config, arm) if ever_needs_teacher(arm) or config.student.is_cut else None,
    )


def _kept_within(training: TrainingConfig, length: int) -> TrainingConfig:
    """With the checkpoints that a run of its length can keep: arms of one study may be of different lengths."""
    if training.flops is not None or not training.keep:
        return training
    steps = num_planned_steps(training, math.nan, length)
    return training.model_copy(update={"keep": tuple(step for step in training.keep if step <= steps)})


def _teaching(config: StudyConfig, arm: ArmConfig) -> TeachingConfig:
    tokens = (labelled_tokens(config) or None) if arm.teacher == "stored" else None
    return TeachingConfig(teacher=config.teacher, labels=config.labels, labelled_tokens=tokens, source=arm.teacher)


def arm_objective(arm: ArmConfig) -> ObjectiveConfig:
    """The objective alone, without what an arm says of data."""
    return ObjectiveConfig(**{name: getattr(arm, name) for name in ObjectiveConfig.model_fields})
