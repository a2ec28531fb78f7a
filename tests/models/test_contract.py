"""What is found when a model is loaded: that its logits through this package are its own, or what is not so."""

from __future__ import annotations

import pytest
import torch
from architectures import tiny_model
from transformers import BertConfig, BertLMHeadModel

from stillroom.config import ModelConfig
from stillroom.models import build_model, export_model, load_model, packing
from stillroom.models.contract import checked
from stillroom.models.forward import layer_list
from stillroom.types import UserError


def test_a_loaded_model_is_checked(tmp_path, monkeypatch):
    export_model(tiny_model("llama"), tmp_path)
    seen = []
    monkeypatch.setattr("stillroom.models.create.checked", lambda model, name: seen.append(name) or model)
    load_model(tmp_path)
    build_model(ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=4), 50, 0)
    assert seen == [str(tmp_path), "model"]


def test_an_encoder_is_refused_by_name(tmp_path):
    config = BertConfig(
        vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64,
    )  # fmt: skip
    export_model(BertLMHeadModel(config), tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path}: the logits of BertLMHeadModel change with the tokens that come"):
        load_model(tmp_path)
    config.is_decoder = True
    export_model(BertLMHeadModel(config), tmp_path)
    assert load_model(tmp_path).config.is_decoder


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_do_not_exist_are_refused(value):
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = value
    with pytest.raises(UserError, match=r"^here: gives NaN or infinite logits"):
        checked(model, "here")


@pytest.mark.parametrize("name", ["lfm2", "mamba", "rwkv"])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_a_model_that_a_mask_does_not_keep_apart_is_given_rows(name, scale, monkeypatch):
    """Even one that is not known to keep a state: the check sees one document in the other."""
    model = tiny_model(name, scale)
    monkeypatch.setattr(packing, "MASKED", packing.MASKED | {name})
    packing._overrides[model] = False
    assert packing.way_of(model, 1, 4) == "mask"
    checked(model, "here")
    assert packing.way_of(model, 1, 4) == "rows"


def test_what_no_way_makes_right_is_refused(monkeypatch):
    model = tiny_model("llama")
    gathered = packing.Calls.gathered
    monkeypatch.setattr(packing.Calls, "gathered", lambda self, hidden: gathered(self, hidden).flip(-1))
    with pytest.raises(UserError, match="two documents through stillroom have other logits than LlamaForCausalLM"):
        checked(model, "here")


def test_the_check_runs_one_layer_of_each_kind_and_leaves_the_model_as_it_was():
    model = build_model(ModelConfig(hidden_size=32, intermediate_size=64, num_layers=6, num_heads=4), 50, 0)
    layers, state = layer_list(model), torch.random.get_rng_state()
    assert layers is not None and model.training
    calls = [0] * 6
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, number=number: calls.__setitem__(number, calls[number] + 1))
    checked(model, "here")
    assert calls[0] > 0 and not any(calls[1:]) and model.training
    assert layer_list(model) is layers and torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3_text", "granite", "lfm2", "jamba", "gpt_oss", "opt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sound_models_pass_in_every_precision(name, dtype):
    for scale in (1.0, 8.0):
        checked(tiny_model(name, scale).to(dtype), "here")
