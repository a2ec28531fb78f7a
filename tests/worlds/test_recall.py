"""The recall world: samples follow its rule, its exact teacher is optimal, and the others are wrong as said."""

from __future__ import annotations

import numpy as np
import pytest

from stillroom.types import UserError
from stillroom.worlds.recall import RecallOptions, RecallWorld, uniforms
from stillroom.worlds.recall_teachers import RecallTeacher, entropies, exact_probabilities, optimal_loss
from stillroom.worlds.recall_text import library_bigrams

Z_999 = 3.09  # normal quantile: chi-square tests are at level 0.001


def chi_square_fits(observed: np.ndarray, expected: np.ndarray) -> bool:
    """Whether counts follow expected counts, by Wilson and Hilferty's normal approximation, at level 0.001."""
    kept = expected >= 5
    observed = np.append(observed[kept], observed[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic, freedom = ((observed - expected) ** 2 / expected).sum(), len(expected) - 1
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread) < Z_999


@pytest.fixture(scope="module")
def world() -> RecallWorld:
    return RecallWorld(RecallOptions(characters=20, triggers=3))


def test_rows_are_distributions_and_characters_fall_in_frequency():
    bigrams = library_bigrams(65)
    assert len(set(bigrams.characters)) == 65
    np.testing.assert_allclose(bigrams.rows_VV.sum(1), 1.0, atol=1e-12)
    assert (np.diff(bigrams.unigram_V) <= 0).all()
    assert bigrams.characters[0] == " "


def test_ordinary_tokens_follow_the_bigram_rows(world: RecallWorld):
    sample = world.sample(range(4000), 64, seed=3)
    now, following = sample.tokens_BT[:, :-1], sample.tokens_BT[:, 1:]
    ordinary = sample.asks_BT[:, :-1] == 0
    for character in (3, 7, 12):  # the first three are triggers
        here = ordinary & (now == character)
        observed = np.bincount(following[here], minlength=world.vocab_size).astype(float)
        assert observed.sum() > 2000
        assert chi_square_fits(observed, observed.sum() * world.bigrams.rows_VV[character])


def test_a_wrong_matrix_is_told_from_the_right_one(world: RecallWorld):
    sample = world.sample(range(4000), 64, seed=3)
    here = (sample.asks_BT[:, :-1] == 0) & (sample.tokens_BT[:, :-1] == 7)
    observed = np.bincount(sample.tokens_BT[:, 1:][here], minlength=world.vocab_size).astype(float)
    assert not chi_square_fits(observed, observed.sum() * world.bigrams.rows_VV[8])


def test_a_trigger_always_has_its_answer(world: RecallWorld):
    sample = world.sample(range(500), 64, seed=0)
    for slot in range(3):
        is_trigger = sample.tokens_BT[:, :-1] == sample.triggers_BK[:, slot, None]
        answers = np.broadcast_to(sample.answers_BK[:, slot, None], is_trigger.shape)
        assert (sample.tokens_BT[:, 1:][is_trigger] == answers[is_trigger]).all()


@pytest.mark.parametrize("outputs", ["uniform", "row", "other"])
def test_answers_are_drawn_as_asked_for(outputs):
    world = RecallWorld(RecallOptions(characters=20, triggers=2, outputs=outputs))
    sample = world.sample(range(6000), 8, seed=1)
    trigger = sample.triggers_BK[0, 0]
    expected = {
        "uniform": np.full(20, 1 / 20),
        "row": world.bigrams.rows_VV[trigger],
        "other": np.where(np.arange(20) == trigger, 0.0, 1 / 19),
    }[outputs]
    observed = np.bincount(sample.answers_BK[:, 0], minlength=20).astype(float)
    assert (observed[expected == 0] == 0).all()
    assert chi_square_fits(observed, 6000 * expected)


def test_triggers_per_sequence_differ_and_follow_the_unigram():
    world = RecallWorld(RecallOptions(characters=20, triggers=4, draw="per-sequence"))
    triggers = world.sample(range(8000), 8, seed=5).triggers_BK
    assert all(len(set(row)) == 4 for row in triggers.tolist())
    observed = np.bincount(triggers[:, 0], minlength=20).astype(float)
    assert chi_square_fits(observed, 8000 * world.bigrams.unigram_V)


def test_process_codes_count_occurrences(world: RecallWorld):
    sample = world.sample(range(50), 64, seed=2)
    for tokens, process, triggers in zip(sample.tokens_BT, sample.process_BT, sample.triggers_BK, strict=True):
        seen: dict[int, int] = {}
        assert process[0] == 0
        for place in range(63):
            token = int(tokens[place])
            if token in triggers:
                seen[token] = seen.get(token, 0) + 1
                assert process[place + 1] == seen[token]
            else:
                assert process[place + 1] == 0


def test_a_sequence_is_the_same_in_whatever_batch_it_is_asked_for(world: RecallWorld):
    together = world.sample([5, 9, 700], 32, seed=4)
    alone = world.sample([9], 32, seed=4)
    assert (together.tokens_BT[1] == alone.tokens_BT[0]).all()
    assert (together.tokens_BT[:, :16] == world.sample([5, 9, 700], 16, seed=4).tokens_BT).all()
    assert (world.sample([9], 32, seed=5).tokens_BT != alone.tokens_BT).any()


def test_hashed_numbers_are_uniform_and_uncorrelated():
    drawn = uniforms(0, np.arange(400, dtype=np.uint64)[:, None], np.arange(500, dtype=np.uint64)[None])
    observed = np.bincount((drawn.ravel() * 100).astype(int), minlength=100).astype(float)
    assert chi_square_fits(observed, np.full(100, drawn.size / 100))
    for first, second in (
        (drawn[:-1], drawn[1:]),
        (drawn[:, :-1], drawn[:, 1:]),
        (drawn, uniforms(1, np.arange(400, dtype=np.uint64)[:, None], np.arange(500, dtype=np.uint64)[None])),
    ):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / np.sqrt(first.size)


@pytest.mark.parametrize("options", [
    RecallOptions(characters=20, triggers=3),
    RecallOptions(characters=20, triggers=3, outputs="other"),
    RecallOptions(characters=20, triggers=3, outputs="row"),
    RecallOptions(characters=20, triggers=3, draw="per-sequence"),
])  # fmt: skip
def test_exact_teacher_reaches_the_optimal_loss(options: RecallOptions):
    world = RecallWorld(options)
    sample = world.sample(range(3000), 64, seed=6)
    rows = exact_probabilities(world, sample.tokens_BT, sample.triggers_BK)
    np.testing.assert_allclose(rows.sum(-1), 1.0, atol=1e-5)
    gold = np.take_along_axis(rows[:, :-1], sample.tokens_BT[:, 1:, None], axis=2)[..., 0]
    assert (gold > 0).all()
    losses = -np.log(gold).mean(1)
    margin = 4 * losses.std() / np.sqrt(len(losses))
    assert abs(losses.mean() - optimal_loss(world, sample).mean()) < margin
    assert (gold[sample.asks_BT[:, :-1] >= 2] == 1).all()


def test_every_other_teacher_is_worse_than_the_exact_one(world: RecallWorld):
    sample = world.sample(range(300), 64, seed=7)
    exact = exact_probabilities(world, sample.tokens_BT, sample.triggers_BK)
    for teacher in (RecallTeacher(leak=0.1), RecallTeacher(temperature=1.3)):
        said = teacher.probabilities(world, sample.tokens_BT, sample.triggers_BK)
        with np.errstate(divide="ignore"):
            logs = np.where(exact > 0, np.log(said), 0.0)
        divergence = -(exact * logs).sum(-1) - entropies(exact)
        assert divergence.min() > -1e-5
        assert divergence.mean() > 1e-3


@pytest.mark.parametrize("towards", ["unigram", "uniform", "context"])
def test_a_leak_takes_exactly_its_share_from_the_answer(world: RecallWorld, towards):
    sample = world.sample(range(100), 64, seed=8)
    exact = exact_probabilities(world, sample.tokens_BT, sample.triggers_BK)
    said = RecallTeacher(leak=0.2, towards=towards).probabilities(world, sample.tokens_BT, sample.triggers_BK)
    np.testing.assert_allclose(said.sum(-1), 1.0, atol=1e-5)
    astray = (said - 0.8 * exact) / 0.2
    assert astray.min() > -1e-5
    if towards == "uniform":
        np.testing.assert_allclose(astray, 1 / 20, atol=1e-5)
    if towards == "unigram":
        np.testing.assert_allclose(astray, np.broadcast_to(world.bigrams.unigram_V, astray.shape), atol=1e-5)
    if towards == "context":
        counts = np.bincount(sample.tokens_BT[3, :11], minlength=20) / 11
        np.testing.assert_allclose(astray[3, 10], counts, atol=1e-5)


def test_temperature_flattens_every_uncertain_row_and_leaves_certain_ones(world: RecallWorld):
    sample = world.sample(range(50), 64, seed=9)
    exact = entropies(exact_probabilities(world, sample.tokens_BT, sample.triggers_BK))
    warm = entropies(RecallTeacher(temperature=1.5).probabilities(world, sample.tokens_BT, sample.triggers_BK))
    uncertain = (exact > 0.5) & (exact < np.log(20) - 0.1)
    assert (warm[uncertain] > exact[uncertain]).all()
    np.testing.assert_allclose(warm[exact < 1e-6], 0.0, atol=1e-5)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="characters is 500"):
        library_bigrams(500)
    with pytest.raises(ValueError, match="triggers is 30"):
        RecallOptions(characters=20, triggers=30)
    with pytest.raises(ValueError, match="outputs is 'best'"):
        RecallOptions(outputs="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="leak is 2"):
        RecallTeacher(leak=2.0)
