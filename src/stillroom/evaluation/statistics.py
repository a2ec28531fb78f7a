"""Means and ratios with 95 % bootstrap intervals over independent items, and t-intervals over a few seeds.

Letters: I items, R resamples. Imports types only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillroom.types import Estimate, UserError

RESAMPLES = 2000
_COUNTS_AT_A_TIME = 1 << 22


def ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Sum of the numerators over the sum of the denominators, with the interval from resampling items.

    An item is the unit that is independent of the others: a sequence, a document, a problem. The interval is the
    percentile bootstrap (Efron 1979): items are drawn with replacement, and the ratio of sums is taken anew. Items
    with denominator 0 carry no evidence and are left out of ``num``.

    Arguments:
        numerators: (I,) for example nats per sequence.
        denominators: (I,) for example tokens per sequence; not negative.
        strata: (I,) a class for every item whose number of items is fixed by design, such as the source of a mixture:
            items are drawn anew inside their own class. None means that all are of one.
        seed: Seed of the resampling; the same items and seed give the same interval.
        resamples: How many times the items are drawn anew.
    """
    top_I, bottom_I = _items(numerators, denominators)
    value = float(top_I.sum() / bottom_I.sum())
    classes_I = np.zeros(len(top_I), np.int64) if strata is None else np.asarray(strata)[_counted(denominators)]
    low, high = np.quantile(_resampled_ratios(top_I, bottom_I, classes_I, seed, resamples), (0.025, 0.975))
    return Estimate(value, float(low), float(high), len(top_I))


def mean(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of one number per item, with its interval (see ``ratio``)."""
    values_I = np.asarray(values, dtype=np.float64)
    return ratio(values_I, np.ones_like(values_I), seed=seed, resamples=resamples)


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Estimate, float]:
    """Mean of ``first - second`` over the same items, and the two-sided p-value that it is 0.

    The p-value is of the sign-flip permutation test: under the null hypothesis each item's difference is as likely to
    have the other sign. One is added to both counts so that it is never 0 (Phipson and Smyth 2010).
    """
    first_I, second_I = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first_I.shape != second_I.shape:
        raise ValueError(f"paired values must have one shape, found {first_I.shape} and {second_I.shape}")
    difference_I = first_I - second_I
    estimate = mean(difference_I, seed=seed, resamples=resamples)
    rng = np.random.default_rng([seed, 1])
    per_chunk = max(1, _COUNTS_AT_A_TIME // len(difference_I))
    as_extreme = 0
    for start in range(0, resamples, per_chunk):
        signs_RI = rng.integers(0, 2, size=(min(per_chunk, resamples - start), len(difference_I))) * 2 - 1
        flipped_R = signs_RI @ difference_I / len(difference_I)
        as_extreme += int((np.abs(flipped_R) >= abs(estimate.value) * (1 - 1e-12)).sum())
    return estimate, (as_extreme + 1) / (resamples + 1)


def paired_interval(differences: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of a few paired differences, such as one per training seed, with the interval of Student's t.

    The bootstrap of ``paired_difference`` is for many items; over three or five seeds it is far too narrow. This one
    is exact where differences are normal, whatever their number. One difference alone has no interval: its ends are
    NaN.

    Arguments:
        differences: One number for each seed: an arm minus another that was trained from the same seed.
        confidence: Share of experiments whose interval holds the true mean.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a share between 0 and 1")
    values_S = np.asarray(differences, dtype=np.float64)
    if values_S.ndim != 1 or not values_S.size:
        raise UserError("seeds: no paired difference was given, expected at least one; run both arms at one seed.")
    num, value = len(values_S), float(values_S.mean())
    if num == 1:
        return Estimate(value, math.nan, math.nan, 1)
    half = student_t(confidence, num - 1) * float(values_S.std(ddof=1)) / math.sqrt(num)
    return Estimate(value, value - half, value + half, num)


def paired_t_test(differences: ArrayLike) -> float | None:
    """The two-sided p-value of Student's paired t-test that the mean difference is 0; None for fewer than two."""
    values_S = np.asarray(differences, dtype=np.float64)
    if len(values_S) < 2:
        return None
    spread = float(values_S.std(ddof=1)) / math.sqrt(len(values_S))
    if not spread:
        return 1.0 if not values_S.any() else 0.0
    return 1.0 - _within(
        math.atan2(abs(float(values_S.mean())) / spread, math.sqrt(len(values_S) - 1)), len(values_S) - 1
    )


def student_t(confidence: float, degrees: int) -> float:
    """The t for which Student's distribution with so many degrees of freedom holds ``confidence`` between -t and t."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # the angle atan(t / sqrt(degrees)), halved to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(degrees)


def _within(angle: float, degrees: int) -> float:
    """P(-t <= T <= t) for t = tan(angle)·sqrt(degrees): the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for step in range(2 + odd, degrees - 1, 2):
        term *= math.cos(angle) ** 2 * (step - 1) / step
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after the step-down correction of Holm (1979), in their order.

    Each is the smallest level at which its hypothesis is rejected when the chance of any false rejection among all of
    them is held to that level.
    """
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def _items(numerators: ArrayLike, denominators: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    top_I, bottom_I = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top_I.shape != bottom_I.shape or top_I.ndim != 1:
        raise ValueError(f"one numerator and one denominator per item, found {top_I.shape} and {bottom_I.shape}")
    counted_I = _counted(bottom_I)
    if not counted_I.any():
        raise UserError("evaluation: no item is left to measure, expected at least one; ask for more items.")
    return top_I[counted_I], bottom_I[counted_I]


def _counted(denominators: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(denominators, dtype=np.float64) > 0


def _resampled_ratios(
    top_I: NDArray[np.float64], bottom_I: NDArray[np.float64], strata_I: NDArray[Any], seed: int, resamples: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    sums_R2 = np.zeros((resamples, 2))
    for stratum in np.unique(strata_I):
        inside_I2 = np.stack([top_I, bottom_I], axis=1)[strata_I == stratum]
        num_items = len(inside_I2)
        uniform_I = np.full(num_items, 1.0 / num_items)
        per_chunk = max(1, _COUNTS_AT_A_TIME // num_items)
        for start in range(0, resamples, per_chunk):
            stop = min(start + per_chunk, resamples)
            sums_R2[start:stop] += rng.multinomial(num_items, uniform_I, size=stop - start) @ inside_I2
    return sums_R2[:, 0] / sums_R2[:, 1]
