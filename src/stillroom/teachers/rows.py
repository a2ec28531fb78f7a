"""Soft labels as they leave the device and as they lie in a record: ragged, a few weighted ids per position.

Letters: N positions, E entries (all ids of all positions), K widest position, B sequences, T positions of a sequence.
Imports numpy and, to make tensors, torch; no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stillroom.types import SoftLabels

NO_GOLD = -1
"""``gold_rank`` of a position without a target."""


@dataclass(frozen=True)
class Rows:
    """Labels of N consecutive positions; position n owns ``num_N[n]`` consecutive entries.

    ``values_E`` holds sample counts (uint8, sampled codec) or probabilities (float32, the others).
    """

    num_N: np.ndarray  # uint16
    ids_E: np.ndarray  # int32
    values_E: np.ndarray
    entropy_N: np.ndarray  # float32, nats
    gold_logprob_N: np.ndarray  # float32, nats, 0 without a target
    gold_rank_N: np.ndarray  # int32, NO_GOLD without a target
    tail_N: np.ndarray | None = None  # float32, probability outside the ids; None where the weights need none

    def __len__(self) -> int:
        """N."""
        return len(self.num_N)

    def split(self, length: int) -> list[Rows]:
        """The same labels in pieces of ``length`` positions."""
        ends = np.concatenate(([0], np.cumsum(self.num_N, dtype=np.int64)))
        pieces = []
        for start in range(0, len(self), length):
            rows = slice(start, start + length)
            entries = slice(int(ends[start]), int(ends[min(start + length, len(self))]))
            pieces.append(
                Rows(
                    num_N=self.num_N[rows],
                    ids_E=self.ids_E[entries],
                    values_E=self.values_E[entries],
                    entropy_N=self.entropy_N[rows],
                    gold_logprob_N=self.gold_logprob_N[rows],
                    gold_rank_N=self.gold_rank_N[rows],
                    tail_N=None if self.tail_N is None else self.tail_N[rows],
                )
            )
        return pieces


def join(pieces: list[Rows]) -> Rows:
    """The labels of several pieces, one after another."""
    tails = [piece.tail_N for piece in pieces if piece.tail_N is not None]
    return Rows(
        num_N=np.concatenate([piece.num_N for piece in pieces]),
        ids_E=np.concatenate([piece.ids_E for piece in pieces]),
        values_E=np.concatenate([piece.values_E for piece in pieces]),
        entropy_N=np.concatenate([piece.entropy_N for piece in pieces]),
        gold_logprob_N=np.concatenate([piece.gold_logprob_N for piece in pieces]),
        gold_rank_N=np.concatenate([piece.gold_rank_N for piece in pieces]),
        tail_N=np.concatenate(tails) if tails else None,
    )


def soft_labels(rows: Rows, num_sequences: int, num_samples: int | None) -> SoftLabels:
    """Tensors of leading shape (B, T) with K places per position; counts become weights by ``1 / num_samples``."""
    length = len(rows) // num_sequences
    width = max(1, int(rows.num_N.max(initial=0)))
    scale = np.float32(1.0 if num_samples is None else 1.0 / num_samples)
    used_NK = np.arange(width, dtype=np.uint16) < rows.num_N[:, None]
    ids_NK = np.zeros((len(rows), width), np.int64)
    weights_NK = np.zeros((len(rows), width), np.float32)
    ids_NK[used_NK] = rows.ids_E
    weights_NK[used_NK] = rows.values_E * scale

    def shaped(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).reshape(num_sequences, length, *values.shape[1:])

    return SoftLabels(
        ids=shaped(ids_NK),
        weights=shaped(weights_NK),
        entropy=shaped(rows.entropy_N),
        gold_logprob=shaped(rows.gold_logprob_N),
        gold_rank=shaped(rows.gold_rank_N),
        tail=None if rows.tail_N is None else shaped(rows.tail_N),
    )
