"""Fits on points of known laws: what is recovered, whether intervals hold the truth, bad starts, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_points import TRUE, made_points

from stillroom.laws.fits import (
    bootstrap,
    check_enough,
    fit_distilled,
    fit_supervised,
    folds,
    held_out_errors,
    profile,
    relative_error,
)
from stillroom.laws.fitting import fit_law
from stillroom.laws.forms import DistillationLaw, SupervisedLaw
from stillroom.laws.points import Pilots
from stillroom.types import UserError

TARGETS = [(5e8, 2e10, 2.2), (2e9, 1e11, 2.0), (8e9, 4e11, 1.95)]
"""Two students among the points and one outside them."""


def test_points_without_noise_give_their_law_back() -> None:
    points = made_points(0, noise=0.0)
    hard = fit_supervised(points.hard).law
    assert isinstance(hard, SupervisedLaw)
    assert relative_error(hard, points.hard) < 5e-4
    assert pytest.approx(1.22, rel=0.05) == hard.E
    taught = fit_distilled(points.distilled, TRUE.supervised, "recovery").law
    assert relative_error(taught, points.distilled) < 5e-4
    assert taught.loss(8e9, 4e11, 1.95) == pytest.approx(TRUE.loss(8e9, 4e11, 1.95), rel=3e-3)


def test_a_bad_start_ends_where_a_good_one_does() -> None:
    points = made_points(1).hard
    good, bad = fit_supervised(points), fit_supervised(points, replace(TRUE.supervised, E=0.3, gamma=1.5, alpha=0.9))
    assert good.objective <= bad.objective * 1.001


def test_outliers_do_not_move_a_fit() -> None:
    points = made_points(2)
    loss_P = points.loss_P.copy()
    loss_P[[3, 30, 50]] *= 1.3
    law = fit_distilled(replace(points, loss_P=loss_P).distilled, TRUE.supervised, "recovery").law
    assert law.loss(2e9, 1e11, 2.0) == pytest.approx(TRUE.loss(2e9, 1e11, 2.0), rel=5e-3)


def test_every_size_is_a_fold_of_its_own_and_held_out_errors_are_of_other_laws() -> None:
    points = made_points(3).hard
    assert len(np.unique(folds(points))) == 5
    errors_P = held_out_errors(points, lambda some: fit_supervised(some).law)
    assert errors_P.shape == (len(points),)
    assert 0 < np.abs(errors_P).mean() < 0.05


def test_the_form_that_made_the_points_is_kept() -> None:
    made = replace(TRUE, recovery=0.3)
    law = fit_law("made", Pilots(made_points(4, law=made)), resamples=20, jobs=1)
    assert "recovery form is kept" in law.sentences[0]
    assert {one.form for one in law.errors} == {"published", "recovery"}
    assert any("do not tell" in sentence for sentence in law.sentences)


def test_a_profile_is_lowest_near_the_fit() -> None:
    points = made_points(5).hard
    fit = fit_supervised(points)
    found = profile(fit, points, "E", [0.8 * fit.law.E, fit.law.E, 1.1 * fit.law.E])  # type: ignore[union-attr]
    assert found.argmin() == 1


def test_processes_do_not_change_a_bootstrap() -> None:
    points = made_points(6).hard
    law = fit_supervised(points).law
    assert isinstance(law, SupervisedLaw)
    one, _ = bootstrap(points, law, None, "published", resamples=100, jobs=1)
    two, none = bootstrap(points, law, None, "published", resamples=100, jobs=2)
    assert (one == two).all()
    assert none.shape == (100, 0)


def _held(datasets: int, resamples: int) -> float:
    """Share of the targets' true losses, by hard labels and distilled, that lie inside 95 % intervals."""
    inside = []
    for seed in range(datasets):
        points = made_points(100 + seed, per_group=6)
        hard = fit_supervised(points.hard).law
        assert isinstance(hard, SupervisedLaw)
        law = fit_distilled(points.distilled, hard, "recovery").law
        assert isinstance(law, DistillationLaw)
        draws = bootstrap(points, hard, law, "recovery", resamples=resamples, jobs=1)
        hard_drawn = SupervisedLaw.of_draws(draws[0])
        drawn = DistillationLaw.of_draws(draws[1], hard_drawn)
        for N, D, teacher in TARGETS:
            for found_R, truth in (
                (hard_drawn.loss(N, D), TRUE.supervised.loss(N, D)),
                (drawn.loss(N, D, teacher), TRUE.loss(N, D, teacher)),
            ):
                low, high = np.quantile(found_R, [0.025, 0.975])
                inside.append(low <= truth <= high)
    return float(np.mean(inside))


def test_intervals_mostly_hold_the_truth() -> None:
    assert _held(2, 40) >= 0.6


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    assert 0.90 <= _held(20, 100) <= 0.98


@pytest.mark.parametrize(
    ("kept", "wanted"),
    [
        (lambda p: p.where(np.arange(len(p)) < 5), "5 students of hard labels, expected at least 8"),
        (lambda p: p.where(np.arange(len(p)) < 25), "5 distilled students, expected at least 12"),
        (lambda p: p.where(p.N_P[0] == p.N_P), "students of hard labels, expected"),
        (lambda p: p.where(np.isnan(p.teacher_P) | (p.N_P[0] == p.N_P)), "all distilled students have one size"),
        (lambda p: p.where(np.isnan(p.teacher_P) | (p.D_P[0] == p.D_P)), "all distilled students have one number"),
        (lambda p: p.where(np.isnan(p.teacher_P) | (p.teacher_P == 2.2)), "have one teacher's loss"),
        (lambda p: replace(p, loss_P=0.6 * p.loss_P), "every student is better than its teacher"),
    ],
)
def test_points_that_give_no_law_are_refused(kept, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        check_enough(kept(made_points(7)), needs_hard=True)
