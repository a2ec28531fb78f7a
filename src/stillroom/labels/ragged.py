"""Soft labels on their way: ragged as they leave the device, padded as a record is decoded.

Letters: N positions, E entries (all ids of all positions), K widest position, B sequences, T positions of a sequence.
Imports numpy and, to make tensors, torch; no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from stillroom.types import SoftLabels, UserError

NO_GOLD = -1
"""``gold_rank`` of a position without a target."""
EXCESS = 1e-3
"""By how much the probabilities of a position may exceed 1 together, by rounding."""


@dataclass(frozen=True)
class RaggedLabels:
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

    @property
    def position_E(self) -> np.ndarray:
        """Position of every entry."""
        return np.repeat(np.arange(len(self)), self.num_N)

    def split(self, length: int) -> list[RaggedLabels]:
        """The same labels in pieces of ``length`` positions."""
        ends = np.concatenate(([0], np.cumsum(self.num_N, dtype=np.int64)))
        pieces = []
        for start in range(0, len(self), length):
            rows = slice(start, start + length)
            entries = slice(int(ends[start]), int(ends[min(start + length, len(self))]))
            parts = {name: values[entries if name.endswith("_E") else rows] for name, values in _columns(self).items()}
            pieces.append(RaggedLabels(**parts))
        return pieces


def join_labels(pieces: list[RaggedLabels]) -> RaggedLabels:
    """The labels of several pieces, one after another."""
    return RaggedLabels(
        **{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in _columns(pieces[0])}
    )


def check_labels(rows: RaggedLabels, vocab_size: int) -> None:
    """Refuses labels that no distribution gives, so that whoever made them, none are written."""
    faults = {
        f"ids outside 0 to {vocab_size - 1}": rows.ids_E.size
        and not 0 <= rows.ids_E.min() <= rows.ids_E.max() < vocab_size,
        "a position without ids": not rows.num_N.all(),
        "weights that are no numbers of at least 0": not _within(rows.values_E, 0, math.inf),
        "an entropy that is no number of at least 0": not _within(rows.entropy_N, 0, math.inf),
        "a log-probability that is no number of at most 0": not _within(-rows.gold_logprob_N, 0, math.inf),
        "a rank outside the vocabulary": not _within(rows.gold_rank_N, NO_GOLD, vocab_size),
        "a tail that is no probability": rows.tail_N is not None and not _within(rows.tail_N, 0, 1),
        "probabilities of more than 1 together": rows.tail_N is not None and bool((_sums(rows) > 1 + EXCESS).any()),
    }
    for fault, is_there in faults.items():
        if is_there:
            raise UserError(f"labels: hold {fault}; mend what they were made from, nothing of them was written.")


def _within(values: np.ndarray, low: float, high: float) -> bool:
    """Whether all are finite and from ``low`` to ``high``."""
    return not values.size or bool(low <= values.min() <= values.max() <= high and values.max() < math.inf)


def _sums(rows: RaggedLabels) -> np.ndarray:
    """Sum of the weights (N,) of every position."""
    return np.bincount(rows.position_E, weights=rows.values_E, minlength=len(rows))


@dataclass(frozen=True)
class PaddedLabels:
    """Labels of N positions with K places each; places from ``num_N[n]`` on hold id 0 and weight 0."""

    num_N: np.ndarray  # int32
    ids_NK: np.ndarray  # int64
    weights_NK: np.ndarray  # float32
    entropy_N: np.ndarray  # float32, nats
    gold_logprob_N: np.ndarray  # float32, nats
    gold_rank_N: np.ndarray  # int32
    tail_N: np.ndarray | None = None  # float32

    def part(self, rows: slice) -> PaddedLabels:
        """A view of some positions."""
        return PaddedLabels(**{name: values[rows] for name, values in _columns(self).items()})

    def tensors(self, num_sequences: int) -> SoftLabels:
        """The same labels as tensors of leading shape (B, T); memory is shared."""

        def shaped(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).reshape(num_sequences, -1, *values.shape[1:])

        columns = {name.rpartition("_")[0]: shaped(values) for name, values in _columns(self).items()}
        del columns["num"]
        return SoftLabels(**columns)


def _columns(labels: RaggedLabels | PaddedLabels) -> dict[str, np.ndarray]:
    """The arrays by name, without a tail where there is none."""
    return {name: values for name, values in vars(labels).items() if values is not None}


def blank(num_N: np.ndarray, has_tail: bool) -> PaddedLabels:
    """Labels to be filled in: zeros, as wide as the widest position."""
    shape = (len(num_N), max(1, int(num_N.max(initial=0))))
    return PaddedLabels(
        num_N=num_N,
        ids_NK=np.zeros(shape, np.int64),
        weights_NK=np.zeros(shape, np.float32),
        entropy_N=np.empty(len(num_N), np.float32),
        gold_logprob_N=np.empty(len(num_N), np.float32),
        gold_rank_N=np.empty(len(num_N), np.int32),
        tail_N=np.empty(len(num_N), np.float32) if has_tail else None,
    )


def padded(rows: RaggedLabels, scale: float = 1.0) -> PaddedLabels:
    """Ragged labels as padded ones; values are multiplied by ``scale`` (1/N turns counts into weights)."""
    width = max(1, int(rows.num_N.max(initial=0)))
    used_NK = np.arange(width) < rows.num_N[:, None]
    ids_NK = np.zeros(used_NK.shape, np.int64)
    weights_NK = np.zeros(used_NK.shape, np.float32)
    ids_NK[used_NK] = rows.ids_E
    weights_NK[used_NK] = rows.values_E * np.float32(scale)
    side = (rows.entropy_N, rows.gold_logprob_N, rows.gold_rank_N, rows.tail_N)
    return PaddedLabels(rows.num_N.astype(np.int32), ids_NK, weights_NK, *side)
