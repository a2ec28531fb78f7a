"""A store as a PyTorch dataset, so that any trainer can read tokens and labels together.

A store holds the token ids of its records, so that nothing else is needed. Letters: B sequences, T positions, K places.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stillroom.labels.ragged import NO_GOLD
from stillroom.labels.store import LabelStore
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, SpecialIds

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

    A store knows a document's end by its having no next token. Where that does not tell, give ``special``, the ids
    that open and close a document (``Corpus.special_ids``): one token does both, as in GPT-2's tokenizer, or the labels
    were imported. Positions alone keep documents apart in few models; ``batch_of`` gives the batch that
    ``stillroom.models.packed_inputs`` makes a model's inputs of.
    """

    def __init__(self, store: LabelStore, special: SpecialIds | None = None):
        self.store, self.special = store, special or SpecialIds()

    def __call__(self, items: Sequence[dict[str, int]]) -> dict[str, Tensor]:
        """The batch of some items."""
        tokens_BT, soft = self.store.read([item["row"] for item in items])
        is_target_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
        is_target_BT[:, 1:] = soft.gold_rank[:, :-1] != NO_GOLD
        opens_BT = tokens_BT == (-1 if self.special.bos is None else self.special.bos)
        if self.special.bos != self.special.eos:
            is_target_BT &= ~opens_BT
        begins_BT = ~is_target_BT | opens_BT
        places_T = torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT)
        batch = {
            "input_ids": tokens_BT,
            "labels": tokens_BT.masked_fill(~is_target_BT, IGNORE_INDEX),
            "position_ids": places_T - torch.where(begins_BT, places_T, 0).cummax(1).values,
        }
        return batch | fields_of_labels(soft)


def batch_of(collated: Mapping[str, Tensor]) -> Batch:
    """Tokens, targets and documents, (B, T) each, of B collated sequences, as ``packed_inputs`` and losses take it."""
    targets_BT = torch.full_like(collated["labels"], IGNORE_INDEX)
    targets_BT[:, :-1] = collated["labels"][:, 1:]
    document_BT = (collated["position_ids"] == 0).cumsum(dim=1, dtype=torch.int32) - 1
    return Batch(collated["input_ids"], targets_BT, document_BT)


def fields_of_labels(soft: SoftLabels) -> dict[str, Tensor]:
    """Soft labels as parts of a collated batch, (B, T) or (B, T, K) each: what ``soft_labels_of`` takes out again."""
    fields = {f"teacher_{name}": getattr(soft, name) for name in LABEL_FIELDS}
    return fields if soft.tail is None else fields | {"teacher_tail": soft.tail}


def soft_labels_of(batch: MutableMapping[str, Tensor]) -> SoftLabels:
    """The soft labels inside a collated batch of B sequences, (B, T) or (B, T, K), which they are taken out of."""
    fields = {name: batch.pop(f"teacher_{name}") for name in LABEL_FIELDS}
    return SoftLabels(**fields, tail=batch.pop("teacher_tail", None))
