"""Does a model mean what it says: its confidence against how often it is right, and how sure it is at all.

Letters: N positions, I independent items (documents), M bins, R resamples, K sums. Imports numpy and types only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillroom.results.schema import CalibrationBin, CalibrationResult
from stillroom.results.statistics import RESAMPLES, require_finite, resampled_sums
from stillroom.types import Estimate, UserError

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, and the bins that it is the sum of."""

    error: Estimate
    """Mean distance between confidence and accuracy, 0 to 1, weighted by the positions of each bin."""
    counts_M: NDArray[np.int64]
    confidence_M: NDArray[np.float64]
    """Mean confidence inside each bin; NaN where a bin is empty."""
    accuracy_M: NDArray[np.float64]
    """Share of right first choices inside each bin; NaN where a bin is empty."""

    def result(self) -> CalibrationResult:
        """As a file of results has it."""
        filled = self.counts_M > 0
        columns = (self.confidence_M[filled], self.accuracy_M[filled], self.counts_M[filled])
        bins = zip(*(column.tolist() for column in columns), strict=True)
        return CalibrationResult(self.error, tuple(CalibrationBin(*one) for one in bins))


def calibration(
    confidence: ArrayLike,
    correct: ArrayLike,
    items: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    bins: int = BINS,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Calibration:
    """Expected calibration error (Guo et al. 2017, equation 3) with bins of equal width over the confidence.

    ``ECE = Σ_m (n_m / N) · |accuracy_m - confidence_m|``. Resampled errors are larger than the measured one on average,
    since noise in a bin counts as error; so the 95 % interval is the basic bootstrap's (twice the value minus the
    quantiles), which takes that excess off, held at 0 and above.

    Arguments:
        confidence: (N,) probability of the first choice, 0 to 1.
        correct: (N,) whether the first choice is the true token.
        items: (N,) number of the independent item (document) that holds the position, from 0.
        strata: (I,) class of each item, inside which items are drawn anew; see ``ratio``.
        bins: M. A confidence on an edge belongs to the bin below it.
        seed: Seed of the resampling.
        resamples: How many times the items are drawn anew.
    """
    confidence_N, correct_N = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    items_N = np.asarray(items, np.int64)
    if not len(confidence_N):
        raise UserError("calibration: no position is left to measure, expected at least one; give more text.")
    require_finite(confidence_N)
    if confidence_N.min() < 0 or confidence_N.max() > 1 + 1e-6:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence_N.min()} to {confidence_N.max()}")
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(np.int64) - 1, 0, bins - 1)
    num_items = int(items_N.max()) + 1
    sums_I3M = np.zeros((num_items, 3, bins))
    for column, values_N in enumerate((np.ones_like(confidence_N), confidence_N, correct_N)):
        np.add.at(sums_I3M[:, column], (items_N, bin_N), values_N)
    whole_3M = sums_I3M.sum(axis=0)
    value = float(_error(whole_3M[None])[0])
    strata_I = np.zeros(num_items, np.int64) if strata is None else np.asarray(strata)[:num_items]
    drawn = resampled_sums(sums_I3M.reshape(num_items, -1), strata_I, seed=seed, resamples=resamples)
    low, high = np.quantile(_error(drawn.reshape(-1, 3, bins)), (0.025, 0.975))
    with np.errstate(invalid="ignore"):
        confidence_M, accuracy_M = whole_3M[1] / whole_3M[0], whole_3M[2] / whole_3M[0]
    estimate = Estimate(value, max(0.0, 2 * value - float(high)), max(0.0, 2 * value - float(low)), num_items)
    return Calibration(estimate, whole_3M[0].astype(np.int64), confidence_M, accuracy_M)


def _error(sums_R3M: NDArray[np.float64]) -> NDArray[np.float64]:
    """ECE (R,) from counts, confidence sums and right answers per bin: Σ |right - confidence| / N."""
    return np.abs(sums_R3M[:, 2] - sums_R3M[:, 1]).sum(axis=-1) / sums_R3M[:, 0].sum(axis=-1)


def ratio_difference(
    numerators: ArrayLike,
    denominators: ArrayLike,
    strata: ArrayLike,
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Σ numerators / Σ denominators with a percentile interval of the given ``level``.

    With the differences of two models' nats per document for numerators and its tokens for denominators this is their
    paired difference in nats per token. A level above 0.95 makes room for several comparisons (Bonferroni).
    """
    sums_I2 = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    drawn_R2 = resampled_sums(sums_I2, np.asarray(strata), seed=seed, resamples=resamples)
    low, high = np.quantile(drawn_R2[:, 0] / drawn_R2[:, 1], ((1 - level) / 2, (1 + level) / 2))
    total_2 = sums_I2.sum(axis=0)
    return Estimate(float(total_2[0] / total_2[1]), float(low), float(high), len(sums_I2))
