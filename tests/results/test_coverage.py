"""pass@k against counting every subset, and the entropy of answers."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.results.coverage import entropy_nats, pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_matches_enumeration(n: int) -> None:
    for c in range(n + 1):
        right = [i < c for i in range(n)]
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(right, k))
            exact = Fraction(sum(any(subset) for subset in subsets), len(subsets))
            assert abs(pass_at_k(n, c, k) - float(exact)) <= 1e-12


@given(st.integers(1, 500), st.data())
def test_pass_at_k_matches_exact_binomials(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert abs(float(pass_at_k(n, c, k)) - float(exact)) <= 1e-12


def test_pass_at_k_equals_the_estimator_published_with_human_eval() -> None:
    """1 - prod over i from n-c+1 to n of (1 - k/i), on 10,000 random (n, c, k)."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for k in rng.integers(1, 200, size=100):
        n = rng.integers(k, 300, size=100)
        c = rng.integers(0, n + 1)
        published = [
            1.0 if a - b < k else 1.0 - np.prod(1.0 - k / np.arange(a - b + 1, a + 1))
            for a, b in zip(n, c, strict=True)
        ]
        worst = max(worst, float(np.abs(pass_at_k(n, c, int(k)) - published).max()))
    assert worst <= 1e-12


@given(st.integers(1, 60), st.data())
def test_pass_at_k_rises_with_k_and_with_c(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    curve = [float(pass_at_k(n, c, k)) for k in range(1, n + 1)]
    assert curve[0] == pytest.approx(c / n)
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(curve))
    assert curve[-1] == (0.0 if c == 0 else 1.0)
    if c < n:
        assert pass_at_k(n, c + 1, 1) > pass_at_k(n, c, 1)


def test_pass_at_k_is_vectorised_and_broadcasts() -> None:
    n, c = np.array([32, 16, 8]), np.array([3, 0, 8])
    together = pass_at_k(n, c, 4)
    assert together.tolist() == [float(pass_at_k(a, b, 4)) for a, b in zip(n, c, strict=True)]
    assert pass_at_k(8, np.arange(9), 2).shape == (9,)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_what_has_no_meaning(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"pass@|num_correct"):
        pass_at_k(n, c, k)


def test_entropy_of_answers() -> None:
    assert entropy_nats(["a"] * 7) == 0.0
    assert entropy_nats([]) == 0.0
    assert entropy_nats("abcd") == pytest.approx(math.log(4))
    assert entropy_nats("aab") == pytest.approx(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
