"""Samples come from the distribution that was asked for, and from nothing else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, PreTrainedModel, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from stillroom.evaluation import Continuation, Sampling, SamplingRequest, sample, score_continuations
from stillroom.evaluation.sampling import draw as module
from stillroom.evaluation.sampling.draw import draw, probabilities

PROMPTS = [[0, 5, 6, 7], [0, 9], [0, 11, 12, 13, 14, 15, 16], [0, 9, 4], [0, 17, 17]]
BOTH = [Sampling(0.5), Sampling(1.2, top_p=0.9)]
STOP = range(1, 150)


def draw_all(model: PreTrainedModel, prompts=PROMPTS, settings=BOTH, num_samples: int = 8, **changes):
    arguments = {"num_samples": num_samples, "max_new_tokens": 10, "settings": settings, "stop": STOP, "seed": 3}
    progress = changes.pop("progress", None)
    return sample(model, SamplingRequest(prompts=prompts, **(arguments | changes)), progress)


@pytest.mark.parametrize("engine", ["llama", "gpt2"])
def test_a_sample_does_not_depend_on_its_batch(engine: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(engine)
    whole = draw_all(model)
    for rows_at_a_time in (1, 17, 64):
        other = draw_all(model, rows_at_a_time=rows_at_a_time)
        assert [[one.tokens for one in row] for row in other] == [[one.tokens for one in row] for row in whole]
    backwards = draw_all(model, PROMPTS[::-1])
    assert [one.tokens for one in backwards[0][::-1]] == [one.tokens for one in whole[0]]
    fewer = draw_all(model, PROMPTS[1:3], num_samples=5)
    assert [one.tokens for one in fewer[1]] == [one.tokens[:5] for one in whole[1][1:3]]


def test_same_seed_same_samples_and_another_seed_others(llama) -> None:
    assert draw_all(llama) == draw_all(llama)
    assert draw_all(llama) != draw_all(llama, seed=4)


def test_a_core_for_each_batch_changes_no_sample_and_gives_the_cores_back(llama) -> None:
    before, steps = torch.get_num_threads(), []
    try:
        torch.set_num_threads(1)
        alone = draw_all(llama, rows_at_a_time=8)
        torch.set_num_threads(3)
        together = draw_all(llama, rows_at_a_time=8, progress=lambda *step: steps.append(step))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert together == alone
    assert steps == [(16 * num, 80) for num in range(1, 6)]


def test_an_interrupt_does_not_wait_for_batches_under_way(llama, monkeypatch: pytest.MonkeyPatch) -> None:
    fast: list[int] = []
    slow_draws: list[int] = []
    under_way, raised = threading.Event(), threading.Event()
    encode = module.encode_prompts
    prompts = [[0, 9] + [4] * num for num in range(5)]  # a batch each, the shortest first

    def noticed(model: PreTrainedModel, batch: list[list[int]]):
        if batch == prompts[:1]:
            fast.append(threading.get_ident())
        return encode(model, batch)

    def slowed(probs_RV: torch.Tensor, uniform_RU: torch.Tensor) -> torch.Tensor:
        thread = threading.get_ident()
        if thread not in fast:  # whose batch is not over when the first one is
            under_way.set()
            raised.wait(60)
            slow_draws.append(thread)
            time.sleep(0.02)
        return draw(probs_RV, uniform_RU)

    def interrupted(done: int, total: int) -> None:
        under_way.wait(60)
        raised.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "encode_prompts", noticed)
    monkeypatch.setattr(module, "draw", slowed)
    before, length = torch.get_num_threads(), 200
    arguments = {"num_samples": 2, "rows_at_a_time": 2, "max_new_tokens": length, "stop": [], "settings": BOTH[:1]}
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyboardInterrupt):
            draw_all(llama, prompts, progress=interrupted, **arguments)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert 0 < len(slow_draws) < length  # twice as many had both of the others been waited for


@pytest.mark.parametrize("prompts_that_fit", [0, 1, 2, 4, 100])
def test_batches_at_once_stay_within_the_memory_and_change_no_sample(
    llama, monkeypatch: pytest.MonkeyPatch, prompts_that_fit: int
) -> None:
    sizes, before = [], torch.get_num_threads()
    encode = module.encode_prompts
    monkeypatch.setattr(module, "encode_prompts", lambda *given: sizes.append(len(given[1])) or encode(*given))
    alone = draw_all(llama)
    sizes.clear()
    each = module._bytes_of_prompt(llama, max(map(len, PROMPTS)), 8, 10)
    monkeypatch.setattr(module, "CACHE_BYTES", prompts_that_fit * each + each // 2)
    try:
        torch.set_num_threads(2)
        together = draw_all(llama, rows_at_a_time=32)
        request = SamplingRequest(
            prompts=PROMPTS, num_samples=8, max_new_tokens=10, settings=BOTH, stop=STOP, seed=3, rows_at_a_time=32
        )
        _, workers = module._divided(llama, request)
    finally:
        torch.set_num_threads(before)
    assert [[one.tokens for one in row] for row in together] == [[one.tokens for one in row] for row in alone]
    assert sum(sizes) == len(PROMPTS)
    assert workers * max(sizes) <= max(1, prompts_that_fit)
    assert workers == (1 if prompts_that_fit < 2 else 2)


def test_memory_of_a_prompt_is_that_of_its_cache(llama) -> None:
    prompts, num_samples, capacity = [[0, 9, 8]], 8, 32
    with torch.inference_mode():
        rows: Any = module.encode_prompts(llama, prompts).rows(num_samples, capacity)
        for _ in range(capacity):
            logits_RV = rows.step(torch.full((num_samples,), 5))
    held = [*rows._keys, *rows._values, *(block for of in (*rows._new_keys, *rows._new_values) for block in of)]
    cache = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert module._bytes_of_prompt(llama, 3, num_samples, capacity) == cache + 4 * 4 * logits_RV.numel()


def test_both_engines_write_the_same(llama, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = draw_all(llama)
    monkeypatch.setattr(module, "encode_prompts", module.encode_prompts.__globals__["CachePrefix"].of)
    theirs = draw_all(llama)
    assert [[one.tokens for one in row] for row in ours] == [[one.tokens for one in row] for row in theirs]


def test_greedy_writes_what_generate_writes(llama) -> None:
    drawn = draw_all(llama, settings=[Sampling(0.0)], num_samples=2, stop=[1])[0]
    for prompt, samples in zip(PROMPTS, drawn, strict=True):
        expected = llama.generate(
            torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=1, pad_token_id=2, use_cache=True
        )[0, len(prompt) :].tolist()
        assert samples.tokens == (tuple(expected), tuple(expected))
        assert samples.logprobs == (0.0, 0.0)


def test_samples_end_at_the_first_stop_token_or_at_the_limit(llama) -> None:
    lengths = set()
    for of_setting in draw_all(llama, num_samples=32):
        for samples in of_setting:
            for tokens, stopped in zip(samples.tokens, samples.stopped, strict=True):
                assert not set(tokens[:-1]) & set(STOP)
                assert stopped == (tokens[-1] in STOP)
                assert stopped or len(tokens) == 10
                lengths.add(len(tokens))
    assert lengths == set(range(1, 11))


def test_log_probability_is_that_of_the_whole_completion(llama) -> None:
    (drawn,) = draw_all(llama, settings=[Sampling(1.0)])
    items, logprobs = [], []
    for prompt, samples in zip(PROMPTS, drawn, strict=True):
        items += [Continuation(tuple(prompt), tokens) for tokens in samples.tokens]
        logprobs += samples.logprobs
    np.testing.assert_allclose(score_continuations(llama, items).logprob_I, logprobs, atol=1e-3)


def test_first_two_tokens_have_the_models_distribution(llama) -> None:
    """Counts of 20,000 two-token samples against the exact probabilities, by Pearson's test."""
    num, setting = 20_000, Sampling(0.4, top_k=4)
    ((samples,),) = draw_all(llama, [[0, 9, 8]], [setting], num, max_new_tokens=2, stop=[1], rows_at_a_time=num)
    exact: dict[tuple[int, ...], float] = {}
    with torch.no_grad():
        first = probabilities(llama(torch.tensor([[0, 9, 8]])).logits[:, -1], setting)[0]
        for a in first.nonzero()[:, 0].tolist():
            if a == 1:
                exact[(1,)] = float(first[1])
                continue
            second = probabilities(llama(torch.tensor([[0, 9, 8, a]])).logits[:, -1], setting)[0]
            for b in second.nonzero()[:, 0].tolist():
                exact[(a, b)] = float(first[a] * second[b])
    counts = Counter(samples.tokens)
    assert set(counts) <= set(exact)
    assert sum(exact.values()) == pytest.approx(1.0, abs=1e-5)
    common = {pair: p for pair, p in exact.items() if p * num >= 5}
    assert len(common) > 4
    statistic = sum((counts[pair] - p * num) ** 2 / (p * num) for pair, p in common.items())
    assert statistic < len(common) + 4 * (2 * len(common)) ** 0.5


