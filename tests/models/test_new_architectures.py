"""New models of other architectures: their configuration, their weights, their own numbers, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from architectures import VOCAB, tiny_config
from sweep import _training as training_equals_its_own
from sweep import assert_equal, batch, own_logits
from transformers import AutoModelForCausalLM

from stillroom import costs
from stillroom.config import ModelConfig, parse
from stillroom.models import build_model, export_model, fields_like, hidden_states, load_model
from stillroom.models.architectures import all_fields as architecture_fields_of
from stillroom.models.forward import layer_list
from stillroom.models.likeness import NARROWED, cut_weights
from stillroom.models.model_config import LikeTeacherConfig
from stillroom.models.score import logits
from stillroom.types import SpecialIds, UserError
from student_table import FAST, KINDS, Kind, kinds

KIND = pytest.mark.parametrize("kind", kinds())
ALL = pytest.mark.parametrize("kind", kinds(*KINDS))
IDS = SpecialIds(0, 1, 2)


def loud(model, scale: float = 8.0):
    """The model with larger matrices, so that what is left out shows in its logits."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1.0)
    return model.eval()


@ALL
def test_packed_documents_train_as_they_do_alone_and_the_export_is_the_model(kind, tmp_path):
    config = kind.model(tmp_path / "config")
    model = loud(build_model(config, VOCAB, seed=3, special=IDS))
    own = model.config
    assert (own.vocab_size, own.bos_token_id, own.eos_token_id, own.pad_token_id) == (VOCAB, 0, 1, 2)
    assert costs.size_of(config, VOCAB) == costs.size_of_model(model)  # told before it is built
    assert costs.num_parameters(config, VOCAB) == sum(one.numel() for one in model.parameters())
    training_equals_its_own(model)
    with torch.no_grad():
        alone = own_logits(model, isolate=True)
        assert_equal(logits(model, hidden_states(model, batch())), alone, "packed logits")
        export_model(model, tmp_path / "out")
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation=own._attn_implementation)
        assert_equal(own_logits(theirs, isolate=True), alone, "transformers' own logits after export")
        assert_equal(own_logits(load_model(tmp_path / "out"), isolate=True), alone, "after load")
    tied = getattr(model, "lm_head", None) is not None and model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == own.tie_word_embeddings


@KIND
def test_weights_follow_the_seed_and_the_rule(kind, tmp_path):
    config = kind.model(tmp_path)
    before = torch.random.get_rng_state()
    first, again = (build_model(config, VOCAB, seed=5).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    other = build_model(config, VOCAB, seed=6).state_dict()
    own = build_model(config.model_copy(update={"initialisation": "model"}), VOCAB, seed=5).state_dict()
    matrices = [
        name for name, value in first.items() if value.ndim > 1 and "conv.conv" not in name and "gate.w" not in name
    ]
    assert not any(torch.equal(first[name], other[name]) for name in matrices)
    assert not any(torch.equal(first[name], own[name]) for name in matrices)
    torch.manual_seed(5)
    theirs = AutoModelForCausalLM.from_config(tiny_config(kind.model_type, **kind.changes)).state_dict()
    vectors = [name for name, value in theirs.items() if value.ndim == 1]
    assert all(torch.equal(first[name], theirs[name]) for name in vectors)  # norms of 1 or 0, biases of 0


RESIDUAL = ("o_proj", "down_proj", "out_proj", "c_proj", "dense", "dense_4h_to_h", "w2")


@KIND
def test_matrices_that_write_into_the_residual_stream_begin_smaller(kind, tmp_path):
    model = build_model(kind.model(tmp_path), VOCAB, seed=0)
    layers = model.config.num_hidden_layers
    for name, value in model.named_parameters():
        if value.ndim > 1 and "conv.conv" not in name and "gate.weight" not in name:
            names = name.removesuffix(".weight").rsplit(".", 1)
            small = names[-1] in RESIDUAL
            assert float(value.detach().std()) == pytest.approx(
                0.02 * ((2 * layers) ** -0.5 if small else 1), rel=0.15
            ), name
    assert any(name.removesuffix(".weight").endswith(RESIDUAL) for name, _ in model.named_parameters())


@pytest.mark.parametrize("base_width", [None, 16])
def test_a_llama_config_is_the_model_of_the_same_sizes_bit_for_bit(base_width, tmp_path):
    sizes = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=3, num_heads=4, num_kv_heads=2)
    ours = build_model(sizes, VOCAB, 1, base_width, IDS)
    ours.config.save_pretrained(tmp_path)
    theirs = build_model(ModelConfig(config=str(tmp_path)), VOCAB, 1, base_width, IDS)
    assert type(theirs) is type(ours) and theirs.config.to_dict() == ours.config.to_dict() | {"dtype": "float32"}
    expected = dict([*ours.named_parameters(), *ours.named_buffers()])
    found = dict([*theirs.named_parameters(), *theirs.named_buffers()])
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@KIND
def test_width_scaling_begins_logits_smaller_or_is_refused(kind, tmp_path):
    config = kind.model(tmp_path)
    if kind.no_width is not None:
        with pytest.raises(UserError, match=rf"training.base_width: .*{kind.no_width}"):
            build_model(config, VOCAB, 0, base_width=16)
        return
    plain, scaled = (build_model(config, VOCAB, 0, base_width=width) for width in (32, 16))
    same = build_model(config, VOCAB, 0)
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), same.parameters(), strict=True))
    with torch.no_grad():
        table = scaled.get_input_embeddings().weight
        assert torch.equal(table, plain.get_input_embeddings().weight)
        x_TD = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
        norms = [
            getattr(one.base_model, "norm", getattr(one.base_model, "final_layer_norm", None))
            for one in (plain, scaled)
        ]
        assert torch.allclose(norms[1](x_TD), 0.5 * norms[0](x_TD), atol=1e-6)


