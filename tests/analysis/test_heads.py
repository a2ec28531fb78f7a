"""Head scores on patterns and weights built by hand, and on models that must stay as they were."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from stillroom.analysis import copying_scores, head_scores, prefix_matching_scores, previous_token_scores
from stillroom.analysis.attention_heads import _gain
from stillroom.config import ModelConfig
from stillroom.evaluation import repeated_tokens
from stillroom.models import build_model
from stillroom.types import UserError

PERIOD, REPEATS, START = 5, 3, 1
LENGTH = START + PERIOD * REPEATS


def pattern(choose) -> torch.Tensor:
    """Attention (1, 1, 1, T, T) that puts equal weight on the places that ``choose`` names, or on the first."""
    attention = torch.zeros(LENGTH, LENGTH)
    for query in range(LENGTH):
        places = choose(query) or [0]
        attention[query, places] = 1 / len(places)
    return attention[None, None, None]


def followers(query: int) -> list[int]:
    return [key + 1 for key in range(START, query) if (query - key) % PERIOD == 0]


@pytest.mark.parametrize("choose", [followers, lambda query: followers(query)[:1], lambda query: followers(query)[-1:]])
def test_induction_score_is_one_on_hand_built_pattern(choose) -> None:
    assert prefix_matching_scores(pattern(choose), period=PERIOD).item() == pytest.approx(1.0, abs=1e-6)


def test_previous_token_score_is_one_on_hand_built_pattern() -> None:
    previous = pattern(lambda query: [query - 1] if query else [0])
    assert previous_token_scores(previous).item() == 1.0
    assert prefix_matching_scores(previous, period=PERIOD).item() == 0.0
    assert previous_token_scores(pattern(lambda query: [query])).item() == 0.0


def test_scores_are_of_each_head_alone_and_average_over_sequences() -> None:
    induction, other = pattern(followers), pattern(lambda query: [query])
    mixed = torch.cat([torch.cat([induction, other], dim=2), torch.cat([other, other], dim=2)], dim=1)
    assert mixed.shape == (1, 2, 2, LENGTH, LENGTH)
    assert prefix_matching_scores(mixed, period=PERIOD).tolist() == [[pytest.approx(0.5), 0.0]]


@given(st.integers(2, 6), st.integers(2, 4), st.integers(0, 2), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_prefix_matching_equals_its_definition(period: int, repeats: int, start: int, seed: int) -> None:
    length = start + period * repeats
    generator = torch.Generator().manual_seed(seed)
    attention = torch.rand(2, 2, 3, length, length, generator=generator).tril()
    attention = attention / attention.sum(-1, keepdim=True)
    before = attention.clone()
    tokens = [-1 - i for i in range(start)] + list(range(period)) * repeats
    total = torch.zeros(2, 3, dtype=torch.float64)
    queries = range(start + period, length)
    for query in queries:
        for key in range(query):
            if tokens[key] == tokens[query]:
                total += attention[:, :, :, query, key + 1].double().mean(1)
    scores = prefix_matching_scores(attention, period=period, start=start)
    torch.testing.assert_close(scores, total / len(queries))
    assert (scores >= 0).all() and (scores <= 1).all()
    assert torch.equal(before, attention)


def test_a_sequence_without_a_repeat_is_refused() -> None:
    with pytest.raises(ValueError, match="no repeat"):
        prefix_matching_scores(pattern(followers)[..., :6, :6], period=PERIOD)


def writer(sign: float, num_kv_heads: int = 2) -> PreTrainedModel:
    """Two heads: the first writes ``sign`` times the token that it reads, the second writes a constant."""
    config = ModelConfig(
        hidden_size=16, intermediate_size=8, num_layers=1, num_heads=2, num_kv_heads=num_kv_heads, max_positions=64
    )
    model = build_model(config, 8, 0)
    attention = model.base_model.layers[0].self_attn
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.eye(16)[:8] * 3)  # tied: the unembedding too
        attention.v_proj.weight.copy_(torch.eye(16)[: attention.v_proj.weight.shape[0]])
        attention.o_proj.weight.zero_()
        attention.o_proj.weight[:8, :8] = sign * torch.eye(8)
    return model


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("num_kv_heads", [2, 1])
def test_copying_score_of_a_head_built_by_hand(sign: float, num_kv_heads: int) -> None:
    scores = copying_scores(writer(sign, num_kv_heads), torch.arange(8)[None])
    assert scores is not None
    torch.testing.assert_close(scores, torch.tensor([[sign, 0.0]], dtype=torch.float64))
    assert copying_scores(writer(sign), torch.arange(2)[None]) is None  # one token has no other to be told from


def test_copying_score_is_in_range_and_does_not_depend_on_the_heads_strength() -> None:
    model = build_model(ModelConfig(hidden_size=32, num_heads=4, num_kv_heads=2, num_layers=2), 300, 0)
    tokens = repeated_tokens(range(3, 200), [0], num=20, period=25, repeats=1, seed=0)
    scores = copying_scores(model, tokens)
    assert scores is not None and scores.shape == (2, 4)
    assert scores.abs().max() < 0.3  # random heads do not copy
    with torch.no_grad():
        model.base_model.layers[1].self_attn.o_proj.weight.mul_(7)
    torch.testing.assert_close(copying_scores(model, tokens), scores)


def test_copying_score_uses_each_heads_own_values_and_outputs() -> None:
    """Against the path written out sequence by sequence and head by head."""
    model = build_model(ModelConfig(hidden_size=32, num_heads=4, num_kv_heads=2, num_layers=2), 300, 0).double()
    layer, tokens = model.base_model.layers[1], repeated_tokens(range(3, 300), [0], num=3, period=9, repeats=1, seed=0)
    expected = torch.zeros(3, 4, dtype=torch.float64)
    with torch.no_grad():
        for row, ids in enumerate(tokens):
            stream = model.base_model(ids[None], output_hidden_states=True).hidden_states[1][0, 1:]
            read = layer.input_layernorm(stream)
            for head in range(4):
                group = head // 2
                value = read @ layer.self_attn.v_proj.weight[group * 8 : group * 8 + 8].T
                written = value @ layer.self_attn.o_proj.weight[:, head * 8 : head * 8 + 8].T
                logits = written @ model.get_output_embeddings().weight[ids[1:]].T
                logits = logits - logits.mean(1, keepdim=True)
                expected[row, head] = (logits.diagonal() / logits.relu().sum(1)).mean()
    scores = copying_scores(model, tokens)
    assert scores is not None
    torch.testing.assert_close(scores[1], expected.mean(0))


@pytest.fixture(scope="module")
def gpt2() -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2))


def test_unknown_layouts_have_patterns_but_no_copying_score(gpt2) -> None:
    tokens = repeated_tokens(range(3, 60), [0], num=3, period=PERIOD, repeats=REPEATS, seed=0)
    scores = head_scores(gpt2, tokens, period=PERIOD)
    assert scores.copying is None
    assert scores.prefix_matching.shape == (2, 2)
    assert scores.result().copying is None


def test_analysis_leaves_inputs_unchanged_and_taps_do_not_change_logits() -> None:
    model = build_model(ModelConfig(hidden_size=32, num_heads=4, num_layers=2), 300, 0)
    tokens = repeated_tokens(range(3, 300), [0], num=6, period=PERIOD, repeats=REPEATS, seed=0)
    kept = tokens.clone()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        before = model(tokens).logits
    scores = head_scores(model, tokens, period=PERIOD)
    with torch.no_grad():
        after = model(tokens).logits
    assert model.training and model.config._attn_implementation == "sdpa"
    assert torch.equal(tokens, kept) and torch.equal(before, after)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    again = head_scores(model, tokens, period=PERIOD)
    assert torch.equal(scores.prefix_matching, again.prefix_matching)


def test_scores_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from stillroom.analysis import attention_heads as heads

    model = build_model(ModelConfig(hidden_size=32, num_heads=4, num_layers=2), 300, 0)
    tokens = repeated_tokens(range(3, 300), [0], num=7, period=PERIOD, repeats=REPEATS, seed=0)
    together = head_scores(model, tokens, period=PERIOD)
    monkeypatch.setattr(heads, "_PATTERNS_AT_A_TIME", 2 * 8 * LENGTH**2)
    steps: list[tuple[int, int]] = []
    apart = head_scores(model, tokens, period=PERIOD, progress=lambda *step: steps.append(step))
    torch.testing.assert_close(together.previous_token, apart.previous_token, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.prefix_matching, apart.prefix_matching, atol=1e-6, rtol=1e-5)
    assert steps == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_the_result_is_plain_and_complete() -> None:
    model = build_model(ModelConfig(hidden_size=32, num_heads=4, num_layers=2), 300, 0)
    tokens = repeated_tokens(range(3, 300), [0], num=2, period=PERIOD, repeats=REPEATS, seed=0)
    plain = head_scores(model, tokens, period=PERIOD).result()
    assert (plain.num_layers, plain.num_heads) == (2, 4)
    for name in ("previous_token", "prefix_matching", "copying"):
        rows = getattr(plain, name)
        assert len(rows) == 2 and all(len(row) == 4 and isinstance(row[0], float) for row in rows)


def test_scores_of_a_hybrid_are_of_the_layers_that_have_attention() -> None:
    """A convolution has no heads: its layer gets no scores, least of all those of another."""
    config = AutoConfig.for_model(
        "lfm2", vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention", "conv"],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    tokens = repeated_tokens(range(3, 90), [0], num=2, period=PERIOD, repeats=REPEATS, seed=0)
    scores = head_scores(model, tokens, period=PERIOD)
    assert scores.layers == (1,) and scores.previous_token.shape == (1, 4) and scores.copying is None
    assert scores.layer(0) == 1 and scores.result().layers == (1,) and scores.result().num_layers == 1


@pytest.mark.parametrize("name", ["falcon_h1", "diffllama", "afmoe"])
def test_layouts_that_only_look_like_llamas_have_no_copying_score(name: str) -> None:
    """A state beside attention, heads in pairs, a gate on what is read."""
    config = AutoConfig.for_model(
        name, vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8,
        num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    tokens = repeated_tokens(range(3, 90), [0], num=2, period=PERIOD, repeats=REPEATS, seed=0)
    assert head_scores(model, tokens, period=PERIOD).copying is None


@pytest.mark.parametrize("name", ["mamba", "falcon"])
def test_models_whose_patterns_cannot_be_read_are_refused(name: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4}
    sizes |= {"num_attention_heads": 4} if name == "falcon" else {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, vocab_size=97, **sizes)).eval()
    tokens = repeated_tokens(range(3, 90), [0], num=2, period=PERIOD, repeats=REPEATS, seed=0)
    with pytest.raises(UserError, match="expected heads whose patterns can be read; leave heads out of the suites"):
        head_scores(model, tokens, period=PERIOD)


def test_gain_of_a_norm_that_adds_one_to_its_weight() -> None:
    """Gemma's norm multiplies by 1 + weight: with the same product, copying scores are those of a plain norm."""
    assert torch.equal(_gain(Gemma2RMSNorm(4), torch.zeros(())), torch.ones(4))
    plain = LlamaRMSNorm(4)
    assert _gain(plain, torch.zeros(())) is plain.weight
