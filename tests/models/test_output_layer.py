"""What lies between hidden states and logits, found at each model's own code: scales, caps, projections."""

from __future__ import annotations

import pytest
import torch
from architectures import VOCAB, tiny_model
from sweep import assert_equal, batch, own_logits
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from stillroom.analysis import batch_entropies, batch_losses
from stillroom.config import ModelConfig
from stillroom.corpora.corpus import make_batch
from stillroom.models import build_model, hidden_states, logit_softcap, readout, unembedding
from stillroom.models.score import logits
from stillroom.teachers import LiveTeacher
from stillroom.teachers.scores import ModelScores
from stillroom.types import IGNORE_INDEX, UserError

KNOWN = {
    "granite": (1 / 8, None),
    "granitemoe": (1 / 8, None),
    "hyperclovax": (1 / 4, None),
    "cohere": (1 / 16, None),
    "cohere2": (1 / 16, None),
    "falcon_h1": (1 / 4, None),
    "minicpm3": (8.0, None),
    "recurrent_gemma": (1.0, 30.0),
    "gemma2": (1.0, 30.0),
    "nanochat": (1.0, 15.0),
    "xlstm": (1.0, 30.0),
    "llama": (1.0, None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_scale_and_cap_are_those_of_the_models_code(name):
    model = tiny_model(name)
    found = readout(model)
    assert (found.scale, found.softcap) == KNOWN[name] and found.is_direct


def test_a_scale_between_head_and_logits_is_in_the_labels():
    """A Granite model divides its logits by 8: labels of one document are the model's own."""
    config = AutoConfig.for_model(
        "granite", vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, logits_scaling=8.0, pad_token_id=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tokens = torch.arange(3, 35)[None]
    tokens[0, 0] = 0
    mine = torch.cat(list(ModelScores(model, 97, True, "fp32").chunks(make_batch(tokens, 0, 1))))
    with torch.no_grad():
        torch.testing.assert_close(mine, model(input_ids=tokens).logits[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2", "recurrent_gemma", "opt", "minicpm3"])
def test_losses_entropies_and_live_teachers_are_of_the_models_own_logits(name):
    model, packed = tiny_model(name), batch()
    with torch.no_grad():
        expected_BTV = own_logits(model, True).log_softmax(-1)
        hidden_NE, weight_VE, bias_V = LiveTeacher(model)(packed)
        teacher = LiveTeacher(model).labels(packed)
        assert_equal(logits(model, hidden_NE).log_softmax(-1), expected_BTV.flatten(0, 1), "live teacher")
    assert teacher.softcap == logit_softcap(model) and (weight_VE is unembedding(model)[0]) and bias_V is None
    assert_equal(batch_entropies(model, packed), -(expected_BTV.exp() * expected_BTV).sum(-1), "entropy")
    counted = packed.targets_BT != IGNORE_INDEX
    nats = -expected_BTV.gather(2, packed.targets_BT.clamp(min=0)[..., None])[..., 0]
    assert_equal(batch_losses(model, packed)[counted], nats[counted], "loss")


class _Strange(LlamaForCausalLM):
    """A model whose logits are made in a way of its own."""

    def make(self, hidden: torch.Tensor) -> torch.Tensor:
        return 3.0 * torch.tanh(self.lm_head(self.between(hidden)) * 0.5 / 3.0)

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size + 3, bias=True)
        self.between = nn.Identity()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **arguments):  # type: ignore[override]
        arguments.pop("use_cache", None)
        output = self.model(input_ids, attention_mask, position_ids, use_cache=False, **arguments)
        return CausalLMOutputWithPast(logits=self.make(output.last_hidden_state)[..., : self.config.vocab_size])


def _strange(kind: type[_Strange]) -> _Strange:
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(config).eval()


def test_a_scale_a_cap_a_bias_and_dropped_rows_together():
    model = _strange(_Strange)
    found = readout(model)
    assert (found.scale, found.softcap, found.num_logits) == (0.5, 3.0, VOCAB)
    with torch.no_grad():
        assert_equal(logits(model, hidden_states(model, batch())), own_logits(model, True), "logits")


def test_layers_between_the_blocks_and_the_unembedding_are_run():
    model = _strange(_Strange)
    model.between = nn.Sequential(nn.Linear(32, 32), nn.GELU())  # type: ignore[assignment]
    assert not readout(model).is_direct
    with torch.no_grad():
        assert_equal(logits(model, hidden_states(model, batch())), own_logits(model, True), "logits")


class _Cubed(_Strange):
    def make(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.lm_head(hidden) ** 3


class _Many(_Strange):
    def make(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.lm_head(hidden)] * 2, dim=1)


@pytest.mark.parametrize("kind", [_Cubed, _Many])
def test_logits_of_an_unknown_form_are_refused(kind):
    with pytest.raises(UserError, match=r"makes its logits as .*; choose another model"):
        readout(_strange(kind))


def test_a_cap_that_is_changed_later_is_measured_again():
    model = tiny_model("gemma2")
    assert logit_softcap(model) == 30.0
    model.config.final_logit_softcapping = 2.5
    assert logit_softcap(model) == 2.5
    model.config.final_logit_softcapping = None
    assert logit_softcap(model) is None


def test_measuring_leaves_the_model_as_it_was():
    model = build_model(ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4), 50, 0)
    before = {name: dict(part.__dict__) for name, part in model.named_modules()}
    state = torch.random.get_rng_state()
    readout(model)
    assert before == {name: dict(part.__dict__) for name, part in model.named_modules()}
    assert torch.equal(state, torch.random.get_rng_state())
