"""Intervals: right values, right coverage, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.results import statistics
from stillroom.results.intervals import holm, paired_interval, paired_t_test, student_t
from stillroom.results.statistics import mean, paired_difference, ratio
from stillroom.types import UserError

numbers = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(numbers, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_mean_is_the_mean_and_lies_within_the_range_of_the_items(values: list[float], seed: int) -> None:
    estimate = mean(values, seed=seed, resamples=200)
    assert estimate.value == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9
    assert estimate.num == len(values)


@given(numbers, st.floats(0.1, 10), st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_mean_moves_with_the_unit_of_the_items(values: list[float], scale: float, shift: float) -> None:
    plain = mean(values, resamples=100)
    moved = mean(np.asarray(values) * scale + shift, resamples=100)
    for before, after in zip((plain.value, plain.low, plain.high), (moved.value, moved.low, moved.high), strict=True):
        assert after == pytest.approx(before * scale + shift, abs=1e-6)


def test_ratio_is_the_ratio_of_sums_and_ignores_items_without_evidence() -> None:
    estimate = ratio([3.0, 1.0, 99.0], [2.0, 6.0, 0.0])
    assert estimate.value == 0.5
    assert estimate.num == 2


def test_same_seed_same_interval_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=64)
    once = mean(values, seed=3)
    assert mean(values, seed=3) == once
    assert mean(values, seed=4) != once
    monkeypatch.setattr(statistics, "_COUNTS_AT_A_TIME", 640)
    chunked = mean(values, seed=3)
    assert (chunked.low, chunked.high) == pytest.approx((once.low, once.high), abs=1e-12)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(300):
        estimate = mean(rng.exponential(size=60), seed=seed, resamples=400)
        hits += estimate.low <= 1.0 <= estimate.high
    assert 0.88 <= hits / 300 <= 0.98


def test_interval_has_the_width_of_the_normal_one_on_normal_items() -> None:
    values = np.random.default_rng(2).normal(size=400)
    estimate = mean(values)
    normal = 2 * 1.96 * values.std() / 20
    assert estimate.high - estimate.low == pytest.approx(normal, rel=0.1)


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(UserError, match="no item is left"):
        mean([])
    with pytest.raises(UserError, match="no item is left"):
        ratio([1.0], [0.0])


def test_paired_difference_of_equal_arms_is_nothing() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = paired_difference(values, values)
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_paired_difference_finds_a_small_shift_that_the_spread_of_items_would_hide() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(scale=10, size=80)
    found = paired_difference(hardness + 0.5 + rng.normal(scale=0.5, size=80), hardness)
    assert found.low > 0.3 and found.p_value < 0.001


def test_paired_p_value_equals_the_exact_sign_flip_test() -> None:
    difference = np.array([1.0, 2.0, -0.5, 0.7, 0.1, 1.1])
    signs = np.array([[1 - 2 * (i >> j & 1) for j in range(6)] for i in range(64)])
    exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
    assert paired_difference(difference, np.zeros(6), resamples=20_000).p_value == pytest.approx(exact, abs=0.01)


def test_p_value_is_uniform_when_arms_are_alike() -> None:
    rng = np.random.default_rng(5)
    p_values = [
        paired_difference(rng.normal(size=30), rng.normal(size=30), resamples=200, seed=i).p_value for i in range(200)
    ]
    assert 0.02 <= np.mean(np.array(p_values) < 0.1) <= 0.18


def test_paired_items_must_match() -> None:
    with pytest.raises(ValueError, match="one shape"):
        paired_difference([1.0], [1.0, 2.0])


def test_strata_keep_what_was_decided_out_of_the_interval() -> None:
    """Two classes of constant but different items: which were drawn cannot matter, how many of each would."""
    values = np.array([1.0] * 30 + [3.0] * 10)
    kind = np.array([0] * 30 + [1] * 10)
    apart = ratio(values, np.ones(40), strata=kind)
    assert (apart.low, apart.value, apart.high, apart.num) == (1.5, 1.5, 1.5, 40)
    together = ratio(values, np.ones(40))
    assert together.low < 1.3 and together.high > 1.7
    noisy = values + np.random.default_rng(0).normal(0, 0.1, 40)
    inside = ratio(noisy, np.ones(40), strata=kind)
    variance = sum((kind == one).sum() * noisy[kind == one].var() for one in (0, 1)) / 40**2
    assert (inside.high - inside.low) / (2 * 1.96 * np.sqrt(variance)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("confidence", "degrees", "expected"),
    [(0.95, 1, 12.7062047), (0.95, 2, 4.3026527), (0.95, 3, 3.1824463), (0.95, 4, 2.7764451), (0.95, 9, 2.2621572),
     (0.95, 30, 2.0422725), (0.99, 4, 4.6040949), (0.9, 5, 2.0150484), (0.95, 400, 1.9659123)],
)  # fmt: skip
def test_quantiles_of_students_t_are_those_of_the_tables(confidence: float, degrees: int, expected: float) -> None:
    assert student_t(confidence, degrees) == pytest.approx(expected, abs=1e-6)


def test_interval_over_seeds_is_the_mean_and_t_times_the_standard_error() -> None:
    estimate = paired_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * np.sqrt(2.5 / 5)
    assert (estimate.value, estimate.num) == (3.0, 5)
    assert (estimate.low, estimate.high) == pytest.approx((3 - half, 3 + half), abs=1e-6)
    wider = paired_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.99)
    assert wider.high - wider.low == pytest.approx(2 * half * 4.6040949 / 2.7764451)


def test_interval_over_three_seeds_covers_the_truth_as_often_as_it_says() -> None:
    """Where the bootstrap over three values holds the truth in about 75 of 100."""
    draws = np.random.default_rng(0).normal(loc=0.3, size=(4000, 3))
    found = [paired_interval(row) for row in draws]
    assert np.mean([one.low <= 0.3 <= one.high for one in found]) == pytest.approx(0.95, abs=0.012)


def test_one_seed_has_no_interval_and_none_is_an_error() -> None:
    alone = paired_interval([0.5])
    assert (alone.value, alone.num) == (0.5, 1)
    assert np.isnan([alone.low, alone.high]).all()
    with pytest.raises(UserError, match="no paired difference"):
        paired_interval([])
    with pytest.raises(ValueError, match="confidence is 95"):
        paired_interval([1.0, 2.0], 95)


def test_t_test_and_interval_agree_on_what_is_significant() -> None:
    values = np.array([0.4, 0.1, 0.6, 0.3])
    for shift in (-1.0, -0.1, 0.0, 0.2):
        estimate, p_value = paired_interval(values + shift), paired_t_test(values + shift)
        assert p_value is not None
        assert (p_value < 0.05) == (estimate.low > 0 or estimate.high < 0)
    assert paired_t_test(values - paired_interval(values).low) == pytest.approx(0.05, abs=1e-9)
    assert paired_t_test([1.0]) is None
    assert paired_t_test([0.0, 0.0]) == 1.0


def test_holm_is_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_is_no_test_is_left_out_of_the_correction() -> None:
    found = holm([0.01, float("nan"), 0.001])
    assert [found[0], found[2]] == pytest.approx([0.01, 0.002])
    assert np.isnan(found[1])
    assert np.isnan(holm([float("nan")])).all()
    assert np.isnan(paired_t_test([float("nan"), 1.0, 2.0]))


def test_a_p_value_is_never_below_zero() -> None:
    for num in range(5, 13):
        for level in range(1, 40):
            p_value = paired_t_test([level + (place % 3) * 10.0**-3 for place in range(num)])
            assert p_value is not None
            assert 0.0 <= p_value < 1e-6
