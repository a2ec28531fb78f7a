"""Soft labels: a teacher run once, its labels kept small, looked up by content for any number of students."""

from stillroom.teachers.capture import ModelScores, Scores, refuse_non_finite
from stillroom.teachers.dataset import LabelCollator, LabelDataset, soft_labels_of
from stillroom.teachers.foreign import import_kd
from stillroom.teachers.inspection import Inspection, inspect_store, render
from stillroom.teachers.labelling import label, label_part
from stillroom.teachers.layout import Damaged
from stillroom.teachers.live import ExactScores, LabelSource, LiveTeacher, WorldTeacher, shard_teacher
from stillroom.teachers.manifest import Manifest
from stillroom.teachers.mixture import Domains, LiveMixture, MixtureScores
from stillroom.teachers.parquet import export_parquet, import_distillkit, import_parquet
from stillroom.teachers.pricing import Price, price
from stillroom.teachers.store import LabelStore, keys_of

__all__ = [
    "Damaged",
    "Domains",
    "ExactScores",
    "Inspection",
    "LabelCollator",
    "LabelDataset",
    "LabelSource",
    "LabelStore",
    "LiveMixture",
    "LiveTeacher",
    "Manifest",
    "MixtureScores",
    "ModelScores",
    "Price",
    "Scores",
    "WorldTeacher",
    "export_parquet",
    "import_distillkit",
    "import_kd",
    "import_parquet",
    "inspect_store",
    "keys_of",
    "label",
    "label_part",
    "price",
    "refuse_non_finite",
    "render",
    "shard_teacher",
    "soft_labels_of",
]
