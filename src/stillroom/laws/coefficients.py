"""How well points tell each coefficient of a law: 95 % intervals of the law made linear about its fit.

Coefficients trade against one another along valleys that resampled fits do not walk to the end, so that a bootstrap's
quantiles of a single one are too narrow. The linear law knows the valley: its information matrix is nearly singular
along it. Letters: P points, K coefficients. Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit  # scipy.stats alone takes a third of a second

from stillroom.laws.fits import LIMITS, Form, free_names, log_errors
from stillroom.laws.forms import DistillationLaw, Floats, SupervisedLaw
from stillroom.laws.points import Points
from stillroom.types import Estimate

_STEP = 1e-5
_LEAST = 1e-13
"""Eigenvalue of the scaled information matrix below which rounding says more than the points do."""


@dataclass(frozen=True)
class Told:
    """What some points tell of the free coefficients of a law: their covariance (K, K) and degrees of freedom."""

    names: tuple[str, ...]
    covariance_KK: Floats
    freedom: int


def supervised_told(law: SupervisedLaw, points: Points) -> Told:
    """Of the supervised law, by its students of hard labels."""
    loss_P, slopes_PK = law.with_gradient(points.N_P, points.D_P)
    slopes_PK = slopes_PK / loss_P[:, None]
    names, freedom = SupervisedLaw.names(), len(points) - slopes_PK.shape[1]
    return Told(names, _inverse(slopes_PK) * _spread(log_errors(law, points), freedom) ** 2, freedom)


def drawn_told(draws_RK: Floats) -> Told:
    """Of a supervised law that is known by draws of its coefficients (R, 6) alone."""
    return Told(SupervisedLaw.names(), np.cov(np.log(draws_RK), rowvar=False), len(draws_RK) - 1)


def distilled_told(law: DistillationLaw, points: Points, base: Told) -> Told:
    """Of the distillation law; what is not known of the supervised law under it (``base``) widens it."""
    names = free_names(form_of(law))
    columns = [law.names().index(name) for name in names]
    loss_P, slopes_PK = law.with_gradient(points.N_P, points.D_P, points.teacher_P)
    slopes_PK = slopes_PK[:, columns] / loss_P[:, None]
    inverse_KK, freedom = _inverse(slopes_PK), len(points) - len(names)
    covariance_KK = inverse_KK * _spread(log_errors(law, points), freedom) ** 2
    moved_KB = inverse_KK @ slopes_PK.T @ _slopes_by_base(law, points)
    return Told(names, covariance_KK + moved_KB @ base.covariance_KK @ moved_KB.T, freedom)


def form_of(law: DistillationLaw) -> Form:
    """The form that a law has: the published one keeps nothing of what hard labels would have made of a student."""
    return "recovery" if law.recovery > 0 else "published"


def _inverse(slopes_PK: Floats) -> Floats:
    """(JᵀJ)⁻¹ (K, K), large instead of infinite along what the points do not tell at all."""
    size_K = np.linalg.norm(slopes_PK, axis=0)
    size_K = np.maximum(size_K, 1e-12 * size_K.max())
    values_K, vectors_KK = np.linalg.eigh((slopes_PK / size_K).T @ (slopes_PK / size_K))
    return (vectors_KK / np.maximum(values_K, _LEAST)) @ vectors_KK.T / np.outer(size_K, size_K)


def _spread(errors_P: Floats, freedom: int) -> float:
    """1 / (2 f(0)) of the errors' density f, the scale of a median fit, by Hall and Sheather's (1988) bandwidth."""
    num = len(errors_P)
    normal = NormalDist()
    width = num ** (-1 / 3) * normal.inv_cdf(0.975) ** (2 / 3) * (1.5 * normal.pdf(0.0) ** 2) ** (1 / 3)
    width = min(0.4, float(width))
    low, high = np.quantile(errors_P, [0.5 - width, 0.5 + width])
    return float(high - low) / (4 * width) * math.sqrt(num / max(1, freedom))


def _slopes_by_base(law: DistillationLaw, points: Points) -> Floats:
    """Derivatives (P, 6) of the log losses by the supervised law's free coefficients."""
    names = SupervisedLaw.names()
    free_K, columns = law.supervised.free(names), []
    for place in range(len(names)):
        ends = []
        for step in (-_STEP, _STEP):
            moved_K = free_K + step * (np.arange(len(names)) == place)
            moved = replace(law, supervised=law.supervised.moved(names, moved_K))
            ends.append(np.log(moved.loss(points.N_P, points.D_P, points.teacher_P)))
        columns.append((ends[1] - ends[0]) / (2 * _STEP))
    return np.stack(columns, axis=-1)


def coefficient_intervals(law: SupervisedLaw | DistillationLaw, told: Told) -> dict[str, Estimate]:
    """Every free coefficient with its 95 % interval, cut at what a fit may reach (A and B are not).

    Each is told on the scale on which the law is nearly linear: its logarithm, c0 itself; 1/c1, and d1^(-1/f1), for
    with both near 0 at once the capacity gap's term is an exponential, and no larger c1 or d1 is told from another.
    """
    quantile = float(stdtrit(told.freedom, 0.975))
    found = {}
    for place, name in enumerate(told.names):
        value, width = getattr(law, name), quantile * math.sqrt(told.covariance_KK[place, place])
        ends = _ends(law, told, name, value, width, quantile)
        limits = (-math.inf, math.inf) if name in ("A", "B") else LIMITS[name]
        least, most = limits if name == "c0" else map(_exp, limits)
        low, high = (min(max(end, least), most) for end in ends)
        found[name] = Estimate(float(value), min(low, value), max(high, value), told.freedom)
    return found


def _ends(
    law: SupervisedLaw | DistillationLaw, told: Told, name: str, value: float, width: float, quantile: float
) -> tuple[float, float]:
    if name == "c0":
        return value - width, value + width
    if isinstance(law, SupervisedLaw) or name not in ("c1", "d1"):
        return value * _exp(-width), value * _exp(width)
    if name == "c1":
        middle, width, power = 1 / law.c1, width / law.c1, -1.0
    else:
        log_d1, power = math.log(law.d1), -law.f1
        slope_K = np.zeros(len(told.names))  # of the logarithm of d1^(-1/f1) by log d1 and log f1
        slope_K[told.names.index("d1")], slope_K[told.names.index("f1")] = -1 / law.f1, log_d1 / law.f1
        middle = math.exp(-log_d1 / law.f1)
        width = quantile * math.sqrt(slope_K @ told.covariance_KK @ slope_K) * middle
    low, high = middle - width, middle + width
    return high**power, low**power if low > 0 else math.inf


def _exp(power: float) -> float:
    return math.exp(power) if power < 700 else math.inf
