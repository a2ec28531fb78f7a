"""The laws as functions: gradients, inverses, limits, and draws beside single laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillroom.laws.forms import DistillationLaw, SupervisedLaw
from stillroom.laws.presets import BUSBRIDGE_2025

N = np.array([143e6, 1.82e9, 7.75e9])
D = np.array([3.7e9, 38.9e9, 514e9])
TEACHER = np.array([2.75, 2.2, 2.0])
HARD = BUSBRIDGE_2025.supervised


def test_supervised_loss_is_the_formula() -> None:
    by_hand = 1.220 + (3355 / 1e9**0.408 + 18186 / 2e10**0.431) ** 0.452
    assert HARD.loss(1e9, 2e10) == pytest.approx(by_hand, rel=1e-12)


def test_distilled_loss_is_the_formula() -> None:
    hard = float(HARD.loss(1e9, 2e10))
    gap = (2243 / 1e9**0.321 + 24181 / 2e10**0.637) ** 0.764
    by_hand = 2.2 + 2.2**-2.549 * (1 + (2.2 / (hard * 1.315)) ** (1 / 0.09)) ** (-522.6 * 0.09) * gap
    assert BUSBRIDGE_2025.loss(1e9, 2e10, 2.2) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("recovery", [1e-3, 0.2])
def test_gradients_are_those_of_central_differences(recovery: float) -> None:
    law = replace(BUSBRIDGE_2025, recovery=recovery)
    slopes = law.with_gradient(N, D, TEACHER)[1]
    for place, name in enumerate(law.names()):
        at = law.free([name])
        up, down = (law.moved([name], at + step).loss(N, D, TEACHER) for step in (1e-5, -1e-5))
        assert slopes[:, place] == pytest.approx((up - down) / 2e-5, abs=1e-7)
    slopes = HARD.with_gradient(N, D)[1]
    for place, name in enumerate(HARD.names()):
        at = HARD.free([name])
        up, down = (HARD.moved([name], at + step).loss(N, D) for step in (1e-5, -1e-5))
        assert slopes[:, place] == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_loss_with_gradient_is_the_loss() -> None:
    assert (BUSBRIDGE_2025.with_gradient(N, D, TEACHER)[0] == BUSBRIDGE_2025.loss(N, D, TEACHER)).all()
    assert (HARD.with_gradient(N, D)[0] == HARD.loss(N, D)).all()


def test_tokens_for_a_loss_give_that_loss_and_none_give_less_than_the_floor() -> None:
    assert HARD.tokens_for(N, HARD.loss(N, D)) == pytest.approx(D, rel=1e-9)
    assert np.isinf(HARD.tokens_for(1e9, 1.3)) and np.isinf(HARD.tokens_for(1e9, 1.0))


def test_published_form_has_the_teacher_as_its_floor_and_recovery_goes_below() -> None:
    assert (BUSBRIDGE_2025.loss(7.75e9, 5e11, np.linspace(1.9, 2.7, 9)) >= np.linspace(1.9, 2.7, 9)).all()
    assert replace(BUSBRIDGE_2025, recovery=0.05).loss(7.75e9, 5e11, 2.6) < 2.6


def test_draws_are_the_single_laws_side_by_side() -> None:
    names = ("c0", "alpha", "B")
    free = BUSBRIDGE_2025.free(names) + np.array([[0.0, 0.0, 0.0], [0.1, -0.02, 0.3]])
    rows = [BUSBRIDGE_2025.moved(names, one).loss(N, D, TEACHER) for one in free]
    assert BUSBRIDGE_2025.moved(names, free).loss(N, D, TEACHER) == pytest.approx(np.array(rows), rel=1e-13)
    columns = np.array([list(HARD.coefficients().values())] * 2)
    drawn = DistillationLaw.of_draws(
        np.array([list(BUSBRIDGE_2025.coefficients().values())] * 2), SupervisedLaw.of_draws(columns)
    )
    assert drawn.loss(N, D, TEACHER) == pytest.approx(np.array([BUSBRIDGE_2025.loss(N, D, TEACHER)] * 2), rel=1e-13)


def test_laws_are_frozen() -> None:
    with pytest.raises(AttributeError):
        HARD.E = 1.0  # type: ignore[misc]
