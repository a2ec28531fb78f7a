"""Soft labels: a teacher run once, its labels kept small, looked up by content for any number of students."""

from stillroom.teachers.labelling import label, label_part
from stillroom.teachers.manifest import Manifest
from stillroom.teachers.store import LabelStore

__all__ = ["LabelStore", "Manifest", "label", "label_part"]
