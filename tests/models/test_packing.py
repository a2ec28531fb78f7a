"""A packed document has the numbers that it has alone: windows, chunks, convolutions, states, long rope."""

from __future__ import annotations

import pytest
import torch
from architectures import WINDOW, tiny_model
from sweep import assert_equal, batch, own_logits
from transformers import AutoConfig, AutoModelForCausalLM, MistralConfig, MistralForCausalLM

from stillroom.corpora.corpus import make_batch
from stillroom.evaluation import scoring
from stillroom.evaluation.sampling.llama_cache import encode_prompts
from stillroom.models import hidden_states, packing, use_short_attention
from stillroom.models.packing import calls, needs_rows, way_of
from stillroom.models.score import logits
from stillroom.types import UserError


def scaled_up(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
    return model.eval()


def test_isolation_changes_nothing_for_one_document_longer_than_a_window():
    config = MistralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    model = scaled_up(MistralForCausalLM(config))
    tokens = torch.randint(3, 97, (1, 40), generator=torch.Generator().manual_seed(0))
    tokens[0, 0] = 0
    packed = make_batch(tokens, 0, 1)
    with torch.no_grad():
        isolated, plain = (hidden_states(model, packed, isolate=isolate) for isolate in (True, False))
    torch.testing.assert_close(isolated, plain, rtol=1e-5, atol=1e-5)


def test_a_convolution_does_not_reach_into_the_next_document():
    config = AutoConfig.for_model(
        "lfm2", vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention"],
    )  # fmt: skip
    model = scaled_up(AutoModelForCausalLM.from_config(config, dtype=torch.float32))
    tokens = torch.randint(3, 97, (1, 40), generator=torch.Generator().manual_seed(0))
    tokens[0, 0] = tokens[0, 20] = 0
    other = tokens.clone()
    other[0, 1:20] = 5
    with torch.no_grad():
        first, second = (hidden_states(model, make_batch(ids, 0, 1))[0, 20:] for ids in (tokens, other))
    assert torch.equal(first, second)


WINDOWED = ["mistral", "gemma2", "gemma3_text", "qwen2", "phi3", "gpt_oss", "olmo3", "cohere2", "llama4_text"]


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "short"])
def test_windows_survive_isolation_in_every_implementation(name, implementation):
    model = tiny_model(name)
    if implementation == "short":
        use_short_attention(model)
    elif implementation == "eager" or model._supports_sdpa:
        model.set_attn_implementation(implementation)
    assert way_of(model, 1, WINDOW) == "mask" and way_of(model, 1, WINDOW + 1) != "mask"
    with torch.no_grad():
        assert_equal(logits(model, hidden_states(model, batch())), own_logits(model, True), implementation)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # several of torch's own, while it compiles
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
def test_windows_survive_isolation_in_flex_attention(name):
    model = tiny_model(name)
    expected = own_logits(model, True)
    model.set_attn_implementation("flex_attention")
    with torch.no_grad():
        assert_equal(logits(model, hidden_states(model, batch())), expected, "flex")


@pytest.mark.parametrize("name", ["mistral", "gemma2", "llama4_text"])
def test_one_long_row_keeps_windows_as_flash_attention_is_called(name, monkeypatch):
    model = tiny_model(name)  # whose kernel answers the call here as a flash kernel would
    expected = own_logits(model, True)
    monkeypatch.setattr(packing, "way_of", lambda *_: "one row")
    with torch.no_grad():
        assert_equal(logits(model, hidden_states(model, batch())), expected, name)


def long_rope(original: int = 10):
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": original, **factors}
    return tiny_model("phi3", rope_parameters=rope, original_max_position_embeddings=original, sliding_window=None)


def test_documents_on_both_sides_of_a_change_of_frequencies():
    """Long rope takes other frequencies for a whole call when one text in it is long."""
    model = long_rope()
    assert way_of(model, 5, 14) == "rows" and way_of(model, 11, 20) == "mask" and way_of(model, 1, 10) == "mask"
    with torch.no_grad():
        assert_equal(logits(model, hidden_states(model, batch())), own_logits(model, True), "long rope")


