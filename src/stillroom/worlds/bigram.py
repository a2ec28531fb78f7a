"""The bigram world: the next token depends on the current one alone, so everything about it is known exactly.

Letters: K states (tokens), B sequences, T positions. Imports numpy, types and its own rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stillroom.worlds.bigram_rows import (
    Floats,
    log_dirichlet,
    low_targets,
    row_entropies,
    solved_rows,
    stationary,
)

Visits = Literal["uniform", "stationary"]
"""How often each row is met: all alike (states drawn independently), or as a long walk meets them."""
AS_DRAWN = -1.0
"""Entropy of rows that are left as the Dirichlet distribution drew them."""


@dataclass(frozen=True)
class BigramOptions:
    """Knobs of a drawn bigram world."""

    states: int = 100
    """K, the tokens."""
    high_share: float = 0.5
    """Part of the rows that are high-entropy."""
    support: int = 0
    """p, next tokens that a high-entropy row can have; 0 means all K."""
    concentration: float = 1.0
    """Dirichlet concentration of the rows before they are solved; 1 is even over the simplex, less is more uneven."""
    high_entropy: float = AS_DRAWN
    """Entropy of every high-entropy row, nats; negative means as drawn."""
    low_entropy: float = 0.0
    """Entropy of every low-entropy row, nats; 0 means one certain next token, negative means as drawn."""
    low_support: int = 0
    """Next tokens that a low-entropy row can have; 0 means all K."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.states <= 16_384:  # whose square is 2 GiB
            raise ValueError(f"states is {self.states}, expected 2 to 16384")
        if not 0.0 <= self.high_share <= 1.0:
            raise ValueError(f"high_share is {self.high_share}, expected 0 to 1")
        if self.concentration <= 0.0:
            raise ValueError(f"concentration is {self.concentration}, expected a number above 0")
        for name in ("support", "low_support"):
            if not 0 <= getattr(self, name) <= self.states:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 (all) to states, {self.states}")
        for name, width in (("high_entropy", self.support), ("low_entropy", self.low_support)):
            most = float(np.log(width or self.states))
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at most log(support), {most:.4f} nats")


