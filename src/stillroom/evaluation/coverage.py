"""pass@k without bias, and how different the right answers are.

Letters: P problems, n samples of each, c right ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable

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
