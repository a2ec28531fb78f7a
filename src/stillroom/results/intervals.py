"""Intervals and tests over a few training seeds. Imports no torch, and scipy only where seeds are compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from stillroom.results.schema import Difference
from stillroom.types import Estimate, UserError

_E = TypeVar("_E", bound=Estimate)


def paired_interval(differences: Iterable[float], confidence: float = 0.95) -> Estimate:
    """The mean of a few paired differences, such as one per training seed, with the interval of Student's t.

    The bootstrap of ``statistics.paired_difference`` is for many items; over three or five seeds it is far
    too narrow. This one is exact where differences are normal, whatever their number. One difference alone has no
    interval: its ends are NaN.

    Arguments:
        differences: One number for each seed: an arm minus another that was trained from the same seed.
        confidence: Share of experiments whose interval holds the true mean.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a share between 0 and 1")
    values = [float(value) for value in differences]
    if not values:
        raise UserError("seeds: no paired difference was given, expected at least one; run both arms at one seed.")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    half = student_t(confidence, len(values) - 1) * _standard_error(values)
    return Estimate(mean, mean - half, mean + half, len(values))


def held_within(found: _E, low: float = 0.0, high: float = 1.0) -> _E:
    """The estimate with its interval held to what the measure can be, such as 0 to 1 for a share.

    Student's t knows no ends: over a few seeds near 1 its interval reaches beyond.
    """
    return replace(found, low=low if found.low < low else found.low, high=high if found.high > high else found.high)


def seeds_mean(values: Iterable[float]) -> Estimate:
    """The mean of one number per seed with the interval of Student's t, which is honest about few seeds.

    One seed has no interval: both ends are then the value itself. Values that are not finite make the mean so.
    """
    found = [float(value) for value in values]
    if len(found) > 1 and all(map(math.isfinite, found)):
        return paired_interval(found)
    mean = sum(found) / len(found)
    return Estimate(mean, mean, mean, len(found))


def paired_t_test(differences: Iterable[float]) -> float | None:
    """The two-sided p-value of Student's paired t-test that the mean difference is 0; None for fewer than two."""
    values = [float(value) for value in differences]
    if len(values) < 2:
        return None
    error, mean = _standard_error(values), abs(math.fsum(values) / len(values))
    if not error:
        return 0.0 if mean else 1.0
    from scipy.special import stdtr

    return min(2.0 * float(stdtr(len(values) - 1, -mean / error)), 1.0)  # NaN stays NaN


def difference_by_seed(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """An arm minus another seed by seed, with the p-value of the paired t-test; None for fewer than two pairs."""
    differences = [values[seed] - base[seed] for seed in values if seed in base]
    p_value = paired_t_test(differences)
    return None if p_value is None else Difference.of(paired_interval(differences), p_value)


def _standard_error(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def student_t(confidence: float, degrees: int) -> float:
    """The t for which Student's distribution with so many degrees of freedom holds ``confidence`` between -t and t."""
    from scipy.special import stdtrit  # here, since pages of one seed need neither scipy nor numpy

    return float(stdtrit(degrees, (1 + confidence) / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after the step-down correction of Holm (1979), in their order.

    Each is the smallest level at which its hypothesis is rejected when the chance of any false rejection among all of
    them is held to that level. A p-value of NaN is no test: it stays NaN and counts for nothing in the others.
    """
    adjusted = [math.nan] * len(p_values)
    least = 0.0
    tested = sorted((i for i, p_value in enumerate(p_values) if not math.isnan(p_value)), key=lambda i: p_values[i])
    for rank, place in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def corrected(tested: Iterable[Difference]) -> list[Difference]:
    """The differences with ``p_holm``, their p-value among all of them (``holm``); each was tested."""
    tested = list(tested)
    p_values = holm([math.nan if one.p_value is None else one.p_value for one in tested])
    return [replace(one, p_holm=p_value) for one, p_value in zip(tested, p_values, strict=True)]


def p_text(p_value: float) -> str:
    """A p-value for a reader: three decimals, and never a bare 0."""
    return "< 0.001" if p_value < 0.0005 else f"{p_value:.3f}"
