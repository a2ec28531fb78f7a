"""The order of training: batch = f(seed, step), for any number of ranks and without a list of indices in memory.

Letters: N indices, B sequences of a step (``batch_size``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stillroom.splitmix import scattered

_ROUNDS = 4


def permute(indices: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Where a seeded permutation of ``range(size)`` sends each index (N,), in constant memory; (N,) int64.

    A balanced Feistel network over the next even number of bits, walked until the value falls inside the range (cycle
    walking; Black and Rogaway 2002), so it is a bijection for every size.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    value = indices.astype(np.uint64)
    pending = np.ones(value.shape, dtype=bool)
    with np.errstate(over="ignore"):
        while pending.any():
            left, right = value[pending] >> np.uint64(half), value[pending] & mask
            for round_number in range(_ROUNDS):
                key = (seed * 0x9E3779B97F4A7C15 + round_number * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
                left, right = right, left ^ (scattered(right + np.uint64(key)) & mask)
            value[pending] = (left << np.uint64(half)) | right
            pending = value >= np.uint64(size)
    return value.astype(np.int64)


def batch_indices(step: int, batch_size: int, size: int, seed: int, window: int = 0) -> NDArray[np.int64]:
    """The sequences (B,) int64 of a step (0-based) out of ``size``; each epoch is a fresh permutation.

    A rank takes its part of this one list, so the global batch does not depend on how many ranks there are. With a
    ``window``, each run of so many sequences is permuted by itself and runs follow one another, the last one shorter.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, within = np.divmod(places, size)
    window = min(window or size, size)
    runs, inside = np.divmod(within, window)
    result = np.empty_like(places)
    for epoch, run in np.unique(np.stack([epochs, runs]), axis=1).T.tolist():
        chosen = (epochs == epoch) & (runs == run)
        own = (seed * 1_000_003 + epoch) + run * 0x9E3779B97F4A7C15
        result[chosen] = run * window + permute(inside[chosen], min(window, size - run * window), own)
    return result
