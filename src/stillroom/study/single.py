"""One training run as the study that makes what it needs: its corpus, its teacher and its labels. Imports no torch."""

from __future__ import annotations

from stillroom.config import LabelsConfig, ModelConfig, RunConfig, StudyConfig, TeacherConfig, parse
from stillroom.objectives.schedules import ever_needs_teacher, highest_alpha
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
