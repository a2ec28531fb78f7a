"""What a law says of the arms of a study: before it is run, and beside what was measured after it. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stillroom.config import StudyConfig
from stillroom.laws.forecasts import PlannedStudent, forecast
from stillroom.laws.law_file import Law
from stillroom.laws.points import beside_embeddings, what_differs
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.results.json_form import write
from stillroom.results.runs import FORECAST, load
from stillroom.results.schema import ArmForecast, StudyForecast
from stillroom.types import UserError


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
            found.append(ArmForecast(arm=name, why="a law says nothing of routing or of text seen twice"))
        elif not ever_needs_teacher(arm):
            found.append(_told(law, name, PlannedStudent(student, tokens, law.reach.teacher[0]), distilled=False))
        elif teacher_loss is None:
            found.append(ArmForecast(arm=name, why="the teacher's loss is not known before it is measured"))
        else:
            found.append(_told(law, name, PlannedStudent(student, tokens, teacher_loss), distilled=True))
    return found


def _told(law: Law, name: str, student: PlannedStudent, *, distilled: bool) -> ArmForecast:
    try:
        found = forecast(law, student)
    except UserError as error:
        return ArmForecast(arm=name, why=str(error))
    return ArmForecast(arm=name, forecast=found.distilled if distilled else found.hard)


def write_forecast(law: Law, config: StudyConfig, folder: Path) -> StudyForecast:
    """Writes ``forecast.json`` into a run folder and returns it: forecasts beside the measured losses of the arms.

    Distilled arms are foretold with the measured loss of their teacher.
    """
    run = load(folder)
    measured = {
        model.record.name: model.evaluation.lm.nats_per_token.value
        for model in run.models
        if model.evaluation.lm is not None and model.evaluation.lm.nats_per_token is not None
    }
    told = study_forecasts(law, config, measured.get("teacher"))
    if (apart := what_differs(run.measured_on, law.measured_on)) != "":
        told = [ArmForecast(arm=one.arm, why=f"the law is of another {apart}") for one in told]
    found = StudyForecast(law=law.name, arms=tuple(replace(one, outcome=measured.get(one.arm)) for one in told))
    write(folder / FORECAST, found)
    return found
