"""What a student learns from beside the text: one protocol for stores, worlds and teachers that run."""

from __future__ import annotations

from typing import Protocol

from stillroom.objectives import TeacherLogits
from stillroom.types import Batch, SoftLabels


class LabelSource(Protocol):
    """Gives the labels of a batch: a store, a world that knows its truth, a model that runs at every step."""

    def labels(self, batch: Batch) -> SoftLabels | TeacherLogits:
        """Soft labels (B, T, K), or a teacher's whole distribution (N, V) as factors, on the batch's device."""
        ...
