"""Means over seeds with intervals.

Letters: S seeds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from stillroom.results.statistics import paired_interval
from stillroom.types import Estimate


def over_seeds(values: ArrayLike) -> Estimate:
    """The mean of one number per seed and its 95 % interval by Student's t, which is honest about few seeds.

    One seed has no interval: both ends are then the value itself. Values that are not finite make the mean so.
    """
    values_S = np.asarray(values, dtype=np.float64)
    num = len(values_S)
    mean = float(values_S.mean())
    if num < 2 or not math.isfinite(mean):
        return Estimate(mean, mean, mean, num)
    return paired_interval(values_S)
