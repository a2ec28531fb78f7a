"""Teachers of a bigram world: the exact one, and every way of being imperfect that the theory speaks of.

Letters: K states, Z hidden classes. Imports the bigram world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stillroom.worlds.bigram import BigramWorld, Visits
from stillroom.worlds.bigram_rows import Floats

Kind = Literal["exact", "uniform", "context", "samples", "rank"]
KINDS: tuple[Kind, ...] = ("exact", "uniform", "context", "samples", "rank")
_STEPS = 300
"""Rounds of expectation maximisation of a low-rank teacher."""


@dataclass(frozen=True)
class TeacherSpec:
    """A teacher in two words: what is wrong with it, and how much."""

    kind: Kind = "exact"
    amount: float = 0.0
    """``uniform`` and ``context``: the leaked mass η. ``samples``: training samples. ``rank``: hidden classes Z."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"teacher {self.kind!r} is unknown, expected one of {', '.join(KINDS)}")
        if self.kind in ("uniform", "context") and not 0.0 <= self.amount <= 1.0:
            raise ValueError(f"teacher {self.kind} leaks {self.amount:g}, expected a share from 0 to 1")
        if self.kind in ("samples", "rank") and (self.amount < 1 or self.amount != int(self.amount)):
            raise ValueError(f"teacher {self.kind} has {self.amount:g}, expected a whole number of at least 1")

    @property
    def leak(self) -> float:
        """η, where the teacher leaks; else 0."""
        return self.amount if self.kind in ("uniform", "context") else 0.0

    def __str__(self) -> str:
        return self.kind if self.kind == "exact" else f"{self.kind}:{self.amount:g}"


EXACT = TeacherSpec()
"""The teacher that knows the truth."""


def parse_teacher(text: str) -> TeacherSpec:
    """``exact``, or a kind and an amount such as ``uniform:0.1``; ``ValueError`` says what was expected."""
    kind, sign, amount = text.strip().partition(":")
    if kind not in KINDS or (kind == "exact") == bool(sign):
        raise ValueError(
            f"teacher {text.strip()!r} is not understood, expected exact, uniform:LEAK, context:LEAK, samples:N or "
            "rank:Z"
        )
    try:
        return TeacherSpec(kind, float(amount) if sign else 0.0)  # type: ignore[arg-type]
    except ValueError as error:
        if "could not convert" in str(error):
            raise ValueError(f"teacher {text.strip()!r} has no number after the colon") from None
        raise


def teacher_rows(world: BigramWorld, spec: TeacherSpec, seed: int, visits: Visits = "uniform") -> Floats:
    """The teacher's mean distribution after every token (K × K), at temperature 1.

    ``uniform``: (1-η)π + η/K. ``context``: the leaked mass goes to the tokens of the context, whose mean is the share
    of each token among all. ``samples``: relative frequencies among so many samples, an unvisited row uniform.
    ``rank``: the closest matrix, in KL, of Z hidden classes (see ``low_rank``).
    """
    matrix, num = world.matrix_KK, world.num_states
    if spec.kind == "uniform":
        return (1.0 - spec.amount) * matrix + spec.amount / num
    if spec.kind == "context":
        return (1.0 - spec.amount) * matrix + spec.amount * world.visits_K(visits)
    random = np.random.default_rng([0x7EAC, seed])
    if spec.kind == "samples":
        counts = world.counts(int(spec.amount), random, visits)
        total = counts.sum(1, keepdims=True)
        return np.where(total > 0, counts / np.maximum(total, 1), 1.0 / num)
    if spec.kind == "rank":
        return low_rank(matrix, world.visits_K(visits), int(spec.amount), random)
    return matrix


def low_rank(
    matrix_KK: Floats, weights_K: Floats, num_classes: int, random: np.random.Generator, steps: int = _STEPS
) -> Floats:
    """Rows Σ_z p(z | i)·p(j | z): a model too small for the matrix, fitted by expectation maximisation.

    Every round lowers Σ_i w_i KL(π_i ‖ row_i) or leaves it (Hofmann 1999, probabilistic latent semantic analysis).
    """
    num = len(matrix_KK)
    classes_KZ = random.dirichlet(np.ones(num_classes), num)
    tokens_ZK = random.dirichlet(np.ones(num), num_classes)
    for _ in range(steps):
        ratio_KK = matrix_KK / np.maximum(classes_KZ @ tokens_ZK, 1e-300)
        new_KZ = classes_KZ * (ratio_KK @ tokens_ZK.T)
        tokens_ZK = tokens_ZK * ((weights_K[:, None] * classes_KZ).T @ ratio_KK)
        classes_KZ = new_KZ / new_KZ.sum(1, keepdims=True)
        tokens_ZK /= np.maximum(tokens_ZK.sum(1, keepdims=True), 1e-300)
    rows = classes_KZ @ tokens_ZK
    return rows / rows.sum(1, keepdims=True)
