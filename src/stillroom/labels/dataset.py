"""A store as a PyTorch dataset, so that any trainer can read tokens and labels together.

A store holds the token ids of its records, so that nothing else is needed. Letters: B sequences, T positions, K places.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stillroom.labels.ragged import NO_GOLD
from stillroom.labels.store import LabelStore
from stillroom.types import IGNORE_INDEX, SoftLabels

LABEL_FIELDS = ("ids", "weights", "entropy", "gold_logprob", "gold_rank")
"""Keys of a collated batch that hold soft labels, each after ``teacher_``; ``teacher_tail`` where there is a tail."""


class LabelDataset(Dataset):
    """The sequences of a store in the order of its index (a random one), numbered from 0.

    An item is its number alone: records are decoded together, by the collator, which is many times quicker.
    """

    def __init__(self, store: LabelStore):
        self.store = store

    def __len__(self) -> int:
        """Distinct sequences."""
        return len(self.store)

    def __getitem__(self, number: int) -> dict[str, int]:
        """The item's number."""
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        return {"row": number % len(self)}


class LabelCollator:
    """Makes batches of a ``LabelDataset``'s items.

    A batch is a mapping with ``input_ids`` (B, T), ``labels`` (B, T; the same ids, -100 where no token of the same
    document comes before, so that a model that shifts labels by one itself trains on the right positions),
    ``position_ids`` (B, T; restarting at every document) and ``teacher_...`` (``LABEL_FIELDS``): row t holds the
    teacher's distribution of token t + 1.
    """

    def __init__(self, store: LabelStore):
        self.store = store

    def __call__(self, items: Sequence[dict[str, int]]) -> dict[str, Tensor]:
        """The batch of some items."""
        tokens_BT, soft = self.store.read([item["row"] for item in items])
        ends_BT = soft.gold_rank == NO_GOLD
        begins_BT = torch.ones_like(ends_BT)
        begins_BT[:, 1:] = ends_BT[:, :-1]
        places_T = torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT)
        batch = {
            "input_ids": tokens_BT,
            "labels": tokens_BT.masked_fill(begins_BT, IGNORE_INDEX),
            "position_ids": places_T - torch.where(begins_BT, places_T, 0).cummax(1).values,
        }
        batch |= {f"teacher_{name}": getattr(soft, name) for name in LABEL_FIELDS}
        return batch if soft.tail is None else batch | {"teacher_tail": soft.tail}


def soft_labels_of(batch: MutableMapping[str, Tensor]) -> SoftLabels:
    """The soft labels inside a collated batch of B sequences, (B, T) or (B, T, K), which they are taken out of."""
    fields = {name: batch.pop(f"teacher_{name}") for name in LABEL_FIELDS}
    return SoftLabels(**fields, tail=batch.pop("teacher_tail", None))
