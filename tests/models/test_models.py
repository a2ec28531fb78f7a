"""Models: seeds, isolation of documents, taps, export, cost."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from stillroom.config import ModelConfig, ObjectiveConfig
from stillroom.corpora.corpus import make_batch
from stillroom.models import (
    attention_mask,
    attention_patterns,
    build_model,
    export_model,
    hidden_states,
    load_model,
    logit_softcap,
    position_ids,
    precision_name,
)
from stillroom.teachers import LiveTeacher, ModelScores
from stillroom.training.distributed import own_device
from stillroom.training.step import StepContext, Student, validate
from stillroom.types import Batch, UserError

SMALL = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2, max_positions=64)


def batch_of(document_BT: torch.Tensor, vocab: int = 50) -> Batch:
    tokens = torch.randint(3, vocab, document_BT.shape, generator=torch.Generator().manual_seed(0))
    return Batch(tokens, tokens, document_BT)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = build_model(SMALL, 50, seed=3).state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again, other = build_model(SMALL, 50, seed=3).state_dict(), build_model(SMALL, 50, seed=4).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@given(st.lists(st.integers(0, 2), min_size=2, max_size=24))
@settings(deadline=None, max_examples=40)
def test_positions_restart_and_attention_stays_inside_a_document(steps):
    document = torch.cumsum(torch.tensor([steps]), dim=1).int()
    positions, mask = position_ids(document)[0].tolist(), attention_mask(document)[0, 0]
    for place in range(len(steps)):
        first = next(i for i in range(len(steps)) if document[0, i] == document[0, place])
        assert positions[place] == place - first
        assert mask[place].nonzero().flatten().tolist() == list(range(first, place + 1))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_packed_document_has_the_states_it_has_alone(implementation):
    model = build_model(SMALL, 50, seed=0).eval()
    model.set_attn_implementation(implementation)
    document = torch.tensor([[0] * 7 + [1] * 12 + [2] * 5]).int()
    packed = batch_of(document)
    together = hidden_states(model, packed)
    for start, stop in ((0, 7), (7, 19), (19, 24)):
        part = Batch(*(value[:, start:stop] for value in (packed.tokens_BT, packed.targets_BT, document)))
        torch.testing.assert_close(together[:, start:stop], hidden_states(model, part, isolate=False))


def test_without_isolation_documents_see_one_another():
    model = build_model(SMALL, 50, seed=0).eval()
    batch = batch_of(torch.tensor([[0] * 5 + [1] * 5]).int())
    assert not torch.allclose(hidden_states(model, batch)[:, 5:], hidden_states(model, batch, isolate=False)[:, 5:])


def test_reading_attention_changes_nothing_and_sums_to_one():
    model = build_model(SMALL, 50, seed=0).eval()
    batch = batch_of(torch.zeros(2, 12, dtype=torch.int32))
    before = hidden_states(model, batch, isolate=False)
    patterns = attention_patterns(model, batch.tokens_BT)
    assert patterns.shape == (2, 2, 4, 12, 12)
    torch.testing.assert_close(patterns.sum(-1), torch.ones(2, 2, 4, 12))
    assert patterns.triu(1).abs().max() == 0
    assert torch.equal(hidden_states(model, batch, isolate=False), before)
    assert model.config._attn_implementation == "sdpa"


def test_an_exported_model_loads_with_the_same_logits(tmp_path):
    model = build_model(SMALL, 50, seed=0).eval()
    export_model(model, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "model.safetensors").is_file() and not list(tmp_path.glob("*.bin"))
    tokens = batch_of(torch.zeros(2, 12, dtype=torch.int32)).tokens_BT
    for again in (load_model(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)):
        assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert json.loads((tmp_path / "config.json").read_text())["bos_token_id"] == 0


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load_model(tmp_path)
    with pytest.raises(UserError, match="no such file; expected a GGUF"):
        load_model(tmp_path / "a.gguf")


def test_auto_precision_asks_the_device_that_it_is_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert precision_name("auto", "cuda:1") == "bf16" and precision_name("auto", "cpu") == "fp32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert precision_name("auto", torch.device("cuda")) == "fp32" and precision_name("auto", "cpu") == "bf16"


def test_a_process_uses_its_own_gpu_where_there_is_one(monkeypatch):
    assert own_device() == torch.device("cpu") or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device() == torch.device("cuda", 3)


def test_precision_is_what_was_asked_for():
    assert precision_name("fp32", "cpu") == "fp32" and precision_name("bf16", "cpu") == "bf16"
    assert precision_name("auto", "cpu") in ("fp32", "bf16")


def test_capped_logits_are_capped_in_training_validation_and_labels():
    """A model that caps its logits is trained, validated and read with the cap that its own forward pass applies."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, final_logit_softcapping=1.0, attn_implementation="eager",
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(50)
    assert logit_softcap(model) == 1.0 and logit_softcap(build_model(SMALL, 50, seed=0)) is None
    tokens = torch.randint(3, 40, (2, 8), generator=torch.Generator().manual_seed(0))
    batch = make_batch(tokens, bos=0)
    logits = model(tokens, use_cache=False).logits
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    student = Student(model).train()
    found = validate(student, _Two(batch), StepContext(ObjectiveConfig(), isolate=False))
    assert found == pytest.approx(expected.item(), rel=1e-5) and student.training
    scores = torch.cat(list(ModelScores(model, 40, isolate=False, precision="fp32").chunks(batch)))
    torch.testing.assert_close(scores, logits.flatten(0, 1).float(), rtol=1e-4, atol=1e-4)
    teacher = LiveTeacher(model, isolate=False).labels(batch)
    assert teacher.softcap == 1.0


@dataclass(frozen=True)
class _Two:
    """A set of the two sequences of a batch."""

    whole: Batch

    @property
    def sequence_length(self) -> int:
        return self.whole.tokens_BT.shape[1]

    def __len__(self) -> int:
        return 2

    def batch(self, indices) -> Batch:
        rows = list(indices)
        parts = (self.whole.tokens_BT, self.whole.targets_BT, self.whole.document_BT)
        return Batch(*(part[rows] for part in parts))
