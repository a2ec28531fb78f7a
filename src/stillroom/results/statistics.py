"""Means and ratios with 95 % bootstrap intervals over independent items; ``intervals`` is for a few seeds.

Letters: I items, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillroom.results.schema import Difference
from stillroom.types import Estimate, UserError

RESAMPLES = 2000
_COUNTS_AT_A_TIME = 1 << 22


class NotFiniteError(UserError):
    """A model's scores that are no numbers; whoever knows names the model and what was measured."""


def require_finite(scores: ArrayLike) -> None:
    """``NotFiniteError`` where one of the scores of a model is NaN or infinite: no mean of them says anything."""
    finite = np.isfinite(np.asarray(scores, dtype=np.float64))
    if not finite.all():
        raise NotFiniteError(
            f"{int((~finite).sum())} of {finite.size} scores of the model are not finite; check its weights, or "
            "evaluate it in a precision that holds its activations (fp32)."
        )


def require_finite_parts(parts: Any, place: str = "") -> None:
    """``NotFiniteError`` that names the first number of parts of an evaluation that is NaN or infinite."""
    if isinstance(parts, Mapping):
        for name, inner in parts.items():
            require_finite_parts(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(parts, list | tuple):
        for number, inner in enumerate(parts):
            require_finite_parts(inner, f"{place}[{number}]")
    elif isinstance(parts, float) and not math.isfinite(parts):
        raise NotFiniteError(f"{place} is not finite; check the model's weights, or evaluate it in fp32.")


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
    classes_I = np.zeros(len(top_I), np.int64) if strata is None else np.asarray(strata)[_counted(denominators)]
    sums_R2 = resampled_sums(np.stack([top_I, bottom_I], axis=1), classes_I, seed=seed, resamples=resamples)
    return percentile_estimate(float(top_I.sum() / bottom_I.sum()), sums_R2[:, 0] / sums_R2[:, 1], len(top_I))


def mean(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of one number per item, with its interval (see ``ratio``)."""
    values_I = np.asarray(values, dtype=np.float64)
    return ratio(values_I, np.ones_like(values_I), seed=seed, resamples=resamples)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Mean of ``first - second`` over the same items, with the two-sided p-value that it is 0.

    The p-value is of the sign-flip permutation test: under the null hypothesis each item's difference is as likely to
    have the other sign. One is added to both counts so that it is never 0 (Phipson and Smyth 2010).

    Arguments:
        first: (I,) a number for every item, such as bits per byte of a document.
        second: (I,) the other model's.
        weights: (I,) how much of the evidence an item is, such as its bytes; None weighs all alike. Items of weight 0
            are left out.
        seed: Seed of both resamplings.
        resamples: How many times items are drawn anew, and signs.
    """
    first_I, second_I = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    weights_I = np.ones_like(first_I) if weights is None else np.asarray(weights, dtype=np.float64)
    if first_I.shape != second_I.shape or first_I.shape != weights_I.shape:
        raise ValueError(
            f"paired values must have one shape, found {first_I.shape}, {second_I.shape} and weights {weights_I.shape}"
        )
    difference_I, weights_I = _items((first_I - second_I) * weights_I, weights_I)
    estimate = ratio(difference_I, weights_I, seed=seed, resamples=resamples)
    rng = np.random.default_rng([seed, 1])
    per_chunk = max(1, _COUNTS_AT_A_TIME // len(difference_I))
    as_extreme = 0
    for start in range(0, resamples, per_chunk):
        signs_RI = rng.integers(0, 2, size=(min(per_chunk, resamples - start), len(difference_I))) * 2 - 1
        flipped_R = signs_RI @ difference_I / weights_I.sum()
        as_extreme += int((np.abs(flipped_R) >= abs(estimate.value) * (1 - 1e-12)).sum())
    return Difference.of(estimate, (as_extreme + 1) / (resamples + 1))


def _items(numerators: ArrayLike, denominators: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    top_I, bottom_I = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top_I.shape != bottom_I.shape or top_I.ndim != 1:
        raise ValueError(f"one numerator and one denominator per item, found {top_I.shape} and {bottom_I.shape}")
    counted_I = _counted(bottom_I)
    if not counted_I.any():
        raise UserError("evaluation: no item is left to measure, expected at least one; ask for more items.")
    require_finite(top_I[counted_I])
    return top_I[counted_I], bottom_I[counted_I]


def _counted(denominators: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(denominators, dtype=np.float64) > 0


def drawn_counts(rng: np.random.Generator, num_items: int, resamples: int) -> NDArray[np.int64]:
    """How often each of I items is drawn, (R, I), when I are drawn with replacement: a bootstrap's resamples."""
    return rng.multinomial(num_items, np.full(num_items, 1.0 / num_items), size=resamples)


def resampled_sums(
    sums_IK: NDArray[np.float64], strata_I: NDArray[Any], *, seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Column sums (R, K) over items drawn anew with replacement, each inside its own stratum."""
    rng = np.random.default_rng(seed)
    sums_RK = np.zeros((resamples, sums_IK.shape[1]))
    for stratum in np.unique(strata_I):
        inside_IK = sums_IK[strata_I == stratum]
        per_chunk = max(1, _COUNTS_AT_A_TIME // len(inside_IK))
        for start in range(0, resamples, per_chunk):
            stop = min(start + per_chunk, resamples)
            sums_RK[start:stop] += drawn_counts(rng, len(inside_IK), stop - start) @ inside_IK
    return sums_RK


def percentile_estimate(value: float, drawn_R: NDArray[np.float64], num: int) -> Estimate:
    """A value with the 95 % interval of the percentile bootstrap (Efron 1979), from its resamples."""
    low, high = np.quantile(drawn_R, (0.025, 0.975))
    return Estimate(value, float(low), float(high), num)