@KIND
def test_fields_are_read_once_and_say_the_same_again(kind, tmp_path):
    file = kind.file(tmp_path)
    config = ModelConfig(config=str(file))
    again = parse(ModelConfig, json.loads(json.dumps(config.canonical())), "again")
    assert again == config and again.fingerprint() == config.fingerprint()
    assert ModelConfig(config=str(tmp_path)) == config
    assert not {"hidden_size", "max_positions"} & config.canonical().keys()
    raw = json.loads(file.read_text())
    file.write_text(json.dumps(raw | {"vocab_size": 5000, "eos_token_id": 7, "dtype": "bfloat16", "stray": 1}))
    assert ModelConfig(config=str(file)) == config


@KIND
@pytest.mark.parametrize("number", [1, 5])
def test_overrides_change_the_architecture(kind, number, tmp_path):
    config = kind.model(tmp_path, overrides={"num_hidden_layers": number})
    model = build_model(config, VOCAB, seed=0)
    assert model.config.num_hidden_layers == number and config.overrides == {}
    types = getattr(model.config, "layer_types", None)
    whole = tiny_config(kind.model_type, **kind.changes)
    if types is not None:
        assert len(types) == number and types[:2] == whole.layer_types[:number]
        if kind.name == "lfm2-hybrid":  # whose file lists them
            assert types == (3 * whole.layer_types)[:number]