def test_choices_on_both_sides_of_a_change_of_frequencies():
    model = long_rope(14)
    items = [scoring.Continuation(tuple(range(3, 15)), tuple(range(5, 5 + size))) for size in (1, 2, 9)]
    together = scoring.score_continuations(model, items).logprob_I
    for item, found in zip(items, together, strict=True):
        assert scoring.score_continuations(model, [item]).logprob_I[0] == pytest.approx(found, rel=1e-5)


def test_padding_behind_shared_contexts_changes_no_frequencies():
    """The row is longer than the limit, and so is the padding of the other; no text is."""
    model = long_rope(14)
    items = [scoring.Continuation(tuple(range(3, 3 + size)), (5, 6, 7, 8)) for size in (3, 10)]
    items += [scoring.Continuation(items[1].context, (number, 9, 8, 7)) for number in range(20, 24)]
    together = scoring.score_continuations(model, items).logprob_I
    for item, found in zip(items, together, strict=True):
        assert scoring.score_continuations(model, [item]).logprob_I[0] == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("lengths", [(4, 11), (4, 20), (16, 20)])
def test_samples_that_grow_past_a_change_of_frequencies(lengths):
    """What a cache holds was turned by the frequencies of a short text; the model itself turns all of a long one."""
    model = long_rope(14)
    texts = [tuple(range(3, 3 + length)) for length in lengths]

    def own() -> torch.Tensor:
        return torch.cat([model(torch.tensor([text]), use_cache=False).logits[:, -1] for text in texts])

    with torch.inference_mode():
        prefix = encode_prompts(model, texts)
        assert_equal(prefix.logits_PV, own(), "first token")
        rows = prefix.rows(1, 8)
        for step in range(6):
            texts = [(*text, 30 + step) for text in texts]
            assert_equal(rows.step(torch.full((2,), 30 + step)), own(), f"token {step + 2}")


STATEFUL = ["lfm2", "mamba", "mamba2", "jamba", "falcon_h1", "recurrent_gemma", "nemotron_h", "rwkv", "bloom"]


@pytest.mark.parametrize("name", STATEFUL)
def test_models_that_masks_do_not_keep_apart_get_a_row_for_each_document(name):
    model = tiny_model(name)
    assert way_of(model, 1, 4) == "rows"
    plan = calls(model, batch().tokens_BT, batch().document_BT)
    sizes = [tuple(part["input_ids"].shape) for part in plan.arguments]
    assert sum(rows for rows, _ in sizes) == 6 and all(rows * length <= 66 for rows, length in sizes)
    with torch.no_grad():
        assert_equal(logits(model, hidden_states(model, batch())), own_logits(model, True), name)


def test_full_attention_keeps_its_mask_and_its_digits():
    """The fast way is the one that it was: a mask of ours, the same numbers to the last bit."""
    from stillroom.models import attention_mask, position_ids

    model, packed = tiny_model("llama"), batch()
    assert way_of(model, 1, 10**9) == "mask" and not needs_rows(model)
    with torch.no_grad():
        expected = model.base_model(
            input_ids=packed.tokens_BT, use_cache=False, attention_mask=attention_mask(packed.document_BT),
            position_ids=position_ids(packed.document_BT),
        ).last_hidden_state  # fmt: skip
        assert torch.equal(hidden_states(model, packed), expected)


@pytest.mark.parametrize(("name", "shared"), [("llama", True), ("mistral", False), ("lfm2", False), ("gpt2", True)])
def test_choices_share_a_context_where_a_mask_decides_all(name, shared):
    items = [scoring.Continuation(tuple(range(3, 20)), (5, 6, number)) for number in range(3)]
    assert (scoring._sharing(tiny_model(name), items) > 1) == shared


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_a_text_longer_than_the_positions_is_refused(name):
    model = tiny_model(name)
    model.config.get_text_config().max_position_embeddings = 12
    tokens_BT = torch.randint(3, 90, (1, 32), generator=torch.Generator().manual_seed(0))
    tokens_BT[:, 0] = tokens_BT[:, 12] = tokens_BT[:, 20] = 0  # documents of 12, 8 and 12 tokens
    hidden_states(model, make_batch(tokens_BT, 0))
    with pytest.raises(UserError, match="has 12 positions, found a text of 32 tokens"):
        hidden_states(model, make_batch(tokens_BT, 0), isolate=False)
    with pytest.raises(UserError, match="has 12 positions, found a text of 20 tokens"):
        hidden_states(model, make_batch(tokens_BT.where(torch.arange(32) != 20, 5), 0))