@given(
    st.integers(0, 10**6),
    st.floats(0.2, 3.0),
    st.one_of(st.none(), st.integers(1, 30)),
    st.one_of(st.none(), st.floats(0.05, 1.0)),
    st.one_of(st.none(), st.floats(0.0, 0.9)),
)
@settings(max_examples=60, deadline=None)
def test_filters_keep_what_transformers_keeps(
    seed: int, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> None:
    logits = torch.randn(5, 24, generator=torch.Generator().manual_seed(seed)) * 3
    scores = TemperatureLogitsWarper(temperature)(None, logits)  # pyright: ignore[reportArgumentType]
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(None, scores)  # pyright: ignore[reportArgumentType]
    if top_p is not None and top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)  # pyright: ignore[reportArgumentType]
    if min_p is not None:
        scores = MinPLogitsWarper(min_p)(None, scores)  # pyright: ignore[reportArgumentType]
    ours = probabilities(logits, Sampling(temperature, top_k, top_p, min_p))
    torch.testing.assert_close(ours, scores.softmax(-1), atol=1e-5, rtol=1e-4)


@given(st.lists(st.sampled_from([0.0, 0.0, 1e-30, 1e-8, 0.3, 1.0]), min_size=1, max_size=50), st.floats(0, 1, width=32))
@settings(max_examples=200, deadline=None)
def test_a_token_without_probability_is_never_drawn(weights: list[float], uniform: float) -> None:
    if sum(weights) == 0:
        return
    probs = torch.tensor([weights]) / sum(weights)
    for u in (uniform, 0.0, float(np.nextafter(np.float32(1), np.float32(0)))):
        assert probs[0, draw(probs, torch.tensor([[u]]))[0, 0]] > 0


def test_draws_are_the_inverse_of_the_cumulative_distribution() -> None:
    probs = torch.tensor([[0.25, 0.0, 0.5, 0.25]])
    uniform = torch.tensor([[0.0, 0.2, 0.25, 0.7, 0.75, 0.99]])
    assert draw(probs, uniform).tolist() == [[0, 0, 2, 2, 3, 3]]


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": 2.0}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_progress_counts_every_sample_once(llama) -> None:
    steps: list[tuple[int, int]] = []
    draw_all(llama, rows_at_a_time=16, progress=lambda *step: steps.append(step))
    assert [total for _, total in steps] == [80] * len(steps)
    assert steps[-1][0] == 80
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})


def test_model_comes_back_as_it_was(llama) -> None:
    llama.train()
    before = {name: value.clone() for name, value in llama.state_dict().items()}
    draw_all(llama)
    assert llama.training
    assert all(torch.equal(before[name], value) for name, value in llama.state_dict().items())
    llama.eval()
