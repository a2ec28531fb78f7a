"""From a teacher's scores to rows of labels: what is read of each position, and how little leaves the device.

Letters: B sequences, T positions, N = B·T, n positions of a chunk, V vocabulary, D width, K kept ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stillroom.labels.codecs.codec import ScoredPositions
from stillroom.labels.codecs.gold import LEVELS
from stillroom.labels.ragged import NO_GOLD, RaggedLabels, join_labels
from stillroom.labels.settings import LabelSettings
from stillroom.types import Batch, UserError

_FEWEST_ROWS, _READ_SCORES = 32, 1 << 17


def rows_at_a_time(vocab_size: int) -> int:
    """Positions whose scores are read at one time on a CPU, so that the passes over them stay in its cache."""
    return max(_FEWEST_ROWS, _READ_SCORES // vocab_size)


_LEAST = -1e30
"""Stands for -inf in products with a mass of 0."""
_IMPOSSIBLE = -float(LEVELS[-1])
"""Gold log-probability, in nats, of a token that the teacher holds for impossible: the lowest that a store keeps."""


class NotFinite(UserError):
    """The scores of a position are no distribution: a NaN, an infinity, or nothing but -inf.

    A single id may have -inf: the teacher holds it for impossible.
    """

    def __init__(self, found: str, position: int, sequence: int = 0, where: str = ""):
        self.found, self.position, self.sequence = found, position, sequence
        super().__init__(
            f"teacher: {found} among its scores at position {position}{where}, expected finite numbers; its weights "
            "are damaged or overflow in this precision: check them, or use another teacher."
        )


class Scores(Protocol):
    """Anything that scores the next token at every position of a batch."""

    @property
    def device(self) -> torch.device:
        """Where the scores are made."""
        ...

    @property
    def isolate(self) -> bool:
        """Whether packed documents are scored as if each stood alone; a store says so."""
        ...

    @property
    def precision_name(self) -> str:
        """The precision that the scores are made in, ``fp32`` or ``bf16``; a store says so."""
        ...

    def chunks(self, batch: Batch) -> Iterator[Tensor]:
        """Unnormalised log-probabilities (n, V), float32, of consecutive positions in order; sum of n = B·T."""
        ...


def capture(scores: Scores, batch: Batch, offset_N: np.ndarray, settings: LabelSettings) -> RaggedLabels:
    """Labels of every position of a batch, read at ``settings.temperature``.

    Arguments: ``offset_N`` float64 in [0, 1), the sampling offset of each position (sampled codec only).
    """
    targets_N = batch.targets_BT.flatten().to(scores.device)
    offset = torch.from_numpy(offset_N).to(scores.device)
    pieces, start = [], 0
    for scores_nV in scores.chunks(batch):
        step = rows_at_a_time(scores_nV.shape[1]) if scores_nV.device.type == "cpu" else len(scores_nV)
        for part_nV in scores_nV.split(step):
            here = slice(start, start + len(part_nV))
            try:
                pieces.append(read_labels(part_nV, targets_N[here], offset[here], settings))
            except NotFinite as error:
                sequence, position = divmod(start + error.position, batch.tokens_BT.shape[1])
                raise NotFinite(error.found, position, sequence, f" of sequence {sequence} of the batch") from None
            start += len(part_nV)
    return join_labels(pieces)


def refuse_non_finite(scores_nV: Tensor) -> Tensor:
    """The largest score (n, 1) of every position; raises ``NotFinite`` for the first that is no distribution."""
    largest_n1 = scores_nV.amax(-1, keepdim=True)
    is_bad_n = ~largest_n1.squeeze(1).isfinite()
    if is_bad_n.any():
        place = int(is_bad_n.nonzero()[0])
        largest = float(largest_n1[place])
        raise NotFinite({math.inf: "inf", -math.inf: "nothing but -inf"}.get(largest, "NaN"), place)
    return largest_n1


def read_labels(scores_nV: Tensor, targets_n: Tensor, offset_n: Tensor, settings: LabelSettings) -> RaggedLabels:
    """Labels of a chunk of positions; only the kept ids and four numbers per position leave the device.

    ``scores_nV`` is overwritten. Raises ``NotFinite`` where a position's scores are no distribution.
    """
    if settings.temperature != 1.0:
        scores_nV /= settings.temperature
    shifted_nV = scores_nV.sub_(refuse_non_finite(scores_nV))
    mass_nV = shifted_nV.exp()
    total_n = mass_nV.sum(-1)
    log_total_n = total_n.log()
    entropy_n = (log_total_n - _weighted_sum(mass_nV, shifted_nV) / total_n).clamp(min=0.0)
    has_gold_n = targets_n >= 0
    if int(targets_n.amax()) >= scores_nV.shape[1]:
        raise UserError(
            f"teacher: scores {scores_nV.shape[1]} tokens but token id {int(targets_n.amax())} comes next; "
            "use the teacher's own tokenizer."
        )
    gold_n1 = shifted_nV.gather(1, targets_n.clamp(min=0)[:, None])
    rank_n = torch.where(has_gold_n, (shifted_nV > gold_n1).sum(-1), NO_GOLD)
    gold_logprob_n = torch.where(has_gold_n, gold_n1.squeeze(1) - log_total_n, 0.0).clamp(max=0.0)
    gold_logprob_n = gold_logprob_n.where(gold_logprob_n.isfinite(), _IMPOSSIBLE)
    kept = settings.codec.read(ScoredPositions(shifted_nV, mass_nV, log_total_n, offset_n))
    values_kind = np.float32 if settings.codec.draws is None else np.uint8
    return RaggedLabels(
        num_N=_host(kept.num_n, np.uint16),
        ids_E=_host(kept.ids_E, np.int32),
        values_E=_host(kept.values_E, values_kind),
        entropy_N=_host(entropy_n, np.float32),
        gold_logprob_N=_host(gold_logprob_n, np.float32),
        gold_rank_N=_host(rank_n, np.int32),
        tail_N=None if kept.tail_n is None else _host(kept.tail_n, np.float32),
    )


def _weighted_sum(mass_nV: Tensor, shifted_nV: Tensor) -> Tensor:
    """Σ mass·shifted (n,) over the vocabulary; an impossible id, 0 times -inf, adds nothing."""
    total_n = torch.linalg.vecdot(mass_nV, shifted_nV)
    return total_n if bool(total_n.isfinite().all()) else torch.linalg.vecdot(mass_nV, shifted_nV.clamp(min=_LEAST))


def _host(values: Tensor, kind: type) -> np.ndarray:
    return values.cpu().numpy().astype(kind)
