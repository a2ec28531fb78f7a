"""The bigram world as the training loop reads data: packed sequences, and a teacher's labels looked up by tokens.

Letters: B sequences, T positions, K states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.types import IGNORE_INDEX, Batch, SoftLabels
from stillroom.worlds.bigram import BigramWorld
from stillroom.worlds.bigram_rows import Floats, tempered
from stillroom.worlds.bigram_teachers import TeacherSpec, teacher_rows

START, LOW_ROW, HIGH_ROW = 0, 1, 2
"""Process codes: the first token of a walk, a token drawn from a low-entropy row, one drawn from a high-entropy row."""


@dataclass(frozen=True, eq=False)
class BigramSequences:
    """Walks through the world, one document each (``Sequences``)."""

    world: BigramWorld
    tokens: NDArray[np.int64]
    """(number, T)"""

    @property
    def sequence_length(self) -> int:
        """T, in tokens."""
        return self.tokens.shape[1]

    def __len__(self) -> int:
        return len(self.tokens)

    def first(self, num_tokens: int) -> BigramSequences:
        """The first sequences, ``num_tokens`` together or a little less."""
        return BigramSequences(self.world, self.tokens[: max(1, num_tokens // self.sequence_length)])

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers, in this order; ``process_BT`` tells the class of the row behind a token."""
        tokens_BT = torch.from_numpy(self.tokens[np.asarray(indices, np.int64)])
        targets_BT = torch.full_like(tokens_BT, IGNORE_INDEX)
        targets_BT[:, :-1] = tokens_BT[:, 1:]
        high_K = torch.from_numpy(self.world.high_K)
        process_BT = torch.full_like(tokens_BT, START, dtype=torch.int32)
        process_BT[:, 1:] = torch.where(high_K[tokens_BT[:, :-1]], HIGH_ROW, LOW_ROW).int()
        return Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT, dtype=torch.int32), process_BT)


def sample_sequences(world: BigramWorld, num_tokens: int, length: int, seed: int) -> BigramSequences:
    """Walks of ``length`` tokens, ``num_tokens`` together, that depend on the world and the seed alone."""
    random = np.random.default_rng([0x5E9, seed])
    return BigramSequences(world, world.walks(max(1, num_tokens // length), length, random))


@dataclass(frozen=True, eq=False)
class BigramLabels:
    """A teacher's labels for sequences of the world (the ``labels`` that the training loop asks for).

    A leak onto the context puts η on the tokens seen so far, in proportion to how often each was, the current one
    included; all other teachers say the same whenever they meet a token.
    """

    rows_KK: Tensor
    """float32: the teacher's distribution after every token, at its temperature; without the context's leak."""
    context_leak: float = 0.0
    temperature: float = 1.0

    def labels(self, batch: Batch) -> SoftLabels:
        """Every token's probability at every position, as dense labels (K ids), on the batch's device."""
        tokens_BT = batch.tokens_BT.cpu()
        weights_BTK = self.rows_KK[tokens_BT]
        if self.context_leak:
            weights_BTK = self._with_context(weights_BTK, tokens_BT)
        num = self.rows_KK.shape[0]
        targets_BT = torch.zeros_like(tokens_BT)
        targets_BT[:, :-1] = tokens_BT[:, 1:]
        gold_BT1 = weights_BTK.gather(-1, targets_BT[..., None])
        rank_BT = (weights_BTK > gold_BT1).sum(-1, dtype=torch.int32)
        logprob_BT = gold_BT1[..., 0].clamp(min=1e-38).log()
        rank_BT[:, -1], logprob_BT[:, -1] = -1, 0.0
        entropy_BT = -torch.xlogy(weights_BTK, weights_BTK).sum(-1)
        ids_BTK = torch.arange(num, device=tokens_BT.device).expand_as(weights_BTK)
        return SoftLabels(ids_BTK, weights_BTK, entropy_BT, logprob_BT, rank_BT).to(batch.tokens_BT.device)

    def _with_context(self, weights_BTK: Tensor, tokens_BT: Tensor) -> Tensor:
        seen_BTK = torch.nn.functional.one_hot(tokens_BT, weights_BTK.shape[-1]).float().cumsum(1)
        seen_BTK /= torch.arange(1, tokens_BT.shape[1] + 1, device=tokens_BT.device)[:, None]
        mixed = (1.0 - self.context_leak) * weights_BTK + self.context_leak * seen_BTK
        if self.temperature == 1.0:
            return mixed
        return torch.softmax(mixed.clamp(min=1e-38).log() / self.temperature, -1)


def bigram_labels(world: BigramWorld, spec: TeacherSpec, temperature: float = 1.0, seed: int = 0) -> BigramLabels:
    """The labels of a teacher that is exact or imperfect as ``spec`` says, at a softmax temperature."""
    if spec.kind == "context":
        return BigramLabels(_tensor(world.matrix_KK), spec.amount, temperature)
    return BigramLabels(_tensor(tempered(teacher_rows(world, spec, seed, "stationary"), temperature)))


def _tensor(rows: Floats) -> Tensor:
    return torch.from_numpy(rows.astype(np.float32))
