"""Teachers: what gives soft labels, from a model's scores to live, exact and mixed teachers."""

from stillroom.labels.reading import Scores, refuse_non_finite
from stillroom.teachers.live import ExactScores, LabelSource, LiveTeacher, WorldTeacher, shard_teacher
from stillroom.teachers.mixture import Domains, LiveMixture, MixtureScores
from stillroom.teachers.model_scores import ModelScores

__all__ = [
    "Domains",
    "ExactScores",
    "LabelSource",
    "LiveMixture",
    "LiveTeacher",
    "MixtureScores",
    "ModelScores",
    "Scores",
    "WorldTeacher",
    "refuse_non_finite",
    "shard_teacher",
]
