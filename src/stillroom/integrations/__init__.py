"""Distillation in trainers of other people: their loop, wrappers and checkpoints, this package's loss and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.integrations.collating import SequenceCollator
    from stillroom.integrations.hf_trainer import DistillationTrainer
    from stillroom.integrations.wrapped import hidden_before, student_losses

__all__ = ["DistillationTrainer", "SequenceCollator", "hidden_before", "student_losses"]

__getattr__ = names_of(__name__)
