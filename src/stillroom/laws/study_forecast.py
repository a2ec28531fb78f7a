"""What a law says of the arms of a study: before it is run, and beside what was measured after it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillroom.config import StudyConfig
from stillroom.laws.forecasts import PlannedStudent, forecast
from stillroom.laws.law_file import Law
from stillroom.laws.points import beside_embeddings
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.results.runs import load
from stillroom.types import Estimate, UserError


@dataclass(frozen=True)
class ArmForecast:
    """An arm's forecast loss in nats per token, or why there is none; its measured loss once it is there."""

    arm: str
    forecast: Estimate | None
    why: str = ""
    outcome: float | None = None

    def cells(self) -> tuple[str, str, str]:
        """A row for people: arm, forecast, outcome."""
        told = self.why
        if self.forecast is not None:
            told = f"{self.forecast.value:.3f} ({self.forecast.low:.3f} to {self.forecast.high:.3f})"
        if self.outcome is None:
            return self.arm, told, ""
        inside = self.forecast is None or self.forecast.low <= self.outcome <= self.forecast.high
        return self.arm, told, f"{self.outcome:.3f}{'' if inside else ' (outside)'}"


def study_forecasts(law: Law, config: StudyConfig, teacher_loss: float | None = None) -> list[ArmForecast]:
    """The forecast of every arm; a teacher's loss that is not given is what the supervised law says of it."""
    if teacher_loss is None and config.teacher.training is not None and config.teacher.training.epochs == 1:
        size = beside_embeddings(config.teacher.model, config.corpus.vocab_size)
        teacher_loss = float(law.supervised.loss(size, config.teacher.training.tokens))
    student = beside_embeddings(config.student, config.corpus.vocab_size)
    found = []
    for name, arm in config.arms.items():
        tokens = config.training.tokens * arm.data
        if arm.routing is not None or arm.epochs != 1:
            found.append(ArmForecast(name, None, "a law says nothing of routing or of text seen twice"))
        elif not ever_needs_teacher(arm):
            found.append(_told(law, name, PlannedStudent(student, tokens, law.reach.teacher[0]), distilled=False))
        elif teacher_loss is None:
            found.append(ArmForecast(name, None, "the teacher's loss is not known before it is measured"))
        else:
            found.append(_told(law, name, PlannedStudent(student, tokens, teacher_loss), distilled=True))
    return found


def _told(law: Law, name: str, student: PlannedStudent, *, distilled: bool) -> ArmForecast:
    try:
        found = forecast(law, student)
    except UserError as error:
        return ArmForecast(name, None, str(error))
    return ArmForecast(name, found.distilled if distilled else found.hard)


def beside_outcome(law: Law, config: StudyConfig, folder: Path) -> list[ArmForecast]:
    """The forecasts with the measured loss of the teacher, beside the measured losses of the arms."""
    measured = {
        model.record.name: model.evaluation.lm.nats_per_token.value
        for model in load(folder).models
        if model.evaluation.lm is not None and model.evaluation.lm.nats_per_token is not None
    }
    return [
        ArmForecast(one.arm, one.forecast, one.why, measured.get(one.arm))
        for one in study_forecasts(law, config, measured.get("teacher"))
    ]