@dataclass(frozen=True, eq=False)
class BigramWorld:
    """A transition matrix, which of its rows count as high-entropy, and what follows from them exactly."""

    matrix_KK: Floats
    """Row i is the distribution of the token after token i."""
    high_K: NDArray[np.bool_]
    words: tuple[str, ...] = ()
    """What the tokens stand for, where they stand for something."""

    @property
    def num_states(self) -> int:
        """K."""
        return len(self.matrix_KK)

    @cached_property
    def entropy_K(self) -> Floats:
        """Entropy of every row, nats."""
        return row_entropies(self.matrix_KK)

    @cached_property
    def stationary_K(self) -> Floats:
        """Share of a long walk's time in each state."""
        return stationary(self.matrix_KK)

    def visits_K(self, visits: Visits) -> Floats:
        """Share of the samples that each row receives."""
        if visits == "uniform":
            return np.full(self.num_states, 1.0 / self.num_states)
        return self.stationary_K

    def optimal_loss_nats(self, visits: Visits = "stationary") -> float:
        """The lowest cross-entropy that any model can have, nats per token: the entropy rate of the chain."""
        return float(self.visits_K(visits) @ self.entropy_K)

    def loss_nats(self, model_KK: Floats, visits: Visits = "stationary") -> float:
        """Expected cross-entropy of a model's rows, nats per token; infinite where it excludes what can happen."""
        with np.errstate(divide="ignore"):
            logs = np.where(self.matrix_KK > 0, np.log(model_KK), 0.0)
        return float(self.visits_K(visits) @ -(self.matrix_KK * logs).sum(1))

    def identity(self) -> str:
        """A hash of the matrix and its classes."""
        data = np.ascontiguousarray(self.matrix_KK).tobytes() + np.ascontiguousarray(self.high_K).tobytes()
        return hashlib.sha256(data).hexdigest()[:16]

    def counts(self, num_samples: int, random: np.random.Generator, visits: Visits = "uniform") -> NDArray[np.int64]:
        """How often each transition occurs (K × K) among independent (state, next) samples, drawn as sums at once."""
        visits_K = random.multinomial(num_samples, _proper(self.visits_K(visits)))
        return transition_counts(self.matrix_KK, visits_K, random)

    def walks(self, num: int, length: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Token sequences (num × length), each starting from the stationary distribution."""
        ends = np.cumsum(self.matrix_KK, axis=1)
        ends /= ends[:, -1:]
        places = (ends + np.arange(self.num_states)[:, None]).ravel()  # one sorted list in which row i lies on [i, i+1]
        tokens = np.empty((num, length), np.int64)
        tokens[:, 0] = random.choice(self.num_states, num, p=_proper(self.stationary_K))
        for position in range(1, length):
            state = tokens[:, position - 1]
            found = np.searchsorted(places, state + random.random(num), side="right") - state * self.num_states
            tokens[:, position] = np.minimum(found, self.num_states - 1)
        return tokens


def transition_counts(matrix_KK: Floats, visits_K: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Next-token counts (K × K) of rows that are visited so often: one multinomial for each row."""
    return random.multinomial(visits_K, _proper(matrix_KK))


def bigram_world(options: BigramOptions) -> BigramWorld:
    """A drawn world: the same options give the same matrix.

    Rows that are high-entropy lie anywhere; every low-entropy row has a likeliest next token that leads, along
    likeliest tokens, to a high-entropy row, so that a walk visits all of the world.
    """
    random = np.random.default_rng([0xB16A, options.seed])
    num, num_high = options.states, round(options.high_share * options.states)
    order = random.permutation(num)  # low-entropy rows first
    low, high = order[: num - num_high], order[num - num_high :]
    matrix = np.zeros((num, num))
    width = options.low_support or num
    targets = order[low_targets(len(low), num, random)]
    matrix[low] = _rows(len(low), num, width, options.concentration, options.low_entropy, random, targets)
    width = options.support or num
    matrix[high] = _rows(len(high), num, width, options.concentration, options.high_entropy, random)
    is_high = np.zeros(num, np.bool_)
    is_high[high] = True
    return BigramWorld(matrix, is_high)


def _rows(
    count: int,
    num: int,
    width: int,
    concentration: float,
    entropy: float,
    random: np.random.Generator,
    targets: NDArray[np.int64] | None = None,
) -> Floats:
    """``count`` rows over ``width`` of ``num`` tokens each; the likeliest is ``targets`` where that is given."""
    if not count:
        return np.zeros((0, num))
    logs = log_dirichlet((count, width), concentration, random)
    narrow = np.exp(logs) if entropy < 0 else solved_rows(logs, entropy)
    narrow /= narrow.sum(1, keepdims=True)
    places = np.argsort(random.random((count, num)), axis=1)[:, :width]
    if targets is not None:
        narrow = -np.sort(-narrow, axis=1)
        places = _with_first(places, targets)
    rows = np.zeros((count, num))
    np.put_along_axis(rows, places, narrow, axis=1)
    return rows


def _with_first(places: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places with each row's target moved, or put, into the first column."""
    places = places.copy()
    for row, target in zip(places, targets, strict=True):
        found = np.flatnonzero(row == target)
        row[found[0] if len(found) else 0], row[0] = row[0], target
    return places


def split_by_entropy(matrix_KK: Floats, threshold_nats: float, words: tuple[str, ...] = ()) -> BigramWorld:
    """A world of any given matrix; rows above the threshold count as high-entropy."""
    return BigramWorld(matrix_KK, row_entropies(matrix_KK) > threshold_nats, words)


def _proper(rows: Floats) -> Floats:
    """Rows that sum to 1 as closely as the sampler asks for."""
    return rows / rows.sum(-1, keepdims=True)
