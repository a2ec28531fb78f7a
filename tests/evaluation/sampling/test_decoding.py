"""Cached decoding gives the logits of a whole forward pass of transformers, in every layout."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from stillroom.evaluation.sampling import llama_cache as decoding
from stillroom.evaluation.sampling.llama_cache import CachePrefix, LlamaPrefix, encode_prompts

PROMPTS = [[0, 5, 6, 7], [0, 9], [0, 11, 12, 13, 14, 15, 16]]


def whole(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0, -1]


def follow(model: PreTrainedModel, engine: type, tolerance: float) -> None:
    """Writes random tokens after every prompt, drops rows on the way, and compares at every step."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        prefix = engine.of(model, PROMPTS)
        for row, prompt in enumerate(PROMPTS):
            torch.testing.assert_close(prefix.logits_PV[row], whole(model, prompt), atol=tolerance, rtol=0)
        rows = prefix.rows(3, 6)
        texts = [list(prompt) for prompt in PROMPTS for _ in range(3)]
        drops = {1: [0, 1, 2, 4, 5, 6, 7, 8], 2: [0, 1, 2, 6, 7], 3: [3], 4: [0]}  # ragged, a prompt gone, one left
        for step in range(5):
            if step in drops:
                texts = [texts[place] for place in drops[step]]
                rows.keep(torch.tensor(drops[step]))
            tokens = torch.randint(3, 600, (len(texts),), generator=generator)
            logits = rows.step(tokens)
            for row, text in enumerate(texts):
                text.append(int(tokens[row]))
                torch.testing.assert_close(logits[row], whole(model, text), atol=tolerance, rtol=0)


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_llama_engine_equals_hugging_face(make_llama, num_kv_heads: int) -> None:
    follow(make_llama(num_kv_heads).eval(), LlamaPrefix, 2e-4)


@pytest.mark.parametrize(
    "extra",
    [
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        {"head_dim": 16, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
                "rope_theta": 1e4,
            }
        },
    ],
)
def test_llama_engine_equals_hugging_face_in_other_llamas(extra: dict) -> None:
    sizes = {
        "vocab_size": 600,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**sizes, **extra)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))  # biases and norms too
    assert isinstance(encode_prompts(model, PROMPTS), LlamaPrefix)
    follow(model, LlamaPrefix, 2e-4)


def test_llama_engine_in_bfloat16_is_as_near_as_bfloat16_allows(make_llama) -> None:
    model = make_llama().eval()
    low = copy.deepcopy(model).bfloat16()
    with torch.inference_mode():
        exact = whole(model, PROMPTS[2])
        error = (whole(low, PROMPTS[2]).float() - exact).abs().max()
        ours = (LlamaPrefix.of(low, PROMPTS).logits_PV[2] - exact).abs().max()
    assert ours <= 2 * error


def test_any_causal_model_runs_through_its_own_cache(gpt2, make_llama) -> None:
    with torch.inference_mode():
        assert isinstance(encode_prompts(gpt2, PROMPTS), CachePrefix)
    follow(gpt2, CachePrefix, 2e-4)
    follow(make_llama().eval(), CachePrefix, 2e-4)


def test_positions_that_change_with_length_use_the_models_own_forward(make_llama) -> None:
    model = make_llama().eval()
    model.config.rope_parameters = model.config.rope_parameters | {"rope_type": "dynamic", "factor": 2.0}
    with torch.inference_mode():
        assert isinstance(encode_prompts(model, PROMPTS), CachePrefix)


def test_an_empty_prompt_is_refused(llama) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        encode_prompts(llama, [[0], []])


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_rows_cache_may_grow_at_any_step(make_llama, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BLOCK", block)
    follow(make_llama().eval(), LlamaPrefix, 2e-4)
