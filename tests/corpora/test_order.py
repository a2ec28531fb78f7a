"""batch = f(seed, step): a permutation per epoch, the same for any number of ranks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.corpora import batch_indices, permute


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63))
@settings(deadline=None)
def test_every_size_and_seed_gives_a_bijection(size, seed):
    image = permute(np.arange(size), size, seed)
    assert sorted(image.tolist()) == list(range(size))


def test_seeds_give_different_orders_that_leave_few_places_fixed():
    size = 10_000
    first, second = permute(np.arange(size), size, 1), permute(np.arange(size), size, 2)
    assert (first == np.arange(size)).sum() < 12  # a random permutation leaves 1 on average
    assert (first == second).sum() < 12
    assert abs(np.corrcoef(first, np.arange(size))[0, 1]) < 0.05


def test_an_epoch_sees_every_sequence_once_and_epochs_differ():
    size, batch = 103, 8
    stream = np.concatenate([batch_indices(step, batch, size, seed=5) for step in range(2 * size // batch + 2)])
    first, second = stream[:size], stream[size : 2 * size]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(size))
    assert (first != second).any()


@given(size=st.integers(1, 300), window=st.integers(1, 80), batch=st.integers(1, 16), seed=st.integers(0, 99))
@settings(deadline=None)
def test_windows_are_shuffled_one_after_another_for_any_number_of_ranks(size, window, batch, seed):
    steps = 2 * size // batch + 1
    stream = np.concatenate([batch_indices(step, batch, size, seed, window) for step in range(steps)])
    whole = batch_indices(0, steps * batch, size, seed, window)
    assert (stream == whole).all()
    for epoch in range(2):
        order = stream[epoch * size : (epoch + 1) * size]
        for begin in range(0, size, window):
            assert sorted(order[begin : begin + window].tolist()) == list(range(begin, min(size, begin + window)))


@given(step=st.integers(0, 10**6), batch=st.integers(1, 64), seed=st.integers(0, 1000))
def test_a_step_is_the_same_whenever_it_is_asked_for(step, batch, seed):
    once, again = batch_indices(step, batch, 77, seed), batch_indices(step, batch, 77, seed)
    assert (once == again).all() and once.shape == (batch,)
    halves = np.concatenate([batch_indices(2 * step, batch, 77, seed), batch_indices(2 * step + 1, batch, 77, seed)])
    assert (halves == batch_indices(step, 2 * batch, 77, seed)).all()
