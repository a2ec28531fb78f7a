"""What theory says of the bigram world, to be drawn through the measured points.

With truth π, teacher s and soft share a, unlimited data leads to q* = (1-a)π + a·s: what is left over is a·|s-π|, and
the hard labels' sampling error comes with weight 1-a. Letters: R rows, K states, N samples, n samples of one row.
Imports numpy and the worlds' own mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillroom.worlds.bigram_rows import Floats, row_entropies

_NORMAL_FROM = 20.0
"""Variance of a count above which its distribution is taken for a normal one."""
_COUNTS = 64
"""Counts that are summed one by one below that variance; the others together weigh less than 1e-6."""
_NODES = 8
"""Numbers of visits that stand for the distribution of a row's visits."""
_MANY_VISITS = 200.0
_erf = np.vectorize(math.erf, otypes=[np.float64])


def uniform_leak_floor(alpha: float, leak: float, num_states: int) -> float:
    """Total variation that a teacher leaking η evenly leaves on a certain row: α·η·(K-1)/K.

    The teacher's row is 1 - η + η/K at the right token and η/K at K - 1 others, so it is η·(K-1)/K away.
    """
    return alpha * leak * (num_states - 1) / num_states


def mean_deviation(num: int, chance: Floats, point: Floats) -> Floats:
    """E|X - point| of X ~ Binomial(num, chance), elementwise.

    Summed count by count where the variance is small, else of the normal distribution of the same mean and variance
    (within 1 %).
    """
    found = np.empty_like(chance)
    wide = _is_wide(num, chance)
    deviation = np.sqrt(num * chance[wide] * (1.0 - chance[wide]))
    found[wide] = _folded_normal(num * chance[wide] - point[wide], deviation)
    about = point[~wide]
    found[~wide] = _summed(num, chance[~wide], lambda counts: np.abs(counts - about))
    return found


def mean_log(num: int, chance: Floats, scale: Floats, shift: Floats) -> Floats:
    """E log(scale·X + shift) of X ~ Binomial(num, chance), elementwise; ``shift`` is above 0.

    Summed count by count where the variance is small, else by Gauss-Hermite quadrature of the normal distribution.
    """
    found = np.zeros_like(chance)
    wide = _is_wide(num, chance)
    mean, deviation = num * chance[wide], np.sqrt(num * chance[wide] * (1.0 - chance[wide]))
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        found[wide] += weight * np.log(scale[wide] * np.maximum(mean + node * deviation, 0.0) + shift[wide])
    times, plus = scale[~wide], shift[~wide]
    found[~wide] = _summed(num, chance[~wide], lambda counts: np.log(times * counts + plus))
    return found


def _is_wide(num: int, chance: Floats) -> NDArray[np.bool_]:
    return num * chance * (1.0 - chance) >= _NORMAL_FROM


def _folded_normal(mean: Floats, deviation: Floats) -> Floats:
    ratio = mean / deviation
    return deviation * math.sqrt(2 / math.pi) * np.exp(-0.5 * ratio**2) + mean * _erf(ratio / math.sqrt(2))


def _summed(num: int, chance: Floats, value: Callable[[Floats], Floats]) -> Floats:
    """E value(X) of a binomial count near 0 or near ``num``, over the counts that it can well have."""
    if not chance.size:
        return chance
    flipped = chance > 0.5
    rare = np.where(flipped, 1.0 - chance, chance)
    mean = num * rare.max()
    most = min(num, _COUNTS, math.ceil(mean + 7 * math.sqrt(mean) + 7))
    weight = np.exp(num * np.log1p(-rare))
    odds = rare / (1.0 - rare)
    total = np.zeros_like(chance)
    for count in range(most + 1):
        total += weight * value(np.where(flipped, num - count, count).astype(np.float64))
        weight = weight * odds * ((num - count) / (count + 1))
    return total