def test_what_follows_from_other_fields_follows_them_when_they_change(tmp_path):
    KINDS["smollm"].file(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    config = ModelConfig(config=str(tmp_path))
    wider = parse(ModelConfig, config.canonical() | {"overrides": {"hidden_size": 64}}, "wider")
    assert build_model(wider, VOCAB, seed=0).config.head_dim == 16
    theta = parse(ModelConfig, config.canonical() | {"overrides": {"rope_parameters": {"rope_theta": 50.0}}}, "theta")
    assert build_model(theta, VOCAB, seed=0).config.rope_parameters["rope_theta"] == 50.0


def test_a_model_of_several_parts_gives_its_language_model(tmp_path):
    from transformers import Gemma3Config

    text = tiny_config("gemma3_text")
    Gemma3Config(text_config=text.to_dict()).save_pretrained(tmp_path)
    assert ModelConfig(config=str(tmp_path)).config == Kind("text", "gemma3_text").model(tmp_path / "text").config


_FILES = {
    "none": (None, "no such f"),
    "no json": ("{", "JSON"),
    "not causal": ({"model_type": "vit"}, "causal language model"),
    "unknown": ({"model_type": "nothing"}, "none that transformers"),
    "code": ({"model_type": "llama", "auto_map": {"AutoConfig": "a.B"}}, "auto_map"),
    "heads": ({"model_type": "llama", "hidden_size": 30, "num_attention_heads": 4}, "hidden"),
    "types": ({"model_type": "qwen3", "num_hidden_layers": 2, "layer_types": ["full_attention"]}, "layer_types"),
}


@pytest.mark.parametrize("case", _FILES)
def test_a_file_that_is_no_configuration_is_refused_by_its_name(case, tmp_path):
    content, said = _FILES[case]
    file = tmp_path / "mine.json"
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=said) as refused:
        parse(ModelConfig, {"config": str(file)}, "recipe")
    assert "mine.json" in str(refused.value) and "/tmp/tmp" not in str(refused.value)


_GIVEN = {
    "typo": ({"overrides": {"num_hidden_layer": 1}}, "did you mean num_hidden_layers"),
    "vocabulary": ({"overrides": {"vocab_size": 1}}, "vocab_size cannot be set"),
    "sizes": ({"hidden_size": 64}, "hidden_size is given beside config"),
    "path": ({"path": "x"}, "path and config are both given"),
    "like": ({"like_teacher": {"depth": 0.5}}, "config and like_teacher are both given"),
    "kind": ({"overrides": {"model_type": "gpt2"}}, "model_type"),
    "wrong": ({"overrides": {"num_hidden_layers": "two"}}, "num_hidden_layers"),
    "negative": ({"overrides": {"num_hidden_layers": -1}}, "num_hidden_layers"),
    "huge": ({"overrides": {"num_hidden_layers": 10**9}}, "num_hidden_layers"),
}


@pytest.mark.parametrize("case", _GIVEN)
def test_what_does_not_fit_beside_a_config_is_one_sentence(case, tmp_path):
    changes, said = _GIVEN[case]
    with pytest.raises(UserError, match=said):
        parse(ModelConfig, {"config": str(KINDS["qwen3"].file(tmp_path)), **changes}, "model")
    with pytest.raises(UserError, match="without config"):
        parse(ModelConfig, {"overrides": {"a": 1}}, "model")
    with pytest.raises(UserError, match="no field of a Qwen3Config"):
        build_model(ModelConfig(config={"model_type": "qwen3", "hidden_sise": 8}), VOCAB, 0)


def test_a_snapshot_of_the_hub_is_read_where_it_lies(tmp_path, monkeypatch):
    from stillroom.models import locate

    KINDS["olmo2"].file(tmp_path)
    monkeypatch.setattr(locate, "_fetched", lambda hub_id, weights: tmp_path)
    assert ModelConfig(config="someone/olmo").config == ModelConfig(config=str(tmp_path)).config


# Like the teacher.


