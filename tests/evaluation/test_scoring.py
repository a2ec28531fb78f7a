"""Likelihood against a whole forward pass in double precision; batches do not matter."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from stillroom.evaluation import Continuation, Heldout, measure_likelihood, score_continuations, scoring
from stillroom.models import hidden_states
from stillroom.types import IGNORE_INDEX, UserError
from stillroom.vocabulary import token_bytes

ids = st.lists(st.integers(3, 599), min_size=1, max_size=12).map(tuple)


def reference(model: PreTrainedModel, item: Continuation) -> tuple[float, bool]:
    double = copy.deepcopy(model).double()
    tokens = torch.tensor([[*item.context, *item.continuation]])
    with torch.no_grad():
        logprobs = double(tokens).logits[0].log_softmax(-1)
    places = range(len(item.context) - 1, tokens.shape[1] - 1)
    chosen = [logprobs[place, tokens[0, place + 1]].item() for place in places]
    return sum(chosen), all(int(logprobs[place].argmax()) == int(tokens[0, place + 1]) for place in places)


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_score_is_the_log_probability_of_a_whole_forward_pass(pairs: list[tuple[tuple[int, ...], ...]]) -> None:
    model = _model()
    items = [Continuation(*pair) for pair in pairs]
    scores = score_continuations(model, items, tokens_at_a_time=40)
    for place, item in enumerate(items):
        logprob, greedy = reference(model, item)
        assert scores.logprob_I[place] == pytest.approx(logprob, abs=2e-4)
        assert scores.greedy_I[place] == greedy
        assert scores.tokens_I[place] == len(item.continuation)


_CACHE: list[PreTrainedModel] = []


@pytest.fixture(autouse=True)
def _share_model(llama: PreTrainedModel) -> None:
    _CACHE[:] = [llama]


def _model() -> PreTrainedModel:
    return _CACHE[0]


def random_items(num: int) -> list[Continuation]:
    rng = np.random.default_rng(0)
    return [
        Continuation(
            tuple(rng.integers(3, 600, rng.integers(1, 20)).tolist()),
            tuple(rng.integers(3, 600, rng.integers(1, 6)).tolist()),
        )
        for _ in range(num)
    ]


def test_scores_ignore_padding_and_batch_order(llama: PreTrainedModel) -> None:
    items = random_items(64)
    alone = score_continuations(llama, items, tokens_at_a_time=1)
    together = score_continuations(llama, items, tokens_at_a_time=10**6)
    reverse = score_continuations(llama, items[::-1])
    np.testing.assert_allclose(alone.logprob_I, together.logprob_I, atol=2e-5)
    np.testing.assert_allclose(alone.logprob_I, reverse.logprob_I[::-1], atol=2e-5)
    assert (alone.greedy_I == together.greedy_I).all()


def test_greedy_is_true_for_what_greedy_decoding_writes(llama: PreTrainedModel) -> None:
    written = llama.generate(
        torch.tensor([[0, 9, 8]]), max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=2, use_cache=True
    )
    continuation = tuple(written[0, 3:].tolist())
    other = (*continuation[:-1], continuation[-1] + 1)
    scores = score_continuations(llama, [Continuation((0, 9, 8), continuation), Continuation((0, 9, 8), other)])
    assert scores.greedy_I.tolist() == [True, False]


def test_chunks_of_logits_do_not_matter(llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    items = random_items(8)
    whole = score_continuations(llama, items)
    monkeypatch.setattr(scoring, "_LOGITS_AT_A_TIME", 1300)  # two rows
    np.testing.assert_allclose(score_continuations(llama, items).logprob_I, whole.logprob_I, atol=1e-5)


def test_model_comes_back_in_the_mode_it_had(llama: PreTrainedModel) -> None:
    llama.train()
    before = {name: value.clone() for name, value in llama.state_dict().items()}
    score_continuations(llama, random_items(2))
    assert llama.training
    assert all(torch.equal(before[name], value) for name, value in llama.state_dict().items())
    llama.eval()


def test_empty_context_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        score_continuations(llama, [Continuation((), (4,))])


def test_bits_per_byte_is_what_the_definition_says(llama, heldout_sequences, tokenizer) -> None:
    """Against one sequence at a time in double precision, special targets left out of the bits."""
    lengths_V = token_bytes(tokenizer)
    double = copy.deepcopy(llama).double()
    nats = bits = num_bytes = num_tokens = 0.0
    for index in range(len(heldout_sequences)):
        batch = heldout_sequences.batch([index])
        with torch.no_grad():
            logprobs = double.lm_head(hidden_states(double, batch)).log_softmax(-1)[0]
        for place, target in enumerate(batch.targets_BT[0].tolist()):
            if target != IGNORE_INDEX:
                loss = -logprobs[place, target].item()
                nats, num_tokens = nats + loss, num_tokens + 1
                if lengths_V[target]:
                    bits, num_bytes = bits + loss / math.log(2), num_bytes + lengths_V[target]
    part = measure_likelihood(llama, Heldout(heldout_sequences, lengths_V))
    assert part.bits_per_byte.value == pytest.approx(bits / num_bytes, rel=1e-5)
    assert part.nats_per_token.value == pytest.approx(nats / num_tokens, rel=1e-5)
    assert part.nats_per_token.num == len(heldout_sequences)
    assert part.by_source == {}


@pytest.mark.parametrize("per_position", [False, True])
def test_sources_share_out_the_nats(llama, heldout_sequences, tokenizer, per_position: bool) -> None:
    num, length = heldout_sequences.tokens_IT.shape
    codes = np.arange(num * length).reshape(num, length) % 3 if per_position else np.arange(num) % 2
    heldout = Heldout(heldout_sequences, token_bytes(tokenizer), ["a", "b", "c", "unused"], codes)
    part = measure_likelihood(llama, heldout)
    assert list(part.by_source) == (["a", "b", "c"] if per_position else ["a", "b"])
    if not per_position:
        even, odd = (
            measure_likelihood(
                llama, Heldout(type(heldout_sequences)(heldout_sequences.tokens_IT[i::2]), token_bytes(tokenizer))
            )
            for i in range(2)
        )
        for name, alone in (("a", even), ("b", odd)):
            assert part.by_source[name]["bits_per_byte"].value == pytest.approx(alone.bits_per_byte.value)
    values = [source["nats_per_token"].value for source in part.by_source.values()]
    assert min(values) <= part.nats_per_token.value <= max(values)


def test_sequences_of_one_document_are_drawn_together(llama, heldout_sequences, tokenizer) -> None:
    sizes = token_bytes(tokenizer)
    apart = measure_likelihood(llama, Heldout(heldout_sequences, sizes)).bits_per_byte
    documents = np.arange(len(heldout_sequences)) // 4
    together = measure_likelihood(llama, Heldout(heldout_sequences, sizes, documents=documents)).bits_per_byte
    assert together.value == pytest.approx(apart.value, rel=1e-12)
    assert together.num == len(np.unique(documents)) and apart.num == len(heldout_sequences)
    one = measure_likelihood(llama, Heldout(heldout_sequences, sizes, documents=np.zeros(len(heldout_sequences))))
    assert one.bits_per_byte.low == one.bits_per_byte.high  # one document says nothing of others


def test_text_is_that_of_the_real_sources_and_all_where_there_is_none(llama, heldout_sequences, tokenizer) -> None:
    codes = np.arange(len(heldout_sequences)) % 2
    heldout = Heldout(heldout_sequences, token_bytes(tokenizer), ["people", "world"], codes, real_sources=["people"])
    mixed = measure_likelihood(llama, heldout)
    assert mixed.text_bits_per_byte.value == pytest.approx(mixed.by_source["people"]["bits_per_byte"].value, rel=1e-12)
    assert mixed.text_bits_per_byte.num == (codes == 0).sum()
    top, bottom = (np.array(kept["text_bits_per_byte"]) for kept in (mixed.per_item, mixed.per_item_weights))
    assert (top * bottom).sum() / bottom.sum() == pytest.approx(mixed.text_bits_per_byte.value, rel=1e-12)
    assert not bottom[codes == 1].any()
    worlds = measure_likelihood(llama, replace(heldout, real_sources=()))
    assert worlds.text_bits_per_byte.value == pytest.approx(worlds.bits_per_byte.value, rel=1e-12)
    unread = measure_likelihood(llama, replace(heldout, source_codes=codes * 0 + 1))  # nothing of people among it
    assert unread.text_bits_per_byte.value == pytest.approx(unread.bits_per_byte.value, rel=1e-12)


def test_bits_per_byte_at_batch_1_and_64(llama, heldout_sequences, tokenizer) -> None:
    heldout = Heldout(heldout_sequences, token_bytes(tokenizer), ["a", "b"], np.arange(len(heldout_sequences)) % 2)
    steps: list[tuple[int, int]] = []
    one = measure_likelihood(llama, heldout, tokens_at_a_time=1, progress=lambda *step: steps.append(step))
    many = measure_likelihood(llama, heldout, tokens_at_a_time=64 * 24)
    for key in ("value", "low", "high"):
        assert getattr(one.bits_per_byte, key) == pytest.approx(getattr(many.bits_per_byte, key), rel=1e-5)
    assert steps == [(done, 40) for done in range(1, 41)]


def test_uniform_model_needs_log_v_nats(heldout_sequences, tokenizer, scripted) -> None:
    part = measure_likelihood(scripted(600, lambda _: None), Heldout(heldout_sequences, token_bytes(tokenizer)))
    assert part.nats_per_token.value == pytest.approx(math.log(600), rel=1e-5)
    assert part.nats_per_token.high == pytest.approx(part.nats_per_token.low, rel=1e-6)


def test_fewer_sequences_can_be_asked_for(llama, heldout_sequences, tokenizer) -> None:
    part = measure_likelihood(llama, Heldout(heldout_sequences, token_bytes(tokenizer)), num_sequences=5)
    assert part.nats_per_token.num == 5


def test_codes_must_cover_the_sequences(llama, heldout_sequences, tokenizer) -> None:
    with pytest.raises(ValueError, match="rows but"):
        measure_likelihood(llama, Heldout(heldout_sequences, token_bytes(tokenizer), ["a"], np.zeros(3)))


def test_no_heldout_text_is_said(llama, heldout_sequences, tokenizer) -> None:
    nothing = type(heldout_sequences)(heldout_sequences.tokens_IT[:0])
    with pytest.raises(UserError, match="held-out set has no sequence"):
        measure_likelihood(llama, Heldout(nothing, token_bytes(tokenizer)))


def test_batches_hold_every_item_once() -> None:
    items = random_items(50) + random_items(20)
    batches = list(scoring._like_length(scoring._by_context(items), 60))
    assert sorted(index for batch in batches for row in batch for index in row.items) == list(range(70))
    for batch in batches:
        assert len(batch) == 1 or max(row.length for row in batch) * len(batch) <= 60


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_continuations_that_share_a_context_do_not_see_one_another(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(name)
    contexts = [(0, 5, 9, 7), (0, 8), (0, 5, 9)]
    items = [Continuation(contexts[i % 3], item.continuation) for i, item in enumerate(random_items(24))]
    together = score_continuations(model, items)
    for place in range(0, 24, 5):
        logprob, greedy = reference(model, items[place])
        assert together.logprob_I[place] == pytest.approx(logprob, abs=2e-4)
        assert together.greedy_I[place] == greedy
    monkeypatch.setattr(scoring, "_SHARING", 1)
    apart = score_continuations(model, items)
    np.testing.assert_allclose(together.logprob_I, apart.logprob_I, atol=5e-5)
    model.set_attn_implementation("eager")
    monkeypatch.setattr(scoring, "_SHARING", 3)
    eager = score_continuations(model, items)
    model.set_attn_implementation("sdpa")
    np.testing.assert_allclose(eager.logprob_I, apart.logprob_I, atol=5e-5)