def expected_variation(num: int, truth_RK: Floats, teacher_RK: Floats, soft_R: Floats) -> Floats:
    """Expected total variation of rows with ``num`` samples each (R,), sampling error and the teacher's bias together.

    ½ Σ_j E|(1-a)(X_j/n - π_j) + a(s_j - π_j)|, X_j ~ Binomial(n, π_j).
    """
    hard_R1 = (1.0 - soft_R)[:, None]
    bias_RK = soft_R[:, None] * (teacher_RK - truth_RK)
    found = 0.5 * np.abs(bias_RK).sum(1)
    mixed = hard_R1[:, 0] > 1e-12
    if mixed.any():
        point = num * (truth_RK[mixed] - bias_RK[mixed] / hard_R1[mixed])
        found[mixed] = 0.5 * (hard_R1[mixed] / num * mean_deviation(num, truth_RK[mixed], point)).sum(1)
    return found


def expected_divergence(num: int, truth_RK: Floats, teacher_RK: Floats, soft_R: Floats) -> Floats:
    """Expected KL(π ‖ q) of rows with ``num`` samples each and one uniform sample added to the hard labels (R,), nats.

    Σ_j π_j·(log π_j - E log((1-a)·(X_j + 1/K)/(n + 1) + a·s_j)), X_j ~ Binomial(n, π_j). For hard labels alone it falls
    as (p-1)/(2n) once every next token was seen often.
    """
    possible = truth_RK > 0
    rows, _ = np.nonzero(possible)
    truth, teacher, soft = truth_RK[possible], teacher_RK[possible], soft_R[rows]
    scale = (1.0 - soft) / (num + 1)
    logs = mean_log(num, truth, scale, np.maximum(scale / truth_RK.shape[1] + soft * teacher, 1e-300))
    return np.bincount(rows, truth * (np.log(truth) - logs), len(truth_RK)).astype(np.float64)


def visit_nodes(num_samples: int, share: float) -> tuple[float, list[tuple[int, float]]]:
    """Chance that a row is never visited, and a few numbers of visits with the chances they stand for.

    Visits are Binomial(N, share). Nodes are means of the distribution's eighths, rounded.
    """
    mean, never = num_samples * share, math.exp(num_samples * math.log1p(-share))
    if mean > _MANY_VISITS:
        return never, [(round(mean), 1.0 - never)]
    counts = np.arange(1, min(num_samples, math.ceil(mean + 8 * math.sqrt(mean) + 8)) + 1)
    ratios = np.log((num_samples - counts + 1) / counts) + math.log(share / (1.0 - share))
    chances = never * np.exp(np.cumsum(ratios))
    groups = np.minimum((np.cumsum(chances) - chances / 2) / max(chances.sum(), 1e-300) * _NODES, _NODES - 1).astype(
        int
    )
    weight = np.bincount(groups, chances, _NODES)
    centre = np.bincount(groups, chances * counts, _NODES)
    kept = weight > 0
    return never, [(max(1, round(c / w)), float(w)) for c, w in zip(centre[kept], weight[kept], strict=True)]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one class: the truth, the teacher, the teacher's part of the target, and each row's share of samples.

    ``efficiency_R`` is how many even samples an actual one is worth (see ``Target.efficiency_K``).
    """

    truth_RK: Floats
    teacher_RK: Floats
    soft_R: Floats
    share_R: Floats
    efficiency_R: Floats

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Some of the rows."""
        values = (self.truth_RK, self.teacher_RK, self.soft_R, self.share_R, self.efficiency_R)
        return Rows(*(value[rows] for value in values))


Expectation = Callable[[int, Floats, Floats, Floats], Floats]


def variation_curve(samples: list[int], rows: Rows) -> list[float]:
    """Expected mean total variation of some rows after so many samples of the whole world."""
    untouched_R = 0.5 * np.abs(1.0 / rows.truth_RK.shape[1] - rows.truth_RK).sum(1)
    return [_over_visits(num, rows, untouched_R, expected_variation) for num in samples]


def divergence_curve(samples: list[int], rows: Rows) -> list[float]:
    """Expected mean KL from the truth of some rows, nats, smoothed as ``expected_divergence`` says."""
    untouched_R = math.log(rows.truth_RK.shape[1]) - row_entropies(rows.truth_RK)
    return [_over_visits(num, rows, untouched_R, expected_divergence) for num in samples]


