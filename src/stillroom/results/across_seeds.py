"""Arms that differ in their training seed alone, taken together: means over seeds, and differences seed by seed.

Letters: S seeds, P problems, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillroom.results.intervals import corrected, difference_by_seed, held_within, paired_interval
from stillroom.results.measures import registered_measures
from stillroom.results.runs import estimates
from stillroom.results.schema import ArmBySeed, BySeed, Difference, Evaluation, MeanAndDifference, arm_and_seed
from stillroom.results.statistics import RESAMPLES, drawn_counts, percentile_estimate
from stillroom.types import Estimate

Numbers = dict[str, float]
"""Place of an estimate in an evaluation, such as ``lm bits_per_byte`` → its value."""


def by_seed(evaluations: Mapping[str, Evaluation]) -> BySeed:
    """Evaluations by model name, as arms over seeds; without arms where none has two seeds.

    ``baseline`` is the first arm of two seeds or more. A measure has a ``mean`` and, for the other arms, a
    ``difference``: the arm minus the baseline, seed by seed. Intervals are 95 % ones of Student's t over seeds and
    cover another training run, with its own seed, on the same items. ``p_value`` is of the paired t-test, ``p_holm``
    corrected for all measures of the arm (Holm 1979).
    """
    table: dict[str, dict[int, Numbers]] = {}
    for name, evaluation in evaluations.items():
        arm, seed = arm_and_seed(name)
        if seed is not None:
            numbers = {" ".join(place): found.value for place, found in estimates(evaluation)}
            table.setdefault(arm, {})[seed] = numbers
    table = {arm: seeds for arm, seeds in table.items() if len(seeds) > 1}
    baseline = next(iter(table), "")
    arms = {arm: _arm(seeds, {} if arm == baseline else table[baseline]) for arm, seeds in table.items()}
    return BySeed(baseline=baseline, arms=arms)


def _arm(seeds: Mapping[int, Numbers], base: Mapping[int, Numbers]) -> ArmBySeed:
    every = _common(seeds.values())
    means = {measure: _mean(measure, [found[measure] for found in seeds.values()]) for measure in every}
    paired = {seed: found for seed, found in seeds.items() if seed in base}
    tested: dict[str, Difference] = {}
    for measure in _common([*paired.values(), *base.values()]) if base else ():
        own, other = ({seed: found[measure] for seed, found in side.items()} for side in (paired, base))
        difference = difference_by_seed(own, other)
        if difference is not None and measure in means:
            tested[measure] = difference
    tested = dict(zip(tested, corrected(tested.values()), strict=True))
    measures = {name: MeanAndDifference(mean=mean, difference=tested.get(name)) for name, mean in means.items()}
    return ArmBySeed(seeds=tuple(sorted(seeds)), measures=measures)


def _mean(measure: str, values: list[float]) -> Estimate:
    shares = {" ".join(map(str, one.place)) for one in registered_measures() if one.is_share}
    found = paired_interval(values)
    return held_within(found) if measure in shares or " pass_at " in measure else found


def _common(found: Iterable[Numbers]) -> list[str]:
    """Measures that every one has, in the order of the first."""
    rows = list(found)
    return [measure for measure in rows[0] if all(measure in row for row in rows)] if rows else []


def mean_over_seeds(values_SP: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean over seeds and problems, with the interval from drawing both anew.

    Seeds and problems are crossed: every seed's model solved every problem. Each resample draws S seeds and P problems
    with replacement, so that the interval covers another training run as well as other problems; with few seeds it is
    too narrow (Owen 2007 bounds by how much), and with one it says nothing of seeds. ``num`` is the number of seeds.
    """
    values = _two_dimensional(values_SP)
    seeds_RS, problems_RP = _weights(values, seed, resamples)
    drawn_R = ((seeds_RS @ values) * problems_RP).sum(axis=1)
    return percentile_estimate(float(values.mean()), drawn_R, len(values))


def difference_over_seeds(
    first_SP: ArrayLike, second_SP: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of one arm minus that of another over the same problems, each arm with seeds of its own.

    Problems are drawn anew together for both arms, seeds for each arm alone; see ``mean_over_seeds``.
    """
    first, second = _two_dimensional(first_SP), _two_dimensional(second_SP)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"both arms need the same problems, found {first.shape[1]} and {second.shape[1]}")
    firsts_RS, problems_RP = _weights(first, seed, resamples)
    seconds_RS, _ = _weights(second, seed + 1, resamples)
    drawn_R = ((firsts_RS @ first - seconds_RS @ second) * problems_RP).sum(axis=1)
    return percentile_estimate(float(first.mean() - second.mean()), drawn_R, min(len(first), len(second)))


def _two_dimensional(values_SP: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(values_SP, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values are (seeds, problems), found shape {values.shape}")
    return values


def _weights(
    values_SP: NDArray[np.float64], seed: int, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each seed and each problem is drawn, as shares: (R, S) and (R, P)."""
    num_seeds, num_problems = values_SP.shape
    seeds_RS = drawn_counts(np.random.default_rng([seed, num_seeds]), num_seeds, resamples) / num_seeds
    problems_RP = drawn_counts(np.random.default_rng([seed, 0, num_problems]), num_problems, resamples) / num_problems
    return seeds_RS, problems_RP
