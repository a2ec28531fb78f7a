"""Teachers: models, exact processes and mixtures of teachers, scored for a store or asked at every step."""

from stillroom.teachers.live import LiveLabels, LiveTeacher
from stillroom.teachers.mixture import Domains, MixtureScores
from stillroom.teachers.scores import ExactScores, ModelScores
from stillroom.teachers.source import LabelSource

__all__ = [
    "Domains",
    "ExactScores",
    "LabelSource",
    "LiveLabels",
    "LiveTeacher",
    "MixtureScores",
    "ModelScores",
]