def _over_visits(num_samples: int, rows: Rows, untouched_R: Floats, expectation: Expectation) -> float:
    """Mean over rows and over how often each is visited; a row without a visit is uniform."""
    total = 0.0
    for share, places in _bands(rows.share_R):
        never, nodes = visit_nodes(num_samples, share)
        total += never * untouched_R[places].sum()
        for efficiency in np.unique(rows.efficiency_R[places]):
            part = rows.take(places[rows.efficiency_R[places] == efficiency])
            for visits, weight in nodes:
                worth = max(1, round(visits * float(efficiency)))
                total += weight * expectation(worth, part.truth_RK, part.teacher_RK, part.soft_R).sum()
    return float(total / len(rows.truth_RK))


def _bands(share_R: Floats) -> list[tuple[float, NDArray[np.int64]]]:
    """Rows by their share of the samples; where all are different, as on a walk, in eight bands of like rows."""
    alike = np.unique(share_R)
    if len(alike) <= _NODES:
        return [(float(share), np.flatnonzero(share_R == share)) for share in alike]
    bands = np.array_split(np.argsort(share_R), _NODES)
    return [(float(share_R[band].mean()), band) for band in bands]


def coupon_samples(share_K: Floats) -> float:
    """Expected samples until every row was visited once, for rows that are met alike: K·(1 + 1/2 + … + 1/K)."""
    num = len(share_K)
    return num * float((1.0 / np.arange(1, num + 1)).sum())


def samples_for(tolerance: float, truth_RK: Floats, share_R: Floats) -> float:
    """Samples at which hard labels alone bring the expected mean total variation down to ``tolerance``.

    Bisection on a logarithmic scale to 0.5 %; about K·(p-1)/(2π·ε²) where rows are even over p tokens.
    """
    rows = Rows(truth_RK, truth_RK, np.zeros(len(truth_RK)), share_R, np.ones(len(truth_RK)))
    low, high = 1.0, 2.0
    while variation_curve([round(high)], rows)[0] > tolerance:
        low, high = high, high * 4
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        above = variation_curve([round(middle)], rows)[0] > tolerance
        low, high = (middle, high) if above else (low, middle)
    return math.sqrt(low * high)


def best_policy(chances_RK: Floats, draws: int) -> Floats:
    """The distribution to draw from, row by row, that maximises the chance that k draws hold the right answer.

    With answer probabilities p: q_j = max(0, 1 - (λ/(k·p_j))^(1/(k-1))), λ such that q sums to 1; one draw takes the
    likeliest answer.
    """
    if draws == 1:
        best = np.zeros_like(chances_RK)
        best[np.arange(len(best)), chances_RK.argmax(1)] = 1.0
        return best
    with np.errstate(divide="ignore"):
        logs = np.log(chances_RK) / (draws - 1)
    low_R = np.full(len(chances_RK), -60.0)
    high_R = logs.max(1)
    for _ in range(80):
        middle_R = (low_R + high_R) / 2
        too_much_R = np.maximum(0.0, -np.expm1(middle_R[:, None] - logs)).sum(1) > 1.0
        low_R, high_R = np.where(too_much_R, middle_R, low_R), np.where(too_much_R, high_R, middle_R)
    policy = np.maximum(0.0, -np.expm1(((low_R + high_R) / 2)[:, None] - logs))
    return policy / policy.sum(1, keepdims=True)


def coverage(chances_RK: Floats, policy_RK: Floats, draws: int) -> Floats:
    """pass@k of every row (R,): the chance that k draws from the policy hold an answer drawn from ``chances``."""
    return (chances_RK * -np.expm1(draws * np.log1p(-np.minimum(policy_RK, 1.0 - 1e-16)))).sum(1)


def log_slope(xs: list[float], ys: list[float]) -> float:
    """Least-squares slope of log y over log x; nan with fewer than two points."""
    pairs: NDArray[np.float64] = np.array([(x, y) for x, y in zip(xs, ys, strict=True) if x > 0 and y > 0])
    if len(pairs) < 2:
        return math.nan
    logs = np.log(pairs) - np.log(pairs).mean(0)
    return float((logs[:, 0] * logs[:, 1]).sum() / (logs[:, 0] ** 2).sum())
