"""Points of a law whose coefficients are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stillroom.laws.forms import DistillationLaw
from stillroom.laws.points import Points
from stillroom.laws.presets import BUSBRIDGE_2025

TRUE = replace(BUSBRIDGE_2025, recovery=0.05)


def made_points(seed: int, *, noise: float = 0.003, law: DistillationLaw = TRUE, per_group: int = 4) -> Points:
    """Five sizes at ``per_group`` token counts, by hard labels and by three teachers, losses with relative noise."""
    rng = np.random.default_rng(seed)
    N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(2e8, 4e9, 5), np.geomspace(4e9, 2e11, per_group)))
    losses = [law.supervised.loss(N, D), *(law.loss(N, D, teacher) for teacher in (1.95, 2.2, 2.5))]
    teachers = np.repeat([np.nan, 1.95, 2.2, 2.5], len(N))
    loss = np.concatenate(losses) * np.exp(rng.normal(0, noise, 4 * len(N)))
    return Points(np.tile(N, 4), np.tile(D, 4), teachers, loss, tuple(map(str, range(4 * len(N)))))
