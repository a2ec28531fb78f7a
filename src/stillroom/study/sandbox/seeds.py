"""Means over seeds with intervals.

Letters: S seeds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from stillroom.types import Estimate

_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""Student's t at 0.975 for 1 to 20 degrees of freedom."""


def over_seeds(values: ArrayLike) -> Estimate:
    """The mean of one number per seed and its 95 % interval by Student's t, which is honest about few seeds.

    One seed has no interval: both ends are then the value itself. Values that are not finite make the mean so.
    """
    values_S = np.asarray(values, dtype=np.float64)
    num = len(values_S)
    mean = float(values_S.mean())
    if num < 2 or not math.isfinite(mean):
        return Estimate(mean, mean, mean, num)
    half = student_t(num - 1) * float(values_S.std(ddof=1)) / math.sqrt(num)
    return Estimate(mean, mean - half, mean + half, num)


def student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t (above 20 degrees by its expansion in 1/degrees)."""
    if degrees <= len(_T_975):
        return _T_975[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
