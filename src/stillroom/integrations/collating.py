"""Sequences of a corpus in the form that other people's trainers batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.labels import LabelStore
from stillroom.labels.dataset import fields_of_labels
from stillroom.models import position_ids
from stillroom.types import IGNORE_INDEX, Sequences


@dataclass(frozen=True)
class SequenceCollator:
    """Makes batches of a corpus's sequences by their numbers: the dataset is ``range(len(sequences))``.

    A batch has the keys of ``LabelCollator``'s, with the teacher's labels where there is a ``store``;
    ``stillroom.labels.batch_of`` gives it back with its targets and documents.
    """

    sequences: Sequences
    store: LabelStore | None = None

    def __call__(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The batch of some sequences, (B, T) each."""
        batch = self.sequences.batch(numbers)
        labels_BT = torch.full_like(batch.tokens_BT, IGNORE_INDEX)
        labels_BT[:, 1:] = batch.targets_BT[:, :-1]
        fields = {"input_ids": batch.tokens_BT, "labels": labels_BT, "position_ids": position_ids(batch.document_BT)}
        return fields if self.store is None else fields | fields_of_labels(self.store.labels(batch))
