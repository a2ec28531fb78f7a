"""Diversity at its ends, where the value is known, and against plain definitions in between."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.evaluation.diversity import distinct_n, ngram_similarity, self_bleu, vendi_score
from stillroom.results.coverage import at_level, fit_coverage, majority_correct

samples = st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=2, max_size=6)


def test_ends_of_the_scales() -> None:
    same, different = [[1, 2, 3, 4]] * 5, [[i * 4 + j for j in range(4)] for i in range(5)]
    assert distinct_n(same, 2) == pytest.approx(3 / 15)
    assert distinct_n(different, 2) == 1.0
    assert self_bleu(same) == pytest.approx(1.0)
    assert self_bleu(different) < 0.1
    assert vendi_score(ngram_similarity(same)) == pytest.approx(1.0)
    assert vendi_score(ngram_similarity(different)) == pytest.approx(5.0)
    assert distinct_n([[], [1]], 2) == 0.0


def plain_self_bleu(texts: list[list[int]], max_n: int = 4) -> float:
    """BLEU as its definition reads, every reference looked at for every n-gram."""
    scores = []
    for i, own in enumerate(texts):
        others = [text for j, text in enumerate(texts) if j != i]
        logs = []
        for n in range(1, max_n + 1):
            count = lambda text, n=n: Counter(tuple(text[k : k + n]) for k in range(len(text) - n + 1))  # noqa: E731
            mine = count(own)
            if not mine:
                break
            matches = sum(min(c, max(count(other)[gram] for other in others)) for gram, c in mine.items())
            logs.append(math.log((matches or 0.1) / sum(mine.values())))
        if not logs:
            scores.append(0.0)
            continue
        nearest = min((abs(len(other) - len(own)), len(other)) for other in others)[1]
        scores.append(math.exp(min(0.0, 1 - nearest / len(own)) + sum(logs) / len(logs)))
    return sum(scores) / len(scores)


@given(samples)
@settings(max_examples=80, deadline=None)
def test_self_bleu_equals_its_definition(texts: list[list[int]]) -> None:
    assert self_bleu(texts) == pytest.approx(plain_self_bleu(texts), abs=1e-12)


@given(samples)
@settings(max_examples=80, deadline=None)
def test_vendi_score_counts_between_one_and_all(texts: list[list[int]]) -> None:
    similarity = ngram_similarity(texts)
    score = vendi_score(similarity)
    assert 1 - 1e-9 <= score <= len(texts) + 1e-9
    assert vendi_score(ngram_similarity(texts * 2)) == pytest.approx(score, abs=1e-6)  # copies add no diversity
    assert np.allclose(similarity, similarity.T) and similarity.max() <= 1 + 1e-9


def test_vendi_score_of_two_half_alike() -> None:
    eigenvalues = [0.75, 0.25]
    expected = math.exp(-sum(value * math.log(value) for value in eigenvalues))
    assert vendi_score([[1, 0.5], [0.5, 1]]) == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [[[1, 0]], [[2, 0], [0, 2]]])
def test_what_is_no_similarity_is_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="similarity matrix"):
        vendi_score(wrong)


def test_one_sample_has_no_self_bleu() -> None:
    with pytest.raises(ValueError, match="at least two"):
        self_bleu([[1, 2]])


@given(st.floats(-6, -0.1), st.floats(-0.9, -0.05))
@settings(deadline=None)
def test_coverage_law_is_found_again(a: float, b: float) -> None:
    ks = [1, 2, 4, 8, 16, 32]
    law = fit_coverage(ks, np.exp(a * np.array(ks, dtype=float) ** b))
    assert law is not None
    assert (law.a, law.b) == (pytest.approx(a, rel=1e-6), pytest.approx(b, rel=1e-6))
    assert law.residual < 1e-8
    np.testing.assert_allclose(law.at(64), np.exp(a * 64**b))


def test_coverage_law_needs_two_points_inside() -> None:
    assert fit_coverage([1, 2, 4], [0.0, 0.5, 1.0]) is None
    assert fit_coverage([1, 2, 4, 8], [0.0, 0.3, 0.5, 1.0]) is not None


def test_majority_vote() -> None:
    assert majority_correct(["a", "a", "b"], {"a"}) == 1.0
    assert majority_correct(["a", "b", "c", "c"], {"a", "b"}) == 0.0
    assert majority_correct(["a", "b"], {"a"}) == 0.5
    assert majority_correct([], {"a"}) == 0.0


def test_comparison_at_equal_diversity() -> None:
    assert at_level([0.2, 1.0, 2.0], [0.1, 0.3, 0.2], 1.5) == pytest.approx(0.25)
    assert at_level([2.0, 0.2], [0.2, 0.1], 2.0) == 0.2
    assert at_level([0.2, 1.0], [0.1, 0.3], 1.1) is None
    assert at_level([], [], 1.0) is None