def teacher_of(kind, folder: Path, **changes):
    """A loud teacher of eight heads in four groups and the configuration that made it."""
    more = {"num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 64}
    config = tiny_config(kind.model_type, **kind.changes)
    layers = 2 * config.num_hidden_layers
    fields = {name: value for name, value in more.items() if hasattr(config, name)} | changes
    made = kind.model(folder, overrides=fields | {"num_hidden_layers": layers})
    return loud(build_model(made, VOCAB, seed=1)), made


@KIND
def test_half_the_depth_keeps_every_kind_of_layer_and_the_teachers_weights(kind, tmp_path):
    teacher, made = teacher_of(kind, tmp_path / "config")
    export_model(teacher, tmp_path / "teacher")
    like = ModelConfig(like_teacher=LikeTeacherConfig(depth=0.5, weights="cut")).like(made)
    assert fields_like(ModelConfig(path=str(tmp_path / "teacher")), like.like_teacher) == like.config
    student = build_model(like, VOCAB, seed=0, teacher=tmp_path / "teacher")
    half = teacher.config.num_hidden_layers // 2
    assert student.config.num_hidden_layers == half
    ours, theirs = (list(layer_list(one)) for one in (student, teacher))
    assert same(ours[0], theirs[0]) and (half < 3 or same(ours[-1], theirs[-1]))
    assert set(map(weights_in, ours)) == set(map(weights_in, theirs))
    assert torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def weights_in(layer) -> tuple[str, ...]:
    return tuple(name for name, _ in layer.named_parameters())


class _Scale(torch.nn.Module):
    """In the place of a norm: its weight alone, so that zeros beside a stream change nothing."""

    def __init__(self, norm) -> None:
        super().__init__()
        weight = getattr(norm, "weight", torch.ones(())).detach()
        self.weight = 1.0 + weight if type(norm).__name__.startswith("Gemma") else weight
        self.bias = getattr(norm, "bias", torch.zeros(()))

    def forward(self, x):
        return x * self.weight + self.bias


def without_norms(model):
    for part in list(model.modules()):
        for name, inner in list(part.named_children()):
            if "norm" in type(inner).__name__.lower():
                setattr(part, name, _Scale(inner))
    return model


_UNLIKE = {"gemma", "granite", "mixtral", "olmo", "olmo3", "qwen2", "smollm3"}
_FURTHER = [pytest.param(Kind(one, one), id=one, marks=pytest.mark.slow) for one in sorted(_UNLIKE)]


def test_weights_are_cut_in_width_where_a_test_shows_that_they_can_be():
    assert _UNLIKE | {kind.model_type for kind in KINDS.values()} == NARROWED


@pytest.mark.parametrize("kind", [*kinds(*FAST, "untied-biased", "gpt-neox"), *_FURTHER])
def test_half_the_width_is_what_is_left_of_a_teacher_with_zeros_beside_it(kind, tmp_path):
    """A teacher that is zero wherever something was cut away gives the student's logits: so whole heads, channels and
    neurons are cut. Norms, which count the zeros, are left out of both.
    """
    teacher, made = teacher_of(kind, tmp_path)
    like = ModelConfig(like_teacher=LikeTeacherConfig(width=0.5, weights="cut")).like(made)
    student = build_model(like.drawn(), VOCAB, seed=0).eval()
    assert student.config.hidden_size * 2 == teacher.config.hidden_size
    assert student.config.num_attention_heads * 2 == teacher.config.num_attention_heads
    numbered, rest = copy.deepcopy(teacher), copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter, zeros in zip(numbered.parameters(), rest.parameters(), strict=True):
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter))
            zeros.zero_()
        for name, value in cut_weights(student, teacher):
            student.state_dict()[name].copy_(value)
        for name, places in cut_weights(student, numbered):
            kept = places.flatten().long()
            rest.state_dict()[name].view(-1)[kept] = teacher.state_dict()[name].view(-1)[kept]
        for part, small in zip(rest.modules(), student.modules(), strict=True):
            if hasattr(part, "embed_scale"):
                part.embed_scale = small.embed_scale
        assert_equal(own_logits(without_norms(student), True), own_logits(without_norms(rest), True), "beside zeros")


def test_what_cannot_be_made_like_the_teacher_is_refused(tmp_path):
    def like(kind: str, **fields):
        config = ModelConfig(config={"model_type": kind, **architecture_sizes(kind)})
        return fields_like(config, LikeTeacherConfig(**fields))

    with pytest.raises(UserError, match="cut in depth alone"):
        like("phi3", width=0.5, weights="cut")
    assert like("phi3", width=0.5)["hidden_size"] == 16
    with pytest.raises(UserError, match="no one number of heads"):
        like("mamba", width=0.5)
    with pytest.raises(UserError, match="no such folder"):
        fields_like(ModelConfig(path="./nowhere"), LikeTeacherConfig())
    with pytest.raises(UserError, match="no teacher is given"):
        build_model(ModelConfig(like_teacher=LikeTeacherConfig()), VOCAB, 0)


def architecture_sizes(kind: str) -> dict:
    fields = architecture_fields_of(tiny_config(kind))
    return {name: value for name, value in fields.items() if name != "model_type"}
