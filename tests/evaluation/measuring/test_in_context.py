"""Copying and context against memory, on models whose behaviour is known."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.evaluation import frequent_tokens, measure_copying, measure_counterfactual, repeated_tokens
from stillroom.evaluation.measuring.counterfactual import continuations
from stillroom.types import UserError
from stillroom.vocabulary import encode
from stillroom.worlds.base import Counterfactual


@given(st.integers(2, 12), st.integers(2, 5), st.integers(0, 1), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_repeated_tokens_repeat_and_are_all_different_within_a_period(
    period: int, repeats: int, opened: int, seed: int
) -> None:
    vocabulary = list(range(10, 30))
    tokens = repeated_tokens(vocabulary, [0] * opened, num=3, period=period, repeats=repeats, seed=seed)
    assert tokens.shape == (3, opened + period * repeats)
    random = tokens[:, opened:]
    assert torch.equal(random, random[:, :period].repeat(1, repeats))
    assert all(len(set(row[:period].tolist())) == period for row in random)
    assert set(random.flatten().tolist()) <= set(vocabulary)
    more = repeated_tokens(vocabulary, [0] * opened, num=5, period=period, repeats=repeats, seed=seed)
    assert torch.equal(more[:3], tokens)  # a sequence does not depend on how many there are


def test_period_longer_than_the_vocabulary_is_said() -> None:
    with pytest.raises(UserError, match="copying_period is 5 but only 4"):
        repeated_tokens([1, 2, 3, 4], [], num=1, period=5, repeats=2, seed=0)


def test_frequent_tokens_are_the_most_frequent_and_never_special(heldout_sequences) -> None:
    ids = frequent_tokens(heldout_sequences, frozenset({0, 1, 2}), 10)
    counts = torch.bincount(heldout_sequences.tokens_IT.flatten(), minlength=600)
    counts[:3] = 0
    assert len(ids) == 10
    assert counts[ids].tolist() == sorted(counts.tolist(), reverse=True)[:10]
    assert frequent_tokens(heldout_sequences, frozenset({0, 1, 2}), 10**6) == frequent_tokens(
        heldout_sequences, frozenset({0, 1, 2}), int((counts > 0).sum())
    )


def induction(ids: list[int]) -> int | None:
    """What followed the last earlier copy of the current token."""
    earlier = [place for place in range(len(ids) - 1) if ids[place] == ids[-1]]
    return ids[earlier[-1] + 1] if earlier else None


@pytest.mark.parametrize("opening", [[0], []])
def test_perfect_copier_scores_as_one(scripted, opening: list[int]) -> None:
    tokens = repeated_tokens(range(3, 40), opening, num=4, period=7, repeats=3, seed=0)
    part = measure_copying(scripted(40, induction), tokens, period=7, repeats=3)
    uniform = math.log(40)
    assert part.accuracy_repeat.value == 1.0
    assert part.order_repeat.value == 1.0
    assert part.loss_repeat.value == pytest.approx(0.0, abs=1e-5)
    assert part.loss_first.value == pytest.approx(uniform, rel=1e-5)
    assert part.icl_score.value == pytest.approx(-uniform, rel=1e-5)
    curve = part.loss_by_position
    assert len(curve) == 21 - (not opening)
    first_new_step = 7 - (not opening)  # the step from the end of the period to its start, seen for the first time
    assert curve[first_new_step] == pytest.approx(uniform, rel=1e-5)
    assert max(curve[first_new_step + 1 :]) == pytest.approx(0.0, abs=1e-5)


def test_model_that_never_looks_back_has_no_icl_score(scripted) -> None:
    tokens = repeated_tokens(range(3, 40), [0], num=4, period=7, repeats=3, seed=0)
    part = measure_copying(scripted(40, lambda _: None), tokens, period=7, repeats=3)
    assert part.icl_score.value == pytest.approx(0.0, abs=1e-6)
    assert part.accuracy_repeat.value == 0.0
    assert part.order_repeat.value == 0.5


def test_copying_equals_whole_sequences_in_double_precision(llama) -> None:
    tokens = repeated_tokens(range(3, 200), [0], num=6, period=5, repeats=3, seed=1)
    with torch.no_grad():
        logprobs = copy.deepcopy(llama).double()(tokens).logits.log_softmax(-1)
    loss = -logprobs[:, :-1].gather(2, tokens[:, 1:, None])[..., 0].numpy()
    part = measure_copying(llama, tokens, period=5, repeats=3)
    np.testing.assert_allclose(part.loss_by_position, loss.mean(0), rtol=1e-4)
    assert part.loss_first.value == pytest.approx(loss[:, :5].mean(), rel=1e-4)
    assert part.loss_repeat.value == pytest.approx(loss[:, 6:].mean(), rel=1e-4)
    assert part.icl_score.value == pytest.approx(loss[:, 10:].mean() - loss[:, :5].mean(), rel=1e-3)
    among = logprobs[:, 6:-1].gather(2, tokens[:, None, 1:6].expand(-1, 9, -1))
    right = logprobs[:, 6:-1].gather(2, tokens[:, 7:, None])
    assert part.order_repeat.value == pytest.approx((right > among).double().mean().item() * 5 / 4, rel=1e-6)
    one = measure_copying(llama, tokens, period=5, repeats=3, tokens_at_a_time=1)
    assert one.icl_score.low == pytest.approx(part.icl_score.low, rel=1e-4)


def test_more_tokens_than_positions_is_said(llama) -> None:
    tokens = repeated_tokens(range(3, 400), [0], num=1, period=200, repeats=3, seed=0)
    with pytest.raises(UserError, match="601 tokens but the model has 512 positions"):
        measure_copying(llama, tokens, period=200, repeats=3)


ITEMS = [
    Counterfactual(f"Notes: {name} is {new}.\n{name} is", f"{name} is", f" {new}", f" {old}")
    for name, new, old in (("cat", "red", "blue"), ("dog", "blue", "red"), ("mat", "green", "red"))
]


def says(tokenizer, answers: dict[str, str]):
    """A rule that continues each prompt with its answer."""
    paths = [(encode(tokenizer, [prompt])[0], encode(tokenizer, [answer])[0]) for prompt, answer in answers.items()]

    def rule(ids: list[int]) -> int | None:
        for prompt, answer in paths:
            done = len(ids) - 1 - len(prompt)
            if 0 <= done < len(answer) and ids[1:] == prompt + answer[:done]:
                return answer[done]
        return None

    return rule


def test_who_follows_what(tokenizer, scripted) -> None:
    first, second, third = ITEMS
    answers = {
        first.prompt: first.context_answer,
        second.prompt: second.memory_answer,
        first.closed_prompt: first.memory_answer,
        second.closed_prompt: second.memory_answer,
        third.closed_prompt: " nothing",
    }
    part, records = measure_counterfactual(scripted(600, says(tokenizer, answers)), tokenizer, ITEMS, chance=0.25)
    for name in ("follows_context", "follows_memory", "neither"):
        assert getattr(part, name).value == pytest.approx(1 / 3)
    assert part.memory_accuracy.value == pytest.approx(2 / 3)
    assert part.chance == 0.25
    assert [record.follows for record in records] == ["context", "memory", "neither"]
    assert [record.knows for record in records] == [True, True, False]
    assert records[0].log_odds > 40 and records[1].log_odds < -40


def test_follows_shares_sum_to_one_and_log_odds_are_a_difference(llama, tokenizer) -> None:
    part, records = measure_counterfactual(llama, tokenizer, ITEMS * 3)
    assert sum(getattr(part, name).value for name in ("follows_context", "follows_memory", "neither")) == pytest.approx(
        1
    )
    tokens = continuations(tokenizer, [0], [(ITEMS[0].prompt, " red"), (ITEMS[0].prompt, " blue")])
    values = []
    for item in tokens:
        ids = torch.tensor([[*item.context, *item.continuation]])
        with torch.no_grad():
            logprobs = copy.deepcopy(llama).double()(ids).logits[0].log_softmax(-1)
        start = len(item.context)
        values.append(sum(logprobs[place - 1, ids[0, place]].item() for place in range(start, ids.shape[1])))
    assert records[0].log_odds == pytest.approx(values[0] - values[1], abs=1e-3)
    assert measure_counterfactual(llama, tokenizer, ITEMS * 3, tokens_at_a_time=1)[1] == [
        replace(record, log_odds=pytest.approx(record.log_odds, abs=1e-4)) for record in records
    ]


def test_longer_answer_counts_when_one_begins_the_other(tokenizer, scripted) -> None:
    item = Counterfactual("x is", "x is", " red", " red blue")
    rule = says(tokenizer, {"x is": " red blue"})
    part, _ = measure_counterfactual(scripted(600, rule), tokenizer, [item])
    assert (part.follows_context.value, part.follows_memory.value) == (0.0, 1.0)


def test_prompt_and_answer_are_cut_where_the_prompt_ends(tokenizer) -> None:
    pairs = [("the cat", " sat"), ("the ca", "t"), ("12 +", " 30"), ("é", "é")]
    for (prompt, answer), item in zip(pairs, continuations(tokenizer, [0], pairs), strict=True):
        assert item.context[0] == 0
        assert tokenizer.decode(item.context[1:]) == prompt
        assert tokenizer.decode(item.continuation) == answer


def test_no_items_is_said(llama, tokenizer) -> None:
    with pytest.raises(UserError, match="counterfactual_items"):
        measure_counterfactual(llama, tokenizer, [])
