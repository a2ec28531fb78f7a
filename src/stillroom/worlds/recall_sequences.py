"""The recall world as training data and as a source of soft labels.

Letters: B sequences, T positions, V characters, K triggers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError
from stillroom.worlds.recall import RecallSample, RecallWorld
from stillroom.worlds.recall_teachers import RecallTeacher, entropies

_REMEMBERED = 8192
"""Sequences whose triggers are kept until their labels are asked for."""


def recall_batch(sample: RecallSample) -> Batch:
    """One document per sequence; ``process_BT`` is the sample's."""
    tokens_BT = torch.from_numpy(sample.tokens_BT)
    targets_BT = torch.full_like(tokens_BT, IGNORE_INDEX)
    targets_BT[:, :-1] = tokens_BT[:, 1:]
    document_BT = torch.zeros_like(tokens_BT, dtype=torch.int32)
    return Batch(tokens_BT, targets_BT, document_BT, torch.from_numpy(sample.process_BT))


class RecallSequences:
    """``count`` sequences of a seed, made when they are asked for (see ``types.Sequences``)."""

    def __init__(self, world: RecallWorld, count: int, length: int, seed: int) -> None:
        self.world, self._count, self._length, self._seed = world, count, length, seed
        self._triggers: OrderedDict[bytes, NDArray[np.int64]] = OrderedDict()

    @property
    def sequence_length(self) -> int:
        """T, in tokens."""
        return self._length

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers, in this order."""
        sample = self.world.sample(np.asarray(indices), self._length, self._seed)
        if self.world.options.draw == "per-sequence":
            for tokens_T, triggers_K in zip(sample.tokens_BT, sample.triggers_BK, strict=True):
                self._triggers[tokens_T.tobytes()] = triggers_K
            while len(self._triggers) > _REMEMBERED:
                self._triggers.popitem(last=False)
        return recall_batch(sample)

    def triggers(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.int64]:
        """The triggers (B, K) of sequences that were given lately.

        Raises:
            UserError: a sequence is not one of them (only where triggers are drawn per sequence).
        """
        if self.world.options.draw == "fixed":
            return np.broadcast_to(self.world.fixed_K, (len(tokens_BT), len(self.world.fixed_K)))
        try:
            return np.stack([self._triggers[tokens_T.tobytes()] for tokens_T in tokens_BT])
        except KeyError:
            raise UserError(
                "world.draw: is per-sequence and labels were asked for of a sequence that was not made here; "
                "ask for labels of the batches of this run."
            ) from None


@dataclass(frozen=True)
class RecallLabels:
    """A known teacher's labels of the sequences of ``stream``: all V characters, at every position."""

    stream: RecallSequences
    teacher: RecallTeacher

    def labels(self, batch: Batch) -> SoftLabels:
        """Labels (B, T, V) on the batch's device; entropy and probability of the next token are this teacher's."""
        tokens = np.ascontiguousarray(batch.tokens_BT.cpu().numpy())
        rows = self.teacher.probabilities(self.stream.world, tokens, self.stream.triggers(tokens))
        weights = torch.from_numpy(rows)
        next_BT = torch.from_numpy(np.roll(tokens, -1, axis=1))
        gold_BT = weights.gather(-1, next_BT[..., None])[..., 0]
        rank_BT = (weights > gold_BT[..., None]).sum(-1, dtype=torch.int32)
        logprob_BT = gold_BT.clamp(min=torch.finfo(torch.float32).tiny).log()
        logprob_BT[:, -1], rank_BT[:, -1] = 0.0, -1
        ids = torch.arange(rows.shape[-1]).expand(rows.shape)
        labels = SoftLabels(ids, weights, torch.from_numpy(entropies(rows)), logprob_BT, rank_BT)
        return labels.to(batch.tokens_BT.device)
