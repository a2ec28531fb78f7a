"""pass@k without bias, the law it follows, majority vote, and comparison at equal diversity.

Letters: P problems, n samples of each, c right ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pass_at_k(num_samples: ArrayLike, num_correct: ArrayLike, k: int) -> NDArray[np.float64]:
    """The chance that k of a problem's samples, drawn without replacement, hold a right one: 1 - C(n-c, k)/C(n, k).

    Unbiased for the chance that k fresh samples do (Chen et al. 2021, equation 1). ``num_samples`` n and
    ``num_correct`` c broadcast; the result has their shape. A problem with n < k has no such subset: ``ValueError``.

    The ratio is the product over i < k of (n-c-i)/(n-i), so that no large binomial is formed.
    """
    n, c = np.broadcast_arrays(np.asarray(num_samples, dtype=np.int64), np.asarray(num_correct, dtype=np.int64))
    if k < 1 or (n < k).any():
        raise ValueError(f"pass@{k} needs 1 <= k <= samples of every problem, found {n.min() if n.size else 'none'}")
    if ((c < 0) | (c > n)).any():
        raise ValueError("num_correct must lie between 0 and num_samples")
    failing = np.ones(n.shape)
    for i in range(k):
        failing = failing * np.maximum(n - c - i, 0) / (n - i)
    return 1.0 - failing


def entropy_nats(answers: Iterable[Hashable]) -> float:
    """Entropy in nats of the histogram of the answers; 0 where all agree, at most ln(number of answers)."""
    counts = np.array(list(Counter(answers).values()), dtype=np.float64)
    if not len(counts):
        return 0.0
    shares = counts / counts.sum()
    return max(0.0, -math.fsum(shares * np.log(shares)))


@dataclass(frozen=True)
class CoverageLaw:
    """coverage(k) = exp(a·k^b), with a < 0; b < 0 where more samples help (Brown et al. 2024, section 3.1)."""

    a: float
    b: float
    residual: float
    """Root mean square distance of the fit in log(-log coverage)."""

    def at(self, k: ArrayLike) -> NDArray[np.float64]:
        """Coverage at k samples."""
        return np.exp(self.a * np.asarray(k, dtype=np.float64) ** self.b)


def fit_coverage(ks: ArrayLike, coverage: ArrayLike) -> CoverageLaw | None:
    """The law through a pass@k curve, by least squares in log(-log coverage) over log k.

    Points at 0 or 1 have no place there and are left out; None where fewer than two are left.
    """
    k, covered = np.asarray(ks, dtype=np.float64), np.asarray(coverage, dtype=np.float64)
    inside = (covered > 0) & (covered < 1)
    if len(np.unique(k[inside])) < 2:
        return None
    x, y = np.log(k[inside]), np.log(-np.log(covered[inside]))
    b, log_a = np.polyfit(x, y, 1)
    residual = float(np.sqrt(np.mean((log_a + b * x - y) ** 2)))
    return CoverageLaw(float(-np.exp(log_a)), float(b), residual)


def majority_correct(answers: Sequence[Hashable], right: Collection[Hashable]) -> float:
    """The chance that the most frequent answer is right, with ties broken by lot; 0 where there is no answer."""
    counts = Counter(answers)
    if not counts:
        return 0.0
    most = max(counts.values())
    winners = [answer for answer, count in counts.items() if count == most]
    return sum(answer in right for answer in winners) / len(winners)


def at_level(levels: ArrayLike, values: ArrayLike, level: float) -> float | None:
    """A measure of an arm at a given level of another, by straight lines between its settings.

    For a comparison at equal diversity: ``levels`` is answer entropy over a temperature sweep, ``values`` is pass@k at
    the same temperatures, ``level`` is the entropy at which arms are compared. None outside what the sweep covers:
    nothing is extrapolated.
    """
    x, y = np.asarray(levels, dtype=np.float64), np.asarray(values, dtype=np.float64)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if not len(x) or not x[0] <= level <= x[-1]:
        return None
    return float(np.interp(level, x, y))
