"""No random, broken or foreign weight is ever loaded: a table of damaged folders, names with wrappers, cut bytes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import struct
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification

import damaged
import stillroom
from stillroom.models import (
    checks,
    export_model,
    load_model,
    loading,
    plan_pretrained_model,
    read_config,
    read_tokenizer,
    realise,
    tokenizers,
    verdicts,
)
from stillroom.models import create as build
from stillroom.models import locate as sources
from stillroom.types import UserError


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as it should be."""
    return damaged.make_folder(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", asked)


def refusal(read, folder: Path) -> str:
    """The one sentence with which a folder is refused; it names the folder or a file in it."""
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(UserError) as error:
        read(folder)
    text = str(error.value)
    assert "\n" not in text and str(folder) in text, text
    assert "Traceback" not in text and "network" not in text and "trust_remote_code" not in text
    assert sorted(path.name for path in folder.iterdir()) == before
    return text


def same(model, folder: Path) -> bool:
    """Whether a model holds exactly the weights of an undamaged folder."""
    state = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("case", damaged.WEIGHTS)
def test_a_folder_that_is_not_whole_is_refused(case, folder):
    damaged.WEIGHTS[case](folder)
    refusal(load_model, folder)


PLANNED = [*list(damaged.WEIGHTS)[::8], "vocabulary without end", "layers without end", "NaN", "code of its own"]


@pytest.mark.parametrize("case", PLANNED)
def test_a_plan_is_refused_for_the_same_folders(case, folder):
    damaged.WEIGHTS[case](folder)
    refusal(lambda path: realise(plan_pretrained_model(path)), folder)


@pytest.mark.parametrize("case", damaged.TOKENIZERS)
def test_a_tokenizer_that_is_not_whole_is_refused(case, folder):
    damaged.TOKENIZERS[case](folder)
    refusal(read_tokenizer, folder)


WORDS = {
    "a weight missing": ["model.norm.weight", "LlamaForCausalLM"],
    "a layer missing": ["model.layers.1.input_layernorm.weight", "6 more"],
    "another shape": ["model.norm.weight", "(31,)", "(32,)"],
    "another vocabulary": ["(280, 32)", "(288, 32)"],
    "NaN in the last matrix": ["model.safetensors", damaged.LAST, "NaN"],
    "beyond float32": [damaged.NORM, "infinities"],
    "a pointer of git-lfs": ["model.safetensors", "git lfs pull"],
    "GPTQ": ["config.json", "gptq", "full precision"],
    "bitsandbytes": ["bitsandbytes"],
    "fp8 without a scale": [damaged.LAST, "F8_E4M3"],
    "int8 without a scale": [damaged.LAST, "I8"],
    "an adapter alone": ["adapter_config.json", "base model"],
    "a pickle": ["pytorch_model.bin", "safetensors"],
    "index leads out": ["model.safetensors.index.json", "../elsewhere.safetensors"],
    "a shard missing": ["model-00002-of-00002.safetensors"],
    "code of its own": ["config.json", "auto_map", "never"],
    "model_type unknown": ["nonesuch", "update transformers"],
    "T5": ["T5ForConditionalGeneration", "causal language model"],
    "BERT": ["BertForMaskedLM", "causal language model"],
    "a classifier": ["LlamaForSequenceClassification", "causal language model"],
    "width below 0": ["hidden_size", "-32"],
    "dtype unknown": ["dtype", "float7"],
}


@pytest.mark.parametrize("case", WORDS)
def test_a_refusal_names_file_and_key(case, folder):
    damaged.WEIGHTS[case](folder)
    text = refusal(load_model, folder)
    for word in WORDS[case]:
        assert word in text


WRAPPED = {
    "torch.compile": "_orig_mod.{}",
    "DDP": "module.{}",
    "DDP of compiled": "module._orig_mod.{}",
    "compiled DDP": "_orig_mod.module.{}",
    "all of them twice": "module._orig_mod.module._orig_mod.{}",
    "FSDP": "_fsdp_wrapped_module.{}",
}


def _each_part(name: str) -> str:
    parts = {".self_attn.": "._orig_mod.self_attn.", ".mlp.": "._orig_mod.mlp._checkpoint_wrapped_module."}
    for plain, wrapped in parts.items():
        name = name.replace(plain, wrapped)
    return name


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("rename", [*(pattern.format for pattern in WRAPPED.values()), _each_part])
def test_names_of_wrappers_are_understood_and_not_written_again(rename, sharded, folder, whole, tmp_path):
    damaged.change_weights(folder, lambda weights: {rename(name): value for name, value in weights.items()})
    if sharded:
        damaged.shard(folder)
    model = load_model(folder)
    assert same(model, whole) and same(realise(plan_pretrained_model(folder)), whole)
    export_model(model, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(whole / "model.safetensors").keys()


def test_one_wrapped_weight_among_plain_ones_is_no_wrapper(folder):
    damaged.change_weights(
        folder, lambda weights: {f"module.{name}" if name == damaged.NORM else name: weights[name] for name in weights}
    )
    assert "module.model.norm.weight" in refusal(load_model, folder)


@pytest.mark.parametrize("case", damaged.HARMLESS)
def test_a_configuration_of_others_that_changes_no_number_is_read_and_written(case, folder, whole, tmp_path):
    damaged.change_json(folder, "config.json", **damaged.HARMLESS[case])
    model = load_model(folder)
    export_model(model, tmp_path / "again")
    expected = load_model(whole).state_dict()
    for read in (model, load_model(tmp_path / "again"), realise(plan_pretrained_model(folder))):
        assert all(torch.equal(value, expected[name]) for name, value in read.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, "auto"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_precision_of_a_file_is_read_as_transformers_reads_it(stored, dtype, folder):
    damaged.change_weights(folder, lambda weights: {name: value.to(stored) for name, value in weights.items()})
    damaged.change_json(folder, "config.json", dtype=str(stored).removeprefix("torch."))
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).state_dict()
    found = load_model(folder, dtype=dtype).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype for name in found)


def test_large_numbers_whose_sum_overflows_are_numbers():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        large = torch.full((70_000,), torch.finfo(dtype).max, dtype=dtype)
        assert checks.is_finite(large)
        for value in (float("nan"), float("inf"), float("-inf")):
            large[-1] = value
            assert not checks.is_finite(large)


@pytest.mark.parametrize("given_as", ["lm_head.weight", damaged.EMBEDDING, "both"])
def test_tied_weights_may_be_stored_under_either_name(given_as, tmp_path):
    tied = damaged.make_folder(tmp_path / "tied", damaged.SHAPE.model_copy(update={"tie_embeddings": True}))
    matrix = load_file(tied / "model.safetensors")[damaged.EMBEDDING].clone()

    def stored(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del weights[damaged.EMBEDDING]
        names = ("lm_head.weight", damaged.EMBEDDING) if given_as == "both" else (given_as,)
        return weights | {name: matrix.clone() for name in names}

    damaged.change_weights(tied, stored)
    model = load_model(tied)
    assert torch.equal(model.get_input_embeddings().weight, matrix)  # pyright: ignore
    assert model.lm_head.weight is model.get_input_embeddings().weight  # pyright: ignore
    damaged.change_weights(tied, lambda weights: {n: v for n, v in weights.items() if n not in names_of_the_head})
    assert "holds no weight" in refusal(load_model, tied)


names_of_the_head = ("lm_head.weight", damaged.EMBEDDING)


def test_what_old_files_hold_beside_their_weights_is_known(folder, whole):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "model.position_ids": torch.arange(9)}
    damaged.change_weights(folder, lambda weights: weights | extra)
    assert same(load_model(folder), whole)


def test_links_to_weights_are_followed_as_caches_make_them(folder, whole, tmp_path):
    os.rename(folder / "model.safetensors", tmp_path / "blob")
    (folder / "model.safetensors").symlink_to("../blob")
    assert same(load_model(folder), whole)


@pytest.fixture(scope="session")
def scratch(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(whole, tmp_path_factory.mktemp("scratch") / "model"))


def _changed(data: bytes, kind: str, place: int, value: int) -> bytes:
    if kind == "cut":
        return data[:place]
    if kind == "drop":
        return data[:place] + data[place + 1 :]
    return data[:place] + bytes([data[place] ^ value if kind == "flip" else value]) + data[place + 1 :]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    file=st.sampled_from(["model.safetensors", "config.json"]),
    kind=st.sampled_from(["flip", "set", "drop", "cut"]),
    where=st.floats(0, 1, exclude_max=True),
    value=st.one_of(st.integers(1, 255), st.sampled_from([ord(letter) for letter in '0189-,"[]{}'])),
)
def test_bytes_changed_in_header_or_configuration_end_in_a_sentence_or_the_same_weights(
    file, kind, where, value, scratch, whole
):
    data = (whole / file).read_bytes()
    length = len(data) if file == "config.json" else 8 + struct.unpack("<Q", data[:8])[0]
    (scratch / file).unlink()  # the model before may still be mapped
    (scratch / file).write_bytes(_changed(data, kind, int(where * length), value))
    try:
        assert same(load_model(scratch), whole)
    except UserError as error:
        assert "\n" not in str(error)
    finally:
        shutil.copy(whole / file, scratch / file)


