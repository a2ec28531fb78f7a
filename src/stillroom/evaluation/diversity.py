"""How different the samples of a prompt are from one another.

A sample is a sequence of hashable units (token ids, words). Letters: n samples. Imports nothing of stillroom.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Units = Sequence[Hashable]
_UNSEEN = 0.1


def distinct_n(samples: Sequence[Units], n: int) -> float:
    """Different n-grams over all n-grams of the samples (Li et al. 2016), 0 to 1; 0 where there is no n-gram."""
    counts = Counter(gram for sample in samples for gram in _grams(sample, n))
    return len(counts) / counts.total() if counts else 0.0


def self_bleu(samples: Sequence[Units], max_n: int = 4) -> float:
    """Mean BLEU of each sample with the others as references (Zhu et al. 2018): 1 where all agree, near 0 if none do.

    Orders above the sample's length are left out; an order without a match counts as 0.1 matches (smoothing method 1
    of Chen and Cherry 2014), so that one missing order does not hide the others.
    """
    if len(samples) < 2:
        raise ValueError("self-BLEU compares samples with one another: at least two are needed")
    grams = [[Counter(_grams(sample, n)) for n in range(1, max_n + 1)] for sample in samples]
    best_two = [_best_two([own[n] for own in grams]) for n in range(max_n)]
    return float(np.mean([_bleu(i, samples, grams, best_two) for i in range(len(samples))]))


def _grams(sample: Units, n: int) -> list[tuple[Hashable, ...]]:
    return [tuple(sample[i : i + n]) for i in range(len(sample) - n + 1)]


def _best_two(counts: Sequence[Counter[tuple[Hashable, ...]]]) -> dict[tuple[Hashable, ...], tuple[int, int, int]]:
    """n-gram → its largest count in a sample, that sample, and the largest count in any other sample."""
    best: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}
    for sample, own in enumerate(counts):
        for gram, count in own.items():
            most, holder, second = best.get(gram, (0, -1, 0))
            best[gram] = (count, sample, most) if count > most else (most, holder, max(second, count))
    return best


def _bleu(
    index: int,
    samples: Sequence[Units],
    grams: Sequence[Sequence[Counter[tuple[Hashable, ...]]]],
    best_two: Sequence[dict[tuple[Hashable, ...], tuple[int, int, int]]],
) -> float:
    length = len(samples[index])
    logs = []
    for own, best in zip(grams[index], best_two, strict=True):
        if not own:
            break
        matches = 0
        for gram, count in own.items():
            most, holder, second = best[gram]
            matches += min(count, second if holder == index else most)
        logs.append(math.log((matches or _UNSEEN) / own.total()))
    if not logs:
        return 0.0
    others = [len(sample) for place, sample in enumerate(samples) if place != index]
    nearest = min(others, key=lambda other: (abs(other - length), other))
    brevity = min(0.0, 1 - nearest / length)
    return math.exp(brevity + sum(logs) / len(logs))


def ngram_similarity(samples: Sequence[Units], n: int = 2) -> NDArray[np.float64]:
    """Cosine (n, n) of the samples' n-gram counts, all orders up to ``n`` together; a sample equals itself."""
    index: dict[tuple[Hashable, ...], int] = {}
    counts = [Counter(gram for order in range(1, n + 1) for gram in _grams(sample, order)) for sample in samples]
    for own in counts:
        for gram in own:
            index.setdefault(gram, len(index))
    vectors = np.zeros((len(samples), max(1, len(index))))
    for row, own in enumerate(counts):
        for gram, count in own.items():
            vectors[row, index[gram]] = count
    norms = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.maximum(norms, 1e-300)[:, None]
    similarity = unit @ unit.T
    empty = norms == 0
    similarity[np.ix_(empty, empty)] = 1.0
    np.fill_diagonal(similarity, 1.0)
    return similarity


def vendi_score(similarity: ArrayLike) -> float:
    """The effective number of different samples, 1 to n: exp of the entropy of the eigenvalues of K/n.

    K is a positive semidefinite similarity matrix with ones on its diagonal (Friedman and Dieng 2023, definition 3.1).
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.allclose(np.diag(matrix), 1.0):
        raise ValueError("a similarity matrix is square and has ones on its diagonal")
    eigenvalues = np.clip(np.linalg.eigvalsh(matrix / len(matrix)), 0.0, None)
    positive = eigenvalues[eigenvalues > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
