"""Multi-token prediction: head i of n predicts the token i places ahead, never across a document's end.

Gloeckle et al. 2024 (2404.19737), eq. 2: the loss of a position is the sum over heads, on a shared unembedding.
Letters: B sequences, T positions, N = B·T, heads H. Imports types only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.types import IGNORE_INDEX, Batch


@dataclass(frozen=True)
class Ahead:
    """What each head is trained on; H heads, N flat positions.

    ``targets_HN`` is ``IGNORE_INDEX`` where the token ahead is missing or belongs to another document. ``source_HN`` is
    the flat position whose next token that is, and so the position whose teacher label head h + 1 can learn from: its
    mean over what lies between is the teacher's distribution of that token (the position itself where there is none).
    """

    targets_HN: Tensor  # int64
    source_HN: Tensor  # int64


def look_ahead(batch: Batch, heads: int) -> Ahead:
    """Targets of heads 1 to ``heads``; the first is the batch's own."""
    rows, width = batch.targets_BT.shape
    own = torch.arange(rows * width, device=batch.targets_BT.device).view(rows, width)
    targets, sources = [], []
    for shift in range(heads):
        target = torch.full_like(batch.targets_BT, IGNORE_INDEX)
        source = own.clone()
        if shift < width:
            same = batch.document_BT[:, shift:] == batch.document_BT[:, : width - shift]
            moved = batch.targets_BT[:, shift:]
            here = same & (moved != IGNORE_INDEX)
            target[:, : width - shift] = torch.where(here, moved, IGNORE_INDEX)
            source[:, : width - shift] = torch.where(here, own[:, shift:], own[:, : width - shift])
        targets.append(target.reshape(-1))
        sources.append(source.reshape(-1))
    return Ahead(torch.stack(targets), torch.stack(sources))
