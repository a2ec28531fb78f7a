"""Intervals of single coefficients: how often they hold the truth, and where a valley leaves one open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_points import TRUE, made_points

from stillroom.laws.coefficients import coefficient_intervals, distilled_told, drawn_told, supervised_told
from stillroom.laws.fits import LIMITS, fit_distilled, fit_supervised
from stillroom.laws.fitting import fit_law
from stillroom.laws.forms import DistillationLaw, SupervisedLaw
from stillroom.laws.law_file import published_law
from stillroom.laws.points import Pilots
from stillroom.types import Estimate


def _supervised(seed: int) -> dict[str, Estimate]:
    points = made_points(seed).hard
    law = fit_supervised(points).law
    assert isinstance(law, SupervisedLaw)
    return coefficient_intervals(law, supervised_told(law, points))


def _both(seed: int) -> dict[str, bool]:
    """Whether the interval of each of the 16 coefficients holds the truth."""
    points = made_points(seed)
    base = fit_supervised(points.hard).law
    assert isinstance(base, SupervisedLaw)
    law = fit_distilled(points.distilled, base, "recovery").law
    assert isinstance(law, DistillationLaw)
    hard = supervised_told(base, points.hard)
    found = {name: (one, getattr(TRUE.supervised, name)) for name, one in coefficient_intervals(base, hard).items()}
    own = coefficient_intervals(law, distilled_told(law, points.distilled, hard))
    found |= {f"{name}'": (one, getattr(TRUE, name)) for name, one in own.items()}
    return {name: one.low <= truth <= one.high for name, (one, truth) in found.items()}


def test_intervals_of_the_supervised_law_hold_the_truth() -> None:
    held = [
        one.low <= getattr(TRUE.supervised, name) <= one.high
        for seed in range(6)
        for name, one in _supervised(seed).items()
    ]
    assert np.mean(held) >= 0.85


@pytest.mark.slow
def test_every_coefficient_is_inside_its_interval_about_as_often_as_it_says() -> None:
    found = [_both(seed) for seed in range(60)]
    for name in found[0]:
        assert np.mean([one[name] for one in found]) >= 0.88, name
    assert 0.93 <= np.mean([value for one in found for value in one.values()]) <= 1


def test_an_interval_is_the_slope_and_the_spread_of_the_errors() -> None:
    """E alone has a slope of its own where the rest is held: σ of a median of n normal errors is 1.2533 σ / √n."""
    points = made_points(0, noise=0.003, per_group=40).hard
    law = fit_supervised(points).law
    assert isinstance(law, SupervisedLaw)
    told = supervised_told(law, points)
    loss_P, slopes_PK = law.with_gradient(points.N_P, points.D_P)
    slopes_PK = slopes_PK / loss_P[:, None]
    expected = np.linalg.inv(slopes_PK.T @ slopes_PK) * (1.2533 * 0.003) ** 2
    assert np.sqrt(np.diag(told.covariance_KK)) == pytest.approx(np.sqrt(np.diag(expected)), rel=0.35)
    assert told.freedom == len(points) - 6


def test_what_the_points_do_not_tell_is_open_as_far_as_a_fit_may_go() -> None:
    points = made_points(1)
    law = replace(TRUE, d1=1e3, c1=1e4)  # no teacher comes near its capacity gap: the term is 1
    told = distilled_told(
        law, points.distilled, drawn_told(np.tile(list(law.supervised.coefficients().values()), (9, 1)))
    )
    found = coefficient_intervals(law, told)
    for name in ("c1", "f1"):
        least, most = LIMITS[name]
        assert np.log(found[name].low) <= least + 1e-9 or np.log(found[name].high) >= most - 1e-9, name
    assert found["recovery"].high < 1 and found["c0"].high - found["c0"].low < 15


def test_a_supervised_law_that_was_given_is_not_judged_by_students_that_it_was_not_fitted_on() -> None:
    """Three pilots of hard labels beside a known law: too few for one of their own."""
    points = made_points(2)
    few = points.where(~np.isnan(points.teacher_P) | (np.arange(len(points)) < 3))
    known = replace(published_law(), name="known")
    law = fit_law("own", Pilots(points.distilled), known, resamples=20, jobs=1)
    found = replace(law, points=few).intervals()
    assert found == law.intervals()
    assert found["E"].low >= 1.1 and found["E"].high <= 1.3
    assert all(np.isfinite([one.low, one.value]).all() and one.num > 0 for one in found.values())
