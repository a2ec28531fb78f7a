"""The paper's 354 digitised students, where the table is at hand: STILLROOM_SCALING_POINTS names it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from stillroom.laws.fits import FORMS, fit_distilled, held_out_errors, law_losses, relative_error
from stillroom.laws.points import Points, read_pilots
from stillroom.laws.presets import BUSBRIDGE_2025, REACH

TABLE = os.environ.get("STILLROOM_SCALING_POINTS", "")
FROZEN = json.loads((Path(__file__).parent / "published_points.json").read_text())
pytestmark = pytest.mark.skipif(not TABLE, reason="STILLROOM_SCALING_POINTS names no table of points")
HARD = BUSBRIDGE_2025.supervised


@pytest.fixture(scope="module")
def points() -> Points:
    return read_pilots([Path(TABLE)]).points


def test_the_preset_errs_as_published(points: Points) -> None:
    wanted = FROZEN["preset"]
    assert relative_error(BUSBRIDGE_2025, points) == pytest.approx(wanted["mean_relative_error"], rel=1e-12)
    assert np.mean(law_losses(BUSBRIDGE_2025, points) - points.loss_P) == pytest.approx(wanted["bias_nats"], rel=1e-10)
    assert np.mean(points.loss_P < points.teacher_P) == wanted["below_teacher"]
    assert pytest.approx((points.N_P.min(), points.N_P.max())) == REACH.N
    assert REACH.teacher == (points.teacher_P.min(), points.teacher_P.max())


def test_a_fit_is_far_below_the_presets_error(points: Points) -> None:
    for form in FORMS:
        error = relative_error(fit_distilled(points, HARD, form).law, points)
        assert error == pytest.approx(FROZEN["fit"][f"{form}_all"], abs=2e-4)
        assert error <= 0.011


def test_students_up_to_1_8b_choose_the_form_and_foretell_those_of_7_75b(points: Points) -> None:
    small, largest = points.where(points.N_P < 1.9e9), points.where(points.N_P > 7e9)
    laws = {form: fit_distilled(small, HARD, form).law for form in FORMS}
    held = {
        form: np.abs(
            held_out_errors(small, lambda some, form=form: fit_distilled(some, HARD, form, laws[form]).law)
        ).mean()
        for form in FORMS
    }
    kept = min(held, key=held.__getitem__)
    assert kept == "recovery"
    assert relative_error(laws[kept], largest) <= 0.015
    for form in FORMS:
        assert relative_error(laws[form], largest) == pytest.approx(FROZEN["fit"][f"{form}_largest"], abs=4e-4)
