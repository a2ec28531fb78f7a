"""Forecasts of the published law: numbers, bills, warnings where it ends, refusals beyond."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_points import made_points

from stillroom.costs import flops_per_token
from stillroom.laws.bills import Rates, Teacher, forward_flops
from stillroom.laws.fitting import fit_law
from stillroom.laws.forecasts import PlannedStudent, best_splits, forecast, next_pilots
from stillroom.laws.law_file import load_law, published_law
from stillroom.laws.points import Model, Pilots
from stillroom.models.model_config import ModelConfig
from stillroom.types import UserError

STUDENT = PlannedStudent(1e9, 2e10, 2.2)


def test_every_number_is_inside_its_interval_and_they_agree() -> None:
    found = forecast(published_law(), STUDENT)
    for one in (found.hard, found.distilled, found.gain, found.multiplier, found.catch_up):
        assert one.low <= one.value <= one.high and one.low < one.high
    assert found.gain.value == pytest.approx(found.hard.value - found.distilled.value)
    law = published_law().supervised
    assert law.loss(1e9, found.multiplier.value * 2e10) == pytest.approx(found.distilled.value, rel=1e-9)
    assert found.label_bytes == 2e10 * published_law().bytes_per_label


def test_at_the_crossing_hard_labels_and_the_teacher_are_level() -> None:
    law, tokens = published_law(), forecast(published_law(), STUDENT).catch_up.value
    assert law.supervised.loss(1e9, tokens) == pytest.approx(law.taught().loss(1e9, tokens, 2.2), abs=1e-3)


def test_the_better_a_large_students_teacher_the_later_hard_labels_catch_up() -> None:
    tokens = [forecast(published_law(), PlannedStudent(4e9, 2e10, loss)).catch_up.value for loss in (2.2, 2.1, 1.95)]
    assert tokens == sorted(tokens)


def test_flops_of_a_token_are_those_of_the_matrices_the_vocabulary_and_attention() -> None:
    model = Model(vocabulary=32_168, context=4096, width_per_layer=128.0)
    N = 12 * 9 * 1152**2  # nine layers of width 1152: the paper's 143M
    shape = ModelConfig(
        hidden_size=1152, intermediate_size=8 * 1152 // 3, num_layers=9, num_heads=9, max_positions=4096
    )
    wanted = flops_per_token(shape, 32_168, 4096, backward=False)
    assert forward_flops(N, model) == pytest.approx(wanted, rel=1e-12)


def test_four_bills_are_equation_nine_and_students_share_the_teacher() -> None:
    teacher, model = Teacher(4e9, 1e11), published_law().model
    alone = {cost.bill: cost.flops for cost in forecast(published_law(), STUDENT, teacher).costs}
    own, rate = 3 * float(forward_flops(1e9, model)) * 2e10, float(forward_flops(4e9, model))
    assert alone == pytest.approx({
        "teacher free": own, "inference": own + rate * 2e10, "pretraining": own + 3 * rate * 1e11,
        "both": own + rate * (2e10 + 3e11),
    })  # fmt: skip
    shared = {cost.bill: cost.flops for cost in forecast(published_law(), STUDENT, teacher, students=10).costs}
    assert shared["both"] - own == pytest.approx((alone["both"] - own) / 10)


def test_bills_that_cannot_be_told_are_left_out_and_rates_give_hours_and_price() -> None:
    assert [cost.bill for cost in forecast(published_law(), STUDENT).costs] == ["teacher free"]
    there = forecast(published_law(), STUDENT, Teacher(4e9))
    assert [cost.bill for cost in there.costs] == ["teacher free", "inference"]
    (cost,) = forecast(published_law(), STUDENT, rates=Rates(1e14, 2.0, 20.0)).costs
    assert cost.hours == pytest.approx(cost.flops / 1e14 / 3600)
    assert cost.price == pytest.approx(2 * (cost.hours or 0) + 20 * 2e10 * 36 / 1e12)


def test_every_bill_says_what_hard_labels_would_take_for_the_same_loss() -> None:
    found = forecast(published_law(), STUDENT, Teacher(4e9, 1e11))
    for cost in found.costs:
        same_loss = [found.hard_flops * times for times in (found.multiplier.high, found.multiplier.value)]
        assert cost.over_hard.low == pytest.approx(cost.flops / same_loss[0])
        assert cost.over_hard.value == pytest.approx(cost.flops / same_loss[1])
        assert cost.over_hard.low <= cost.over_hard.value <= cost.over_hard.high
        assert "of hard labels' for the same loss" in cost.text()


def test_outside_its_reach_a_law_warns() -> None:
    assert len(forecast(published_law(), STUDENT).warnings) == 1  # of the text that it is for
    warnings = forecast(published_law(), PlannedStudent(2e10, 1e12, 1.85)).warnings
    assert sum("outside" in warning for warning in warnings) == 3
    weak = forecast(published_law(), PlannedStudent(4e9, 2e11, 2.2)).warnings
    assert any("worse than the student by hard labels" in warning for warning in weak)


@pytest.mark.parametrize(
    ("student", "wanted"),
    [
        (PlannedStudent(1e6, 2e10, 2.2), "parameters: is 1e.06, expected from 1.43e.07"),
        (PlannedStudent(1e9, 1e7, 2.2), "tokens: is 1e.07, expected from 3.7e.08"),
        (PlannedStudent(1e9, math.nan, 2.2), "tokens: is nan"),
        (PlannedStudent(1e9, 2e10, math.nan), "teacher-loss is nan"),
        (PlannedStudent(1e9, 2e10, 0.9), "below the 1.220 that nothing goes below.*per byte"),
        (PlannedStudent(1e9, 2e10, 0.3), "expected nats per token"),
        (PlannedStudent(1e9, 2e10, 3.9), "worse than the student"),
    ],
)
def test_what_a_law_cannot_say_is_refused(student: PlannedStudent, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        forecast(published_law(), student)


def test_a_plan_spends_what_is_there_and_no_neighbour_is_better() -> None:
    law = published_law()
    plain, *taught = best_splits(law, 1e21)
    assert [split.bill for split in taught] == ["teacher free", "inference", "pretraining", "both"]
    assert 3 * forward_flops(plain.N, law.model) * plain.D == pytest.approx(1e21)
    for factor in (0.8, 1.25):
        tokens = 1e21 / (3 * forward_flops(plain.N * factor, law.model))
        assert law.supervised.loss(plain.N * factor, tokens) > plain.loss.value
    both = taught[-1]
    rate = float(forward_flops(both.teacher.N, law.model))
    spent = 3 * float(forward_flops(both.N, law.model)) * both.D + rate * (both.D + 3 * both.teacher.D)
    assert spent == pytest.approx(1e21)


def test_a_teacher_trained_for_one_student_does_not_pay_and_for_many_it_does() -> None:
    plain, *taught = best_splits(published_law(), 1e21)
    assert taught[-1].loss.value > plain.loss.value
    assert best_splits(published_law(), 1e21, students=1000)[-1].loss.value < plain.loss.value


def test_a_given_teacher_stands_and_too_little_is_refused() -> None:
    splits = best_splits(published_law(), 1e21, Teacher(4e9), 2.1)
    assert [split.bill for split in splits] == ["plain pretraining", "teacher free", "inference"]
    assert all(split.teacher_loss in (None, 2.1) for split in splits)
    with pytest.raises(UserError, match="trains no student within the reach"):
        best_splits(published_law(), 1e15)
    with pytest.raises(UserError, match="expected a positive number"):
        best_splits(published_law(), -1.0)


def test_a_law_is_kept_and_the_next_pilot_narrows_its_forecast(tmp_path: Path) -> None:
    law = fit_law("made", Pilots(made_points(11)), resamples=20, jobs=1)
    law.save(tmp_path / "law.json")
    again = load_law(str(tmp_path))
    assert again.sentences == law.sentences and again.reach == law.reach and again.model == law.model
    assert again.distilled == law.distilled and again.supervised == law.supervised
    assert np.allclose(again.distilled_draws, law.distilled_draws, rtol=1e-5)
    target = PlannedStudent(4e9, 2e11, 2.2)
    pilots = next_pilots(again, target, 1e21)
    widths = [pilot.width for pilot in pilots]
    assert widths == sorted(widths) and 0 < widths[0] < 1
    assert all(pilot.flops <= 1e21 for pilot in pilots)
    with pytest.raises(UserError, match="pays no pilot"):
        next_pilots(again, target, 1e12)


def test_files_that_hold_no_law_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="busbridge-2025"):
        load_law(str(tmp_path / "none.json"))
    (tmp_path / "law.json").write_text('{"kind": "study"}')
    with pytest.raises(UserError, match="is no law"):
        load_law(str(tmp_path))
    (tmp_path / "law.json").write_text('{"kind": "law", "name": "x"}')
    with pytest.raises(UserError, match="has no 'supervised'"):
        load_law(str(tmp_path))
