"""Published laws, with their intervals and the range in which they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stillroom.laws.forms import DistillationLaw, Floats, SupervisedLaw

BUSBRIDGE_2025 = DistillationLaw(
    SupervisedLaw(E=1.220, A=3355.0, alpha=0.408, B=18186.0, beta=0.431, gamma=0.452),
    c0=2.549, c1=522.6, f1=0.090, d1=1.315, A=2243.0, alpha=0.321, B=24181.0, beta=0.637, gamma=0.764,
)  # fmt: skip
"""Busbridge et al. 2025 (2502.08606v2), table 6: C4, vocabulary 32,168, context 4,096, μP, λ = 1, T = 1."""

CAPACITY_BREAK = BUSBRIDGE_2025.d1
"""L_T / L̃_S, teacher loss over that of the supervised student, from which on a teacher is of no use."""
INTERVALS: Mapping[str, tuple[float, float]] = {"E": (1.190, 1.247), "c0": (2.425, 2.615), "d1": (1.302, 1.327)}
"""95 % intervals of that table, as far as they are printed here; the others are held in the preset's draws."""


@dataclass(frozen=True)
class Reach:
    """Where the points lay that a law was fitted on: least and most of each."""

    N: tuple[float, float]
    D: tuple[float, float]
    teacher: tuple[float, float]


REACH = Reach(N=(143e6, 7.75e9), D=(3.7e9, 515e9), teacher=(1.8953, 2.7545))
"""Sizes and tokens of the paper's students and losses of their teachers, on C4."""


def preset_draws(resamples: int = 1000, seed: int = 0) -> tuple[Floats, Floats]:
    """Coefficients drawn from the published intervals, (R, 6) and (R, 10): normal, each by itself, the others held.

    The true ones are correlated, so that these intervals are too wide rather than too narrow.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for law in (BUSBRIDGE_2025.supervised, BUSBRIDGE_2025):
        columns = []
        for name, value in law.coefficients().items():
            low, high = INTERVALS.get(name, (value, value))
            columns.append(rng.normal(value, (high - low) / (2 * 1.96), resamples))
        drawn.append(np.stack(columns, axis=1))
    return drawn[0], drawn[1]
