"""Systematic sampling is unbiased, steadier than independent draws, and depends on nothing but the sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stillroom.labels.codecs.systematic import counted, offsets, systematic
from stillroom.labels.format.layout import key_halves, record_keys


def reference(mass_V: np.ndarray, offset: float, num: int) -> np.ndarray:
    """Counts by the definition: pointers (i + u)/N through the cumulative distribution."""
    edges = np.cumsum(mass_V.astype(np.float64))
    pointers = (np.arange(num) + offset) / num * edges[-1]
    return np.bincount(np.searchsorted(edges, pointers, side="right"), minlength=len(mass_V))


@pytest.mark.parametrize("vocabulary", [3, 64, 65, 1000])
@pytest.mark.parametrize("num", [1, 50, 255])
def test_counts_follow_the_definition(vocabulary, num):
    generator = torch.Generator().manual_seed(vocabulary)
    mass = torch.randn(40, vocabulary, generator=generator).mul(3).exp()
    offset = torch.rand(40, dtype=torch.float64, generator=generator)
    ids = systematic(mass, offset, num)
    assert (ids.diff(dim=1) >= 0).all()
    for row in range(40):
        counts = np.bincount(ids[row].numpy(), minlength=vocabulary)
        assert np.abs(counts - reference(mass[row].numpy(), float(offset[row]), num)).sum() <= 2  # a rounded edge


def test_every_token_gets_its_share_rounded_down_or_up():
    mass = torch.randn(200, 500, generator=torch.Generator().manual_seed(0)).mul(2).softmax(-1)
    ids = systematic(mass, torch.rand(200, dtype=torch.float64), 50)
    counts = torch.zeros(200, 500).scatter_add(1, ids, torch.ones(200, 50))
    assert ((counts - 50 * mass).abs() < 1 + 1e-4).all()


def test_mean_is_the_distribution_and_variance_at_most_half_of_independent_draws():
    num, draws = 50, 4000
    probability = (1.0 / torch.arange(1, 201).float() ** 1.3).div((1.0 / torch.arange(1, 201).float() ** 1.3).sum())
    offset = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws  # every offset equally often
    ids = systematic(probability.expand(draws, -1), offset, num)
    weights = torch.zeros(draws, 200).scatter_add(1, ids, torch.full((draws, num), 1.0 / num))
    assert torch.allclose(weights.mean(0), probability, atol=1 / draws)
    assert (weights - probability).square().sum(1).mean() <= 0.5 * (probability * (1 - probability)).sum() / num


@pytest.mark.parametrize("offset", [0.0, 1.0 - 2.0**-53])
def test_the_ends_of_the_offset_never_leave_the_support(offset):
    mass = torch.zeros(2, 300)
    mass[0, 7], mass[1, 299] = 1.0, 1e-30
    ids = systematic(mass, torch.full((2,), offset, dtype=torch.float64), 50)
    assert (ids[0] == 7).all() and (ids[1] == 299).all()


def test_counting_keeps_every_draw():
    ids, counts, per_row = counted(torch.tensor([[1, 1, 4], [4, 4, 4], [0, 1, 2]]))
    assert ids.tolist() == [1, 4, 4, 0, 1, 2] and counts.tolist() == [2, 1, 3, 1, 1, 1]
    assert per_row.tolist() == [2, 1, 3]


def test_offsets_depend_on_seed_sequence_and_position_alone():
    tokens = np.arange(24).reshape(3, 8)
    halves = key_halves(record_keys(tokens))
    all_of_them = offsets(halves, 8, seed=1).reshape(3, 8)
    assert np.array_equal(offsets(halves[1:2], 8, seed=1), all_of_them[1])
    assert len(np.unique(all_of_them)) == 24 and not np.array_equal(
        offsets(halves, 8, seed=2).reshape(3, 8), all_of_them
    )
    many = offsets(np.random.default_rng(0).integers(0, 2**63, (2000, 2)).astype(np.uint64), 16, seed=0)
    assert abs(many.mean() - 0.5) < 0.01 and abs(many.var() - 1 / 12) < 0.002
