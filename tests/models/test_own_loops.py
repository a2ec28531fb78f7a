"""``packed_inputs``: a loop of somebody else's gives every packed document the logits that it has alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from architectures import tiny_model
from sweep import assert_equal, batch, own_logits
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers import modeling_flash_attention_utils as flash

from stillroom.corpora.corpus import make_batch
from stillroom.models import packed_inputs, use_short_attention
from stillroom.types import UserError

MASKS = ["llama", "mistral", "gemma2", "gemma3_text", "gemma3", "gpt2", "gpt_neo", "gpt_oss", "opt", "cohere2", "qwen2"]
ROWS = [
    "lfm2", "mamba", "mamba2", "falcon_mamba", "falcon_h1", "jamba", "qwen3_next", "recurrent_gemma", "rwkv", "zamba2",
    "nemotron_h", "bloom", "mpt", "xlstm", "granitemoehybrid", "bamba",
]  # fmt: skip


def _attend(q_HTD: torch.Tensor, k_HTD: torch.Tensor, v_HTD: torch.Tensor, scale, causal, window, softcap):
    """Attention of one document, as the flash kernels define it."""
    groups = q_HTD.shape[0] // k_HTD.shape[0]
    k_HTD, v_HTD = k_HTD.repeat_interleave(groups, 0), v_HTD.repeat_interleave(groups, 0)
    scores = q_HTD @ k_HTD.transpose(1, 2) * (q_HTD.shape[-1] ** -0.5 if scale is None else scale)
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    apart = torch.arange(q_HTD.shape[1])[:, None] - torch.arange(q_HTD.shape[1])
    seen = (apart >= 0) if causal else torch.ones_like(apart, dtype=torch.bool)
    seen = seen & (apart <= window[0]) if window[0] >= 0 else seen
    return torch.softmax(scores.masked_fill(~seen, -torch.inf).float(), -1).to(v_HTD.dtype) @ v_HTD


def _kernel(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0):
    """Attention over rows (B, T, H, D), each a text of its own."""
    rows = zip(*(part.transpose(1, 2) for part in (q, k, v)), strict=True)
    asked = (softmax_scale, causal, window_size, softcap)
    return torch.stack([_attend(*row, *asked) for row in rows]).transpose(1, 2)


def _varlen_kernel(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0,
):  # fmt: skip
    """The same over documents one after another, (N, H, D)."""
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    ends = cu_seqlens_q.tolist()
    parts = [
        _kernel(*(x[None, start:end] for x in (q, k, v)), 0.0, softmax_scale, causal, window_size, softcap)[0]
        for start, end in itertools.pairwise(ends)
    ]
    return torch.cat(parts)


@pytest.fixture
def flash_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers calls for flash-attention, on a processor: its own code decides how."""
    kernels = (_kernel, _varlen_kernel, None, flash._pad_input, flash._unpad_input)
    monkeypatch.setattr(flash, "_lazy_imports", lambda *_, **__: kernels)
    monkeypatch.setattr(flash, "_loaded_implementation", None)


def _logits(model: PreTrainedModel) -> torch.Tensor:
    inputs = packed_inputs(batch(), model)
    return inputs.unpacked(model(**inputs).logits)


@torch.no_grad()
@pytest.mark.parametrize("name", [*MASKS, *ROWS])
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "short"])
def test_every_document_has_the_logits_that_it_has_alone(name, implementation):
    model = tiny_model(name)
    if implementation == "short":
        use_short_attention(model)
    elif implementation == "eager" or model._supports_sdpa:
        model.set_attn_implementation(implementation)
    assert_equal(_logits(model), own_logits(model, True), f"{name}, {implementation}")


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "qwen2", "gpt_neox", "phi3", "opt", "lfm2", "jamba"])
@pytest.mark.parametrize("implementation", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_is_called_so_that_it_keeps_documents_apart(name, implementation, flash_kernels):
    model = tiny_model(name)
    expected = own_logits(model, True)
    for part in (model.config, model.config.get_text_config()):
        part._attn_implementation_internal = implementation
    assert_equal(_logits(model), expected, f"{name}, {implementation}")


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # several of torch's own, while it compiles
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gemma3_text", "lfm2"])
def test_flex_attention_keeps_documents_apart(name):
    model = tiny_model(name)
    expected = own_logits(model, True)
    model.set_attn_implementation("flex_attention")
    assert_equal(_logits(model), expected, name)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3_text", "lfm2", "mamba", "qwen3_next", "falcon"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_an_earlier_document_changes_nothing(name, implementation):
    model = tiny_model(name)
    if implementation == "eager" or model._supports_sdpa:
        model.set_attn_implementation(implementation)
    tokens = batch().tokens_BT
    other = tokens.clone()
    other[0, 1:13] = 5
    found = []
    for ids in (tokens, other):
        inputs = packed_inputs(make_batch(ids, 0), model)
        found.append(inputs.unpacked(model(**inputs).logits)[0, 13:])
    assert torch.equal(*found)


@torch.no_grad()
def test_restarting_positions_alone_isolate_nothing_while_a_cache_is_filled():
    """Why ``use_cache`` is among the inputs; where transformers mends it this test may go."""
    model = tiny_model("llama")
    inputs = packed_inputs(batch(), model)
    plain = {"input_ids": inputs["input_ids"], "position_ids": inputs["position_ids"]}
    leaked = model(**plain, use_cache=True).logits
    assert inputs["use_cache"] is False
    assert float((leaked - own_logits(model, True)).abs().max() / leaked.abs().max()) > 0.05


def test_gradients_are_those_of_the_documents_alone():
    for name in ("llama", "lfm2"):
        model = tiny_model(name).eval()
        one, other = [], []
        for logits, kept in ((_logits(model), one), (own_logits(model, True), other)):
            model.zero_grad()
            logits.square().mean().backward()
            kept += [part.grad.clone() for part in model.parameters() if part.grad is not None]
        for found, expected in zip(one, other, strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


class _Wrapped(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, **arguments):
        return self.module(**arguments)


class _Adapted(_Wrapped):
    def get_base_model(self):
        return self.module


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, where it compiles
@pytest.mark.parametrize("wrap", [_Wrapped, _Adapted, lambda model: _Wrapped(_Adapted(model)), torch.compile])
def test_a_wrapped_model_is_seen_through(wrap):
    model = tiny_model("lfm2")
    wrapped = wrap(model)
    assert packed_inputs(batch(), wrapped).keys() == packed_inputs(batch(), model).keys()
    assert packed_inputs(batch(), wrapped)["input_ids"].shape[0] == 6


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xlnet", "gives a text other logits where another lies behind it"),
        ("prophetnet", "gives a text other logits"),
        ("cpmant", "gives a text other logits"),
        ("doge", "picks the keys that it attends to by ranks that change with the padding"),
        ("reformer", "hashes what it attends to"),
    ],
)
def test_a_model_that_cannot_be_isolated_is_refused_by_its_name(name, said):
    model = tiny_model(name)
    with pytest.raises(UserError, match=rf"^{type(model).__name__} {said}.*, so packed documents cannot be kept apart"):
        packed_inputs(batch(), model)


def test_an_encoder_and_what_is_no_model_are_refused():
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    bert = AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", num_attention_heads=4, **sizes))
    was_training = bert.train().training
    with pytest.raises(UserError, match="BertLMHeadModel gives a text other logits where another lies behind it"):
        packed_inputs(batch(), bert)
    assert bert.training == was_training
    with pytest.raises(UserError, match="found a Linear, expected a causal model of transformers"):
        packed_inputs(batch(), nn.Linear(2, 2))
