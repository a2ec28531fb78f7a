"""Teachers of the recall world that need no training: the exact one, and ones that are wrong in a known way.

Letters: B sequences, T positions, V characters, K triggers. Numpy, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stillroom.worlds.recall import RecallSample, RecallWorld

_LEAKS = ("unigram", "uniform", "context")


@dataclass(frozen=True)
class RecallTeacher:
    """The exact teacher, made wrong: s = (1 - leak)·softmax(log π / temperature) + leak·r."""

    leak: float = 0.0
    """η: probability that goes astray, 0 to 1; 0 with temperature 1 is the exact teacher."""
    towards: Literal["unigram", "uniform", "context"] = "unigram"
    """r: the characters' frequencies, all characters alike, or the characters seen so far in this sequence."""
    temperature: float = 1.0
    """Of the true distribution, before the leak."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.leak <= 1.0:
            raise ValueError(f"leak is {self.leak}, expected 0 to 1")
        if self.towards not in _LEAKS:
            raise ValueError(f"towards is {self.towards!r}, expected one of {', '.join(_LEAKS)}")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")

    def probabilities(
        self, world: RecallWorld, tokens_BT: NDArray[np.int64], triggers_BK: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What this teacher says of every position's next token, (B, T, V)."""
        rows = exact_probabilities(world, tokens_BT, triggers_BK)
        if self.temperature != 1.0:
            rows = rows ** np.float32(1 / self.temperature)
            rows /= rows.sum(-1, keepdims=True)
        if self.leak == 0.0:
            return rows
        rows *= np.float32(1 - self.leak)
        rows += np.float32(self.leak) * self._astray(world, tokens_BT)
        return rows

    def _astray(self, world: RecallWorld, tokens_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        size = world.vocab_size
        if self.towards == "unigram":
            return world.bigrams.unigram_V.astype(np.float32)
        if self.towards == "uniform":
            return np.full(size, 1 / size, dtype=np.float32)
        seen_BTV = np.zeros((*tokens_BT.shape, size), dtype=np.float32)
        np.put_along_axis(seen_BTV, tokens_BT[..., None], 1.0, axis=2)
        np.cumsum(seen_BTV, axis=1, out=seen_BTV)
        return seen_BTV / np.arange(1, tokens_BT.shape[1] + 1, dtype=np.float32)[:, None]


def exact_probabilities(
    world: RecallWorld, tokens_BT: NDArray[np.int64], triggers_BK: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The true distribution of every position's next token, (B, T, V), of one who knows the rule and the triggers.

    After an ordinary token it is the bigram row. After the first occurrence of a trigger it is what answers are drawn
    from, and after a later one it is all on the answer that followed the first. Where triggers are drawn per sequence,
    this teacher is told which they are, which a student can only infer.
    """
    rows_BTV = world.bigrams.rows_VV.astype(np.float32)[tokens_BT]
    first_VV = _first_answer_rows(world)
    places = np.arange(tokens_BT.shape[1])
    for slot in range(triggers_BK.shape[1]):
        is_trigger_BT = tokens_BT == triggers_BK[:, slot, None]
        first_B = np.where(is_trigger_BT.any(1), is_trigger_BT.argmax(1), tokens_BT.shape[1])
        at_first = is_trigger_BT & (places == first_B[:, None])
        rows_BTV[at_first] = first_VV[tokens_BT[at_first]]
        follower_B = np.take_along_axis(tokens_BT, np.minimum(first_B + 1, places[-1])[:, None], axis=1)[:, 0]
        later = np.argwhere(is_trigger_BT & (places > first_B[:, None]))
        rows_BTV[later[:, 0], later[:, 1]] = 0.0
        rows_BTV[later[:, 0], later[:, 1], follower_B[later[:, 0]]] = 1.0
    return rows_BTV


def _first_answer_rows(world: RecallWorld) -> NDArray[np.float32]:
    """What the answer of each character, were it a trigger, is drawn from (V, V)."""
    size, kind = world.vocab_size, world.options.outputs
    if kind == "row":
        return world.bigrams.rows_VV.astype(np.float32)
    if kind == "uniform":
        return np.full((size, size), 1 / size, dtype=np.float32)
    rows = np.full((size, size), 1 / (size - 1), dtype=np.float32)
    np.fill_diagonal(rows, 0.0)
    return rows


def entropies(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Entropy of every row, in nats."""
    logs = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
    return -(rows * logs).sum(-1)


def optimal_loss(world: RecallWorld, sample: RecallSample) -> NDArray[np.float32]:
    """Lowest expected loss of every position with a target, in nats (B, T - 1): the exact teacher's entropy."""
    return entropies(exact_probabilities(world, sample.tokens_BT, sample.triggers_BK))[:, :-1]
