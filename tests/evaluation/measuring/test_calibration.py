"""Calibration against sums written out in float64, and intervals that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from stillroom.evaluation.measuring.calibration import calibration, ratio_difference, resampled_sums
from stillroom.results.schema import CalibrationBin
from stillroom.types import UserError


def reference_error(confidence, correct, bins):
    """ECE bin by bin, a position at a time."""
    total = 0.0
    for number in range(bins):
        inside = [
            (float(c), float(h))
            for c, h in zip(confidence, correct, strict=True)
            if number / bins < c <= (number + 1) / bins or (number == 0 and c == 0)
        ]
        if inside:
            gap = sum(h for _, h in inside) / len(inside) - sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(gap)
    return total


def test_the_error_is_that_of_the_written_out_sum():
    rng = np.random.default_rng(0)
    confidence = np.append(rng.random(400), [0.0, 1.0, 0.2])
    correct = rng.random(403) < confidence**2
    found = calibration(confidence, correct, np.arange(403) // 10)
    assert found.error.value == pytest.approx(reference_error(confidence, correct, 15), abs=1e-12)
    assert found.counts_M.sum() == 403


def test_known_values():
    found = calibration([0.8, 0.8, 0.8, 0.8, 0.8], [1, 1, 1, 1, 0], [0, 1, 2, 3, 4])
    assert found.error.value == pytest.approx(0.0, abs=1e-12)
    worst = calibration([1.0, 1.0], [0, 0], [0, 1])
    assert worst.error.value == 1.0
    assert worst.result().bins == (CalibrationBin(confidence=1.0, accuracy=0.0, num=2),)


def test_the_interval_of_a_calibrated_model_reaches_zero_and_of_an_overconfident_one_does_not():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 1.0, 4000)
    items = np.arange(4000) // 20
    honest = calibration(confidence, rng.random(4000) < confidence, items).error
    boastful = calibration(confidence, rng.random(4000) < confidence - 0.2, items).error
    assert honest.low < 0.01 and honest.value < 0.03
    assert boastful.low > 0.15 and boastful.low < boastful.value < boastful.high < 0.25


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration([1.2], [1], [0])
    with pytest.raises(UserError, match="no position"):
        calibration([], [], [])


def test_resampling_keeps_the_number_of_items_of_every_stratum():
    sums = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 5)
    drawn = resampled_sums(sums, np.array([0] * 3 + [1] * 5), resamples=50)
    assert (drawn == [3.0, 5.0]).all()


def test_a_wider_level_gives_a_wider_interval_about_the_same_value():
    rng = np.random.default_rng(2)
    nats, tokens = rng.normal(0.1, 1.0, 200), np.ones(200)
    narrow = ratio_difference(nats, tokens, np.zeros(200), level=0.9)
    wide = ratio_difference(nats, tokens, np.zeros(200), level=0.99)
    assert narrow.value == wide.value == pytest.approx(nats.mean())
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert narrow.high - narrow.low == pytest.approx(2 * 1.645 * nats.std() / 200**0.5, rel=0.1)