def test_a_path_that_is_no_folder_is_named(whole, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "dangling", "loop", "pipe", "none", "file/inside", "x" * 300, "a/b/c", "none.gguf"):
        for read in (load_model, read_tokenizer, read_config, plan_pretrained_model):
            with pytest.raises(UserError, match=name[:20]):
                read(tmp_path / name)
    monkeypatch.setenv("HOME", str(whole.parent))
    assert load_model("~/model").num_parameters() > 0 and len(read_tokenizer("~/model")) > 0
    with pytest.raises(UserError, match="~nobody-of-that-name"):
        load_model("~nobody-of-that-name/model")


def test_names_that_are_not_utf_8_are_read_or_refused(whole, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff\xfe")
    shutil.copytree(whole, odd)
    for read in (load_model, read_tokenizer):
        try:
            assert read(odd) is not None
        except UserError as error:
            str(error).encode()


@pytest.mark.parametrize("hub_id", ["org/none", "none", "runs/model", "a/b/c", "org/with space"])
def test_a_hub_id_without_a_network_is_one_quick_sentence(hub_id, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    start = time.perf_counter()
    for read in (load_model, read_tokenizer, read_config):
        with pytest.raises(UserError, match=hub_id) as error:
            read(hub_id)
        assert "\n" not in str(error.value)
    assert time.perf_counter() - start < 5


def test_a_hub_that_does_not_answer_is_not_asked_again(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert not sources._answers("http://127.0.0.1:9")
    assert not sources._answers("https://nonesuch.invalid")


def test_a_snapshot_in_the_cache_of_the_hub_is_read_and_checked(whole, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--org--name" / "snapshots" / ("0" * 40)
    shutil.copytree(whole, snapshot)
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert same(load_model("org/name"), whole)
    assert read_tokenizer("org/name").get_vocab() == AutoTokenizer.from_pretrained(whole).get_vocab()
    damaged.WEIGHTS["a weight missing"](snapshot)
    with pytest.raises(UserError, match=r"org/name: holds no weight model\.norm\.weight"):
        load_model("org/name")


def test_a_file_that_breaks_its_reader_is_refused_once_and_a_good_one_is_read_once(folder, monkeypatch):
    runs: list[object] = []
    run = tokenizers.subprocess.run
    monkeypatch.setattr(tokenizers.subprocess, "run", lambda *a, **k: runs.append(a) or run(*a, **k))
    monkeypatch.setattr(tokenizers, "_proven", set())
    read_tokenizer(folder)
    read_tokenizer(folder)
    assert len(runs) == 1
    damaged.TOKENIZERS["padding without end"](folder)
    assert "SIGABRT" in refusal(read_tokenizer, folder) or "memory" in refusal(read_tokenizer, folder)


def test_a_reader_that_does_not_end_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(tokenizers, "_PROBE", "while True: pass")
    monkeypatch.setattr(tokenizers, "_SECONDS", 0.2)
    monkeypatch.setattr(tokenizers, "_proven", set())
    assert "does not come to an end" in refusal(read_tokenizer, folder)


def _gguf(model, path: Path, **changes: object) -> None:
    """A GGUF file (version 3) of a tiny Llama model in fp32, written by hand after the format's description."""
    config, state = model.config, model.state_dict()

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def permuted(name: str, value: torch.Tensor) -> torch.Tensor:
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        found = next((number for part, number in heads.items() if part in name), None)
        if found is None:
            return value
        return value.view(found, 2, value.shape[0] // found // 2, -1).swapaxes(1, 2).reshape(value.shape)

    fields = {
        "llama.context_length": config.max_position_embeddings, "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_hidden_layers, "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads, "llama.vocab_size": config.vocab_size,
        "llama.attention.head_count_kv": config.num_key_value_heads,
    }  # fmt: skip
    head = [text("general.architecture") + struct.pack("<I", 8) + text(str(changes.get("architecture", "llama")))]
    head += [text("general.name") + struct.pack("<I", 8) + text("tiny")]
    head += [text(name) + struct.pack("<II", 4, value) for name, value in fields.items()]
    head += [text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, config.rms_norm_eps)]
    head += [text("llama.rope.freq_base") + struct.pack("<If", 6, config.rope_parameters["rope_theta"])]
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    table, data = [], b""
    for name, value in state.items():
        if name == changes.get("without"):
            continue
        for ours, theirs in names.items():
            name = name.replace(ours, theirs) if ours in name and theirs not in name else name
        kind = int(str(changes.get("kind", 0)))
        table.append(
            text(name) + struct.pack("<I", value.ndim) + struct.pack(f"<{value.ndim}Q", *reversed(value.shape))
            + struct.pack("<IQ", kind, len(data))
        )  # fmt: skip
        original = next(key for key in state if key == name or state[key] is value)
        values = permuted(original, value).contiguous().float()
        data += values.numpy().tobytes()
        data += bytes(-len(data) % 32)
    start = b"GGUF" + struct.pack("<IQQ", 3, len(table), len(head)) + b"".join(head) + b"".join(table)
    path.write_bytes(start + bytes(-len(start) % 32) + data)


def test_a_gguf_file_is_read_and_its_damage_is_named(whole, tmp_path):
    pytest.importorskip("gguf")
    model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    file = tmp_path / "tiny.gguf"
    _gguf(model, file)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.allclose(load_model(file)(tokens).logits, model(tokens).logits, atol=1e-5)
        planned = realise(plan_pretrained_model(file))
        assert torch.allclose(planned(tokens).logits, model(tokens).logits, atol=1e-5)
    data = file.read_bytes()
    for share in (0.0, 0.0001, 0.01, 0.02, 0.5, 0.999):
        file.write_bytes(data[: int(len(data) * share)])
        _refused(file)
    for changes in ({"architecture": "nonesuch"}, {"kind": 200}, {"without": damaged.NORM}):
        _gguf(model, file, **changes)
        _refused(file)
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    _gguf(model, file)
    assert "NaN" in _refused(file)
    file.write_bytes(damaged.POINTER)
    assert "git lfs pull" in _refused(file)


def _refused(file: Path) -> str:
    with pytest.raises(UserError, match="tiny") as error:
        load_model(file)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="tiny"):
        realise(plan_pretrained_model(file))
    return str(error.value)


LOADERS = {"from_pretrained", "from_config", "load_adapter"}
BOUNDARY = {"models/loading.py", "models/tokenizers.py"}


def test_the_loaders_of_transformers_are_called_in_one_place_and_never_with_code_of_others():
    room = Path(stillroom.__file__).parent
    calls = 0
    for path in sorted(room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in LOADERS:
                continue
            where = f"{path.relative_to(room)}:{node.lineno}"
            assert path.relative_to(room).as_posix() in BOUNDARY, f"{where}: outside the loading boundary"
            trust = {key.arg: key.value for key in node.keywords}.get("trust_remote_code")
            assert isinstance(trust, ast.Constant) and trust.value is False, f"{where}: no trust_remote_code=False"
            calls += 1
    assert calls >= 6


def test_a_trained_classifier_saved_by_transformers_is_refused_by_name(whole, tmp_path):
    config = read_config(whole)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "classifier")  # pyright: ignore
    assert "LlamaForSequenceClassification" in refusal(load_model, tmp_path / "classifier")
    values = json.loads((tmp_path / "classifier" / "config.json").read_text())
    values.pop("architectures")
    (tmp_path / "classifier" / "config.json").write_text(json.dumps(values))
    assert "lm_head.weight" in refusal(load_model, tmp_path / "classifier")


def test_weights_of_a_base_model_are_refused_where_the_head_is_missing(folder):
    def base(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name.removeprefix("model."): value for name, value in weights.items() if name != "lm_head.weight"}

    damaged.change_weights(folder, base)
    assert "holds no weight lm_head.weight" in refusal(load_model, folder)


def test_a_header_of_many_megabytes_is_no_file_of_weights(folder):
    save_file({"a": torch.ones(2)}, folder / "model.safetensors", {"note": "x" * (1 << 22)})
    refusal(load_model, folder)


def test_what_was_found_right_is_not_looked_for_again_until_a_file_changes(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    looked: list[object] = []
    is_finite = loading.is_finite
    monkeypatch.setattr(loading, "is_finite", lambda value: looked.append(value) or is_finite(value))
    runs: list[object] = []
    checked = build.checked
    monkeypatch.setattr(build, "checked", lambda *given: runs.append(given) or checked(*given))
    load_model(folder)
    assert looked and runs and not (tmp_path / "cache").exists()  # just written, so it could be written again unseen
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setattr(verdicts, "_SETTLED_SECONDS", 0.0)
    load_model(folder)
    looked.clear()
    runs.clear()
    load_model(folder)
    assert not looked and not runs
    load_model(folder, dtype=torch.float16)
    assert looked and runs  # which has its own infinities
    damaged.WEIGHTS["NaN"](folder)
    os.utime(folder / damaged.WHOLE, (1, 1))
    assert "NaN" in refusal(load_model, folder)


def test_without_a_place_for_notes_everything_is_looked_at(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(verdicts, "_SETTLED_SECONDS", 0.0)
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "file" / "inside"))
    load_model(folder)
    load_model(folder)
    damaged.WEIGHTS["NaN"](folder)
    refusal(load_model, folder)
