"""The bigram world is what was prescribed, its samples follow it, and its teachers are as imperfect as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.types import IGNORE_INDEX, Batch, UserError
from stillroom.worlds.bigram import BigramOptions, BigramWorld, bigram_world, split_by_entropy
from stillroom.worlds.bigram_rows import log_dirichlet, row_entropies, solved_rows, stationary, tempered
from stillroom.worlds.bigram_sequences import HIGH_ROW, LOW_ROW, START, bigram_labels, sample_sequences
from stillroom.worlds.bigram_teachers import TeacherSpec, low_rank, parse_teacher, teacher_rows
from stillroom.worlds.bigram_text import OTHER, library_text, load_matrix, text_world

CHI_SQUARE_LEVEL = 4.0
"""Standard deviations that a chi-square statistic may lie from its mean: one in 16,000 by chance."""


@settings(max_examples=40, deadline=None)
@given(
    states=st.integers(4, 60),
    high=st.floats(0.05, 0.98),
    low=st.floats(0.01, 0.9),
    concentration=st.floats(0.05, 20.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_row_entropies_equal_the_prescription(states, high, low, concentration, seed):
    most = math.log(states)
    options = BigramOptions(
        states=states, high_entropy=high * most, low_entropy=low * high * most, concentration=concentration, seed=seed
    )
    world = bigram_world(options)
    wanted = np.where(world.high_K, options.high_entropy, options.low_entropy)
    assert np.abs(world.entropy_K - wanted).max() < 1e-6
    assert np.abs(world.matrix_KK.sum(1) - 1).max() < 1e-12
    assert world.high_K.sum() == round(0.5 * states)


@settings(max_examples=30, deadline=None)
@given(states=st.integers(2, 40), share=st.floats(0.0, 1.0), support=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_row_has_as_many_next_tokens_as_its_support(states, share, support, seed):
    support = min(support, states)
    world = bigram_world(BigramOptions(states=states, high_share=share, support=support, seed=seed))
    assert ((world.matrix_KK[world.high_K] > 0).sum(1) <= support).all()
    low = world.matrix_KK[~world.high_K]
    assert ((low > 0).sum(1) == 1).all()
    assert (world.entropy_K[~world.high_K] == 0).all()


@pytest.mark.parametrize("nats", [0.0, math.log(7)])
def test_the_ends_of_the_range_of_entropies_are_reached_exactly(nats):
    rows = solved_rows(log_dirichlet((5, 7), 1.0, np.random.default_rng(0)), nats)
    assert row_entropies(rows) == pytest.approx(np.full(5, nats), abs=1e-12)


def test_an_entropy_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        solved_rows(np.zeros((2, 4)), 2.0)
    with pytest.raises(ValueError, match="at most log"):
        BigramOptions(states=10, support=4, high_entropy=2.0)


@settings(max_examples=25, deadline=None)
@given(states=st.integers(2, 30), share=st.floats(0.05, 1.0), seed=st.integers(0, 500))
def test_the_stationary_distribution_stays_and_reaches_every_token(states, share, seed):
    world = bigram_world(BigramOptions(states=states, high_share=max(share, 1 / states), seed=seed))
    share_K = world.stationary_K
    assert share_K @ world.matrix_KK == pytest.approx(share_K, abs=1e-9)
    assert share_K.sum() == pytest.approx(1.0)
    assert share_K.min() > 0


def test_a_chain_that_falls_apart_has_the_occupancy_of_an_even_start():
    assert stationary(np.eye(3)) == pytest.approx(np.full(3, 1 / 3))
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert stationary(swap) == pytest.approx(np.full(2, 0.5))


def chi_square(counts: np.ndarray, chances: np.ndarray) -> tuple[float, int]:
    """The statistic over cells that are expected at least five times, and its degrees of freedom."""
    expected = chances * counts.sum(1, keepdims=True)
    kept = expected >= 5
    return float(((counts - expected)[kept] ** 2 / expected[kept]).sum()), int(kept.sum() - len(counts))


def test_counts_follow_the_matrix():
    world = bigram_world(BigramOptions(states=30, high_share=1.0))
    counts = world.counts(300_000, np.random.default_rng(1))
    assert counts.sum() == 300_000
    statistic, degrees = chi_square(counts, world.matrix_KK)
    assert abs(statistic - degrees) < CHI_SQUARE_LEVEL * math.sqrt(2 * degrees)
    visits = counts.sum(1)
    assert ((visits - 10_000) ** 2 / 10_000).sum() < 29 + CHI_SQUARE_LEVEL * math.sqrt(58)


def test_walks_follow_the_matrix_and_the_stationary_distribution():
    world = bigram_world(BigramOptions(states=20, high_share=0.7))
    tokens = world.walks(4000, 50, np.random.default_rng(2))
    counts = np.zeros((20, 20))
    np.add.at(counts, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    assert counts[world.matrix_KK == 0].sum() == 0
    statistic, degrees = chi_square(counts, world.matrix_KK)
    assert abs(statistic - degrees) < CHI_SQUARE_LEVEL * math.sqrt(2 * degrees)
    for position in (0, 49):
        share = np.bincount(tokens[:, position], minlength=20) / 4000
        error = np.sqrt(world.stationary_K * (1 - world.stationary_K) / 4000)
        assert (np.abs(share - world.stationary_K) < 4.5 * error).all()


@pytest.mark.parametrize("visits", ["uniform", "stationary"])
def test_the_exact_teacher_reaches_the_optimal_loss_and_no_other_does(visits):
    world = bigram_world(BigramOptions())
    optimal = world.optimal_loss_nats(visits)
    assert world.loss_nats(teacher_rows(world, TeacherSpec(), 0, visits), visits) == pytest.approx(optimal, abs=1e-12)
    for text in ("uniform:0.1", "rank:10"):
        assert world.loss_nats(teacher_rows(world, parse_teacher(text), 0, visits), visits) > optimal + 1e-3
    assert world.loss_nats(tempered(world.matrix_KK, 2.0), visits) > optimal + 1e-3


def test_the_optimal_loss_is_the_loss_of_long_walks():
    world = bigram_world(BigramOptions(states=30))
    tokens = world.walks(2000, 101, np.random.default_rng(3))
    losses = -np.log(world.matrix_KK[tokens[:, :-1], tokens[:, 1:]])
    error = losses.mean(1).std() / math.sqrt(2000)
    assert abs(losses.mean() - world.optimal_loss_nats()) < 4 * error


def test_teachers_are_imperfect_as_they_say():
    world = bigram_world(BigramOptions(states=40))
    for text in ("exact", "uniform:0.2", "context:0.2", "samples:500", "rank:5"):
        rows = teacher_rows(world, parse_teacher(text), 0)
        assert rows.sum(1) == pytest.approx(np.ones(40))
    leaky = teacher_rows(world, TeacherSpec("uniform", 0.2), 0)
    assert leaky == pytest.approx(0.8 * world.matrix_KK + 0.2 / 40)
    few, many = (teacher_rows(world, TeacherSpec("samples", size), 0) for size in (200, 200_000))
    assert np.abs(many - world.matrix_KK).sum() < 0.3 * np.abs(few - world.matrix_KK).sum()


def test_a_larger_low_rank_teacher_is_closer_and_a_full_one_exact():
    world = bigram_world(BigramOptions(states=20, high_share=1.0))
    weights = world.visits_K("uniform")
    losses = [
        world.loss_nats(low_rank(world.matrix_KK, weights, z, np.random.default_rng(0)), "uniform") for z in (1, 4, 20)
    ]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] - world.optimal_loss_nats("uniform") < 0.01
    assert np.linalg.matrix_rank(low_rank(world.matrix_KK, weights, 4, np.random.default_rng(0)), tol=1e-9) <= 4


@pytest.mark.parametrize(
    "text", ["exact:1", "uniform", "uniform:x", "uniform:1.5", "samples:0", "rank:2.5", "teacher:1", ""]
)
def test_a_teacher_that_is_not_understood_is_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match=r"expected|no number"):
        parse_teacher(text)


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(0.2, 5.0), seed=st.integers(0, 100))
def test_temperature_keeps_order_and_impossible_tokens(temperature, seed):
    world = bigram_world(BigramOptions(states=12, support=6, seed=seed))
    rows = tempered(world.matrix_KK, temperature)
    assert rows.sum(1) == pytest.approx(np.ones(12))
    assert ((rows > 0) == (world.matrix_KK > 0)).all() or temperature < 1
    assert (rows.argmax(1) == world.matrix_KK.argmax(1)).all()
    warmer = row_entropies(rows) >= row_entropies(world.matrix_KK) - 1e-9
    assert warmer.all() if temperature >= 1 else (row_entropies(rows) <= row_entropies(world.matrix_KK) + 1e-9).all()


def test_the_bigrams_of_the_library_are_its_relative_frequencies():
    world = text_world("abcabcabd", "characters", 10, threshold_nats=0.5)
    place = {word: number for number, word in enumerate(world.words)}
    assert world.matrix_KK[place["a"], place["b"]] == 1.0
    assert world.matrix_KK[place["b"], place["c"]] == pytest.approx(2 / 3)
    assert world.matrix_KK[place["d"], place["a"]] == 1.0  # the end is followed by the beginning
    assert world.high_K.tolist() == [word == "b" for word in world.words]
    library = text_world(library_text(5), "words", 50)
    assert library.num_states == 50
    assert library.words[-1] == OTHER
    assert 1.0 < library.optimal_loss_nats() < math.log(50)


def test_a_matrix_in_a_file_is_taken_as_it_is(tmp_path):
    matrix = bigram_world(BigramOptions(states=8)).matrix_KK
    np.save(tmp_path / "given.npy", matrix)
    world = load_matrix(tmp_path / "given.npy", 1.0)
    assert world.matrix_KK == pytest.approx(matrix)
    assert (world.high_K == (world.entropy_K > 1.0)).all()


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.ones((2, 3)) / 3, "square"),
        (np.ones((1, 1)), "at least 2"),
        (np.array([[0.5, 0.4], [0.5, 0.5]]), "row 0 sums to 0.9"),
        (np.array([[1.5, -0.5], [0.5, 0.5]]), "entries of at least 0"),
        (np.array([[np.nan, 1.0], [0.5, 0.5]]), "row 0"),
        (np.array([["a", "b"], ["c", "d"]]), "real numbers"),
    ],
)
def test_a_matrix_that_is_none_is_refused_with_one_sentence(tmp_path, matrix, expected):
    np.save(tmp_path / "bad.npy", matrix)
    with pytest.raises(UserError, match=expected):
        load_matrix(tmp_path / "bad.npy")


def test_a_file_that_is_no_matrix_is_refused(tmp_path):
    (tmp_path / "text.npy").write_text("no numbers")
    with pytest.raises(UserError, match=r"no \.npy file"):
        load_matrix(tmp_path / "text.npy")
    with pytest.raises(UserError, match="no such file"):
        load_matrix(tmp_path / "absent.npy")


@pytest.fixture(scope="module")
def small() -> BigramWorld:
    return bigram_world(BigramOptions(states=16))


def test_sequences_tell_which_row_made_a_token(small):
    sequences = sample_sequences(small, 640, 32, seed=4)
    assert len(sequences) == 20
    batch = sequences.batch([3, 0])
    assert torch.equal(batch.tokens_BT[1], sequences.batch([0]).tokens_BT[0])
    assert torch.equal(batch.targets_BT[:, :-1], batch.tokens_BT[:, 1:])
    assert (batch.targets_BT[:, -1] == IGNORE_INDEX).all()
    high = torch.from_numpy(small.high_K)[batch.tokens_BT[:, :-1]]
    assert batch.process_BT is not None
    assert torch.equal(batch.process_BT[:, 1:] == HIGH_ROW, high)
    assert torch.equal(batch.process_BT[:, 1:] == LOW_ROW, ~high)
    assert (batch.process_BT[:, 0] == START).all()
    assert torch.equal(sample_sequences(small, 640, 32, seed=4).batch([3]).tokens_BT, sequences.batch([3]).tokens_BT)


@pytest.mark.parametrize("teacher", ["exact", "uniform:0.2", "context:0.2"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_labels_are_the_teachers_rows_with_their_numbers(small, teacher, temperature):
    batch = sample_sequences(small, 128, 16, seed=5).batch(range(8))
    tokens = batch.tokens_BT
    labels = bigram_labels(small, parse_teacher(teacher), temperature).labels(batch)
    assert labels.weights.sum(-1) == pytest.approx(torch.ones(8, 16), abs=1e-5)
    dense = labels.weights
    assert labels.entropy == pytest.approx(-torch.xlogy(dense, dense).sum(-1), abs=1e-5)
    gold = dense[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    assert labels.gold_logprob[:, :-1].exp() == pytest.approx(gold, abs=1e-5)
    assert (labels.gold_rank[:, :-1] == (dense[:, :-1] > gold[..., None]).sum(-1)).all()
    assert (labels.gold_rank[:, -1] == -1).all()


def test_a_leak_onto_the_context_goes_to_what_was_seen(small):
    tokens = torch.tensor([[3, 5, 3, 3]])
    labels = bigram_labels(small, TeacherSpec("context", 0.4)).labels(Batch(tokens, tokens, torch.zeros_like(tokens)))
    seen = torch.zeros(16)
    seen[3], seen[5] = 0.75, 0.25
    truth = torch.from_numpy(small.matrix_KK[3]).float()
    assert labels.weights[0, 3] == pytest.approx(0.6 * truth + 0.4 * seen, abs=1e-6)


def test_rows_of_a_given_matrix_are_classed_by_entropy():
    world = split_by_entropy(np.array([[0.5, 0.5], [0.0, 1.0]]), 0.5)
    assert world.high_K.tolist() == [True, False]
