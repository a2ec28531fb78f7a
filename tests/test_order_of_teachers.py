"""The correlation of a ranking with the order of students, against a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.study.recipe_files import load_module

order = load_module(Path(__file__).parents[1] / "experiments" / "033_teachers" / "order.py")


@given(st.permutations(range(6)))
@settings(max_examples=40, deadline=None)
def test_spearman_without_ties_is_its_textbook_formula(places: list[int]) -> None:
    first, second = np.arange(6.0), np.array(places, dtype=float)
    expected = 1 - 6 * ((first - second) ** 2).sum() / (6 * 35)
    assert order.spearman(first, second) == pytest.approx(expected)
    assert order.spearman(first, np.exp(second)) == pytest.approx(expected)  # ranks alone matter


def test_ties_share_a_place() -> None:
    assert order.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_a_perfect_order_of_five_is_one_of_a_hundred_and_twenty_in_either_direction() -> None:
    students = np.tile(np.arange(5.0), (4, 1)) + np.random.default_rng(0).normal(0, 1e-3, (4, 5))
    found = order.predicted(np.arange(5.0), students)
    assert (found["value"], found["low"], found["high"]) == pytest.approx((1.0, 1.0, 1.0))
    assert found["p"] == pytest.approx(2 / 120)
