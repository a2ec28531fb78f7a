"""A tiny model folder, and the ways in which the folders of others are damaged or are no models: a table.

Each entry changes a whole folder in place. ``WEIGHTS`` breaks what is read as a model, ``TOKENIZERS`` its tokenizer.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stillroom.config import ModelConfig
from stillroom.corpora import train_tokenizer
from stillroom.models import build_model, export_model

SHAPE = ModelConfig(
    hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_kv_heads=2, max_positions=256,
    tie_embeddings=False,
)  # fmt: skip
VOCAB = 280
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
WHOLE = "model.safetensors"
Damage = Callable[[Path], None]


def make_folder(folder: Path, shape: ModelConfig = SHAPE) -> Path:
    """A model and its tokenizer as ``save_pretrained`` writes them."""
    train_tokenizer(["some words to read, and others to write "] * 9, VOCAB).save_pretrained(folder)
    export_model(build_model(shape, VOCAB, seed=1), folder)
    return folder


def change_json(folder: Path, name: str, **changes: Any) -> None:
    """Changes entries of a JSON file; None removes one."""
    values = json.loads((folder / name).read_text()) | changes
    kept = {key: value for key, value in values.items() if value is not None or key not in changes}
    (folder / name).write_text(json.dumps(kept))


def _held(folder: Path) -> dict[str, torch.Tensor]:
    """The weights, in memory of their own: their file may be written over."""
    return {name: value.clone() for name, value in load_file(folder / WHOLE).items()}


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Writes the weights again as ``change`` gives them back."""
    weights = change(_held(folder))
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / WHOLE, {"format": "pt"})


def shard(folder: Path, names: Callable[[int], str] = "model-{:05d}-of-00002.safetensors".format) -> None:
    """The same weights in two files and an index."""
    weights = load_file(folder / WHOLE)
    (folder / WHOLE).unlink()
    keys = sorted(weights)
    parts = [keys[: len(keys) // 2], keys[len(keys) // 2 :]]
    for number, part in enumerate(parts, 1):
        save_file({name: weights[name] for name in part}, folder / names(number), {"format": "pt"})
    places = {name: names(number) for number, part in enumerate(parts, 1) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def _edit(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        def changed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            change(weights)
            return weights

        change_weights(folder, changed)

    return damage


def _config(**changes: Any) -> Damage:
    return lambda folder: change_json(folder, "config.json", **changes)


def _write(name: str, data: bytes) -> Damage:
    return lambda folder: void((folder / name).write_bytes(data))


def void(_: object) -> None:
    """Throws a value away."""


def _cut(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return damage


def _remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def _folder_instead(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def _link(name: str, target: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return damage


def _pickle(name: str) -> Damage:
    def damage(folder: Path) -> None:
        torch.save(load_file(folder / WHOLE), folder / name)
        (folder / WHOLE).unlink()

    return damage


def _index(change: Callable[[dict[str, Any], Path], Any]) -> Damage:
    def damage(folder: Path) -> None:
        shard(folder)
        path = folder / "model.safetensors.index.json"
        values = json.loads(path.read_text())
        changed = change(values, folder)
        path.write_text(json.dumps(values if changed is None else changed))

    return damage


def _name_everywhere(name: str) -> Callable[[dict[str, Any], Path], None]:
    def change(index: dict[str, Any], folder: Path) -> None:
        index["weight_map"] = dict.fromkeys(index["weight_map"], name)

    return change


def _escape(index: dict[str, Any], folder: Path) -> None:
    outside = folder.parent / "elsewhere.safetensors"
    shutil.copy(folder / "model-00001-of-00002.safetensors", outside)
    _name_everywhere("../elsewhere.safetensors")(index, folder)


def _header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Changes the header of the weights and leaves their bytes."""

    def damage(folder: Path) -> None:
        data = (folder / WHOLE).read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (folder / WHOLE).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


EMBEDDING, NORM, LAST = "model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.down_proj.weight"


def _set(name: str, value: float) -> Damage:
    return _edit(lambda weights: weights[name].view(-1).__setitem__(-1, value))


def _fp8(weights: dict[str, torch.Tensor]) -> None:
    weights[LAST] = weights[LAST].to(torch.float8_e4m3fn)


def _int8(weights: dict[str, torch.Tensor]) -> None:
    weights[LAST] = (weights[LAST] * 100).to(torch.int8)


def _gptq(weights: dict[str, torch.Tensor]) -> None:
    weights.pop(LAST)
    stem = LAST.removesuffix("weight")
    weights[stem + "qweight"] = torch.zeros(6, 32, dtype=torch.int32)
    weights[stem + "scales"] = torch.ones(1, 32, dtype=torch.float16)


def _lora(weights: dict[str, torch.Tensor]) -> None:
    weights["base_model.model.layers.0.self_attn.q_proj.lora_A.weight"] = torch.ones(4, 32)


def _adapter_only(folder: Path) -> None:
    for name in ("config.json", WHOLE):
        (folder / name).unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "peft_type": "LORA"}')
    save_file({"base_model.lora_A.weight": torch.ones(4, 32)}, folder / "adapter_model.safetensors")


def _twice(weights: dict[str, torch.Tensor]) -> None:
    weights["_orig_mod." + NORM] = weights[NORM] * 2


def _distributed(folder: Path) -> None:
    os.rename(folder / WHOLE, folder / "shard-00001-model-00001-of-00001.safetensors")


def _nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def _other_model(**config: Any) -> Damage:
    return lambda folder: void((folder / "config.json").write_text(json.dumps(config)))


def _untie(folder: Path) -> None:
    change_json(folder, "config.json", tie_word_embeddings=True)


_LAYER = [f"model.layers.1.{part}" for part in ("input_layernorm.weight", "mlp.up_proj.weight")]

WEIGHTS: dict[str, Damage] = {
    "a weight missing": _edit(lambda weights: weights.pop(NORM)),
    "a layer missing": _edit(lambda weights: [weights.pop(name) for name in list(weights) if ".layers.1." in name]),
    "head missing, not tied": _edit(lambda weights: weights.pop("lm_head.weight")),
    "a weight too many": _edit(lambda weights: weights.update(extra=torch.ones(3))),
    "a layer too many": _config(num_hidden_layers=1),
    "a value head": _edit(lambda weights: weights.update({"v_head.summary.weight": torch.ones(1, 32)})),
    "wrong prefix on one": _edit(lambda weights: weights.update({"foo." + NORM: weights.pop(NORM)})),
    "another shape": _edit(lambda weights: weights.update({NORM: torch.ones(31)})),
    "another vocabulary": _config(vocab_size=VOCAB + 8),
    "another width": _config(hidden_size=48),
    "no weights": _edit(dict.clear),
    "zero bytes": _write(WHOLE, b""),
    "eight zeros": _write(WHOLE, bytes(8)),
    "header of two bytes": _write(WHOLE, struct.pack("<Q", 2) + b"{}"),
    "endless header": _write(WHOLE, struct.pack("<Q", 2**63) + b"{}"),
    "noise": _write(WHOLE, bytes(range(256)) * 40),
    "an HTML page": _write(WHOLE, b"<!doctype html><title>404</title>" * 9),
    "cut in half": _cut(WHOLE, 0.5),
    "cut by a byte": lambda folder: void(
        (folder / WHOLE).write_bytes((folder / WHOLE).read_bytes()[:-1])
    ),
    "cut in the header": _cut(WHOLE, 0.01),
    "a byte too many": lambda folder: void((folder / WHOLE).write_bytes((folder / WHOLE).read_bytes() + b"x")),
    "header lies about the type": _header(lambda header: header[NORM].update(dtype="F16")),
    "header lies about the shape": _header(lambda header: header[NORM].update(shape=[2**40])),
    "header lies about offsets": _header(lambda header: header[NORM].update(data_offsets=[0, 2**50])),
    "header overlaps": _header(lambda header: header[NORM].update(data_offsets=[0, 128])),
    "header with unknown type": _header(lambda header: header[NORM].update(dtype="X3")),
    "a pointer of git-lfs": _write(WHOLE, POINTER),
    "config.json a pointer": _write("config.json", POINTER),
    "NaN": _set(NORM, float("nan")),
    "infinity in a row of the vocabulary": _set(EMBEDDING, float("inf")),
    "minus infinity in the head": _set("lm_head.weight", float("-inf")),
    "NaN in the last matrix": _set(LAST, float("nan")),
    "beyond float32": _edit(lambda weights: weights.update({NORM: torch.full((32,), 1e300, dtype=torch.float64)})),
    "fp8 without a scale": _edit(_fp8),
    "int8 without a scale": _edit(_int8),
    "GPTQ without a word": _edit(_gptq),
    "GPTQ": _config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "AWQ": _config(quantization_config={"quant_method": "awq", "bits": 4, "version": "gemm"}),
    "bitsandbytes": _config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "fp8": _config(quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "compressed-tensors": _config(quantization_config={"quant_method": "compressed-tensors", "format": "float"}),
    "unknown quantisation": _config(quantization_config={"quant_method": "mine"}),
    "quantisation of the wrong shape": _config(quantization_config="int4"),
    "an adapter alone": _adapter_only,
    "an adapter beside": _write("adapter_config.json", b'{"base_model_name_or_path": "org/base"}'),
    "adapter weights inside": _edit(_lora),
    "the same weight twice": _edit(_twice),
    "a distributed checkpoint": _distributed,
    "a pickle": _pickle("pytorch_model.bin"),
    "a pickle with .pt": _pickle("model.pt"),
    "a pickle with .ckpt": _pickle("last.ckpt"),
    "a pickle named safetensors": lambda folder: torch.save(_held(folder), folder / WHOLE),
    "no weights file": _remove(WHOLE),
    "weights a folder": _folder_instead(WHOLE),
    "weights a dangling link": _link(WHOLE, "nowhere.safetensors"),
    "weights a loop": _link(WHOLE, WHOLE),
    "a shard missing": _index(lambda index, folder: (folder / "model-00002-of-00002.safetensors").unlink()),
    "a shard empty": _index(lambda index, folder: void((folder / "model-00002-of-00002.safetensors").write_bytes(b""))),
    "a shard a pointer": _index(
        lambda index, folder: void((folder / "model-00002-of-00002.safetensors").write_bytes(POINTER))
    ),
    "index leads out": _index(_escape),
    "index absolute": _index(lambda index, folder: _name_everywhere(str(folder / "a.safetensors"))(index, folder)),
    "index names a pickle": _index(_name_everywhere("pytorch_model.bin")),
    "index of one shard": _index(_name_everywhere("model-00001-of-00002.safetensors")),
    "index a list": _index(lambda index, folder: []),
    "index without a map": _index(lambda index, folder: {"metadata": {}}),
    "index maps to numbers": _index(lambda index, folder: {"weight_map": {NORM: 3}}),
    "index without metadata": _index(lambda index, folder: {"weight_map": index["weight_map"]}),
    "index empty": _index(lambda index, folder: {"weight_map": {}}),
    "index with a zero byte": _index(_name_everywhere("a\0.safetensors")),
    "config.json missing": _remove("config.json"),
    "config.json a folder": _folder_instead("config.json"),
    "config.json a dangling link": _link("config.json", "nowhere.json"),
    "config.json empty": _write("config.json", b""),
    "config.json cut": _cut("config.json", 0.6),
    "config.json null": _write("config.json", b"null"),
    "config.json a list": _write("config.json", b"[1]"),
    "config.json Latin-1": _write("config.json", b'{"a": "\xe9"}'),
    "config.json UTF-16": _write("config.json", '{"a": 1}'.encode("utf-16")),
    "config.json nested": _write("config.json", _nested(200_000).encode()),
    "model_type unknown": _config(model_type="nonesuch"),
    "model_type missing": _config(model_type=None),
    "model_type a list": _config(model_type=["llama"]),
    "architectures lie": _config(architectures=["MistralForCausalLM"]),
    "architectures of its own": _config(architectures=["MineForCausalLM"]),
    "architectures a number": _config(architectures=7),
    "a classifier": _config(architectures=["LlamaForSequenceClassification"]),
    "a base model": _config(architectures=["LlamaModel"]),
    "code of its own": _config(auto_map={"AutoModelForCausalLM": "modeling.Mine", "AutoConfig": "modeling.Conf"}),
    "code of its own, new type": _config(
        auto_map={"AutoModelForCausalLM": "modeling.Mine", "AutoConfig": "modeling.Conf"}, model_type="mine"
    ),
    "code of a hub": _config(auto_map={"AutoModelForCausalLM": "org/name--modeling.Mine"}),
    "auto_map a list": _config(auto_map=["modeling.Mine"]),
    "kernel of a hub": _config(_attn_implementation="org/kernel:run", attn_implementation="org/kernel:run"),
    "other weights named": _config(transformers_weights="other.safetensors"),
    "width below 0": _config(hidden_size=-32),
    "no heads": _config(num_attention_heads=0),
    "width a text": _config(hidden_size="32"),
    "width a fraction": _config(hidden_size=32.5),
    "layers a list": _config(num_hidden_layers=[2]),
    "layers without end": _config(num_hidden_layers=10**9),
    "vocabulary without end": _config(vocab_size=10**11),
    "intermediate without end": _config(intermediate_size=10**12),
    "heads that do not divide": _config(num_attention_heads=5, head_dim=None),
    "activation unknown": _config(hidden_act="nonesuch"),
    "dtype unknown": _config(dtype="float7"),
    "dtype a number": _config(dtype=3),
    "rope of the wrong shape": _config(rope_parameters=[1]),
    "rope unknown": _config(rope_parameters={"rope_type": "nonesuch"}),
    "embeddings that differ but are tied": _untie,
    "T5": _other_model(model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
    "BART": _other_model(model_type="bart", architectures=["BartForConditionalGeneration"], is_encoder_decoder=True),
    "BERT": _other_model(model_type="bert", architectures=["BertForMaskedLM"]),
    "ViT": _other_model(model_type="vit", architectures=["ViTForImageClassification"]),
    "CLIP": _other_model(model_type="clip", architectures=["CLIPModel"]),
    "Whisper": _other_model(model_type="whisper", architectures=["WhisperForConditionalGeneration"]),
}  # fmt: skip


HARMLESS: dict[str, dict[str, Any]] = {
    "several ends of a text": {"eos_token_id": [1, 5, 7]},
    "patterns asked for": {"output_attentions": True},
    "states asked for": {"output_hidden_states": True},
    "tuples asked for": {"return_dict": False},
}
"""Entries of a config.json that change no number of a model."""


def _tokenizer_json(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        values = json.loads((folder / "tokenizer.json").read_text())
        change(values)
        (folder / "tokenizer.json").write_text(json.dumps(values))

    return damage


def _deep_normalizer(values: dict[str, Any]) -> None:
    normalizer: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(400):
        normalizer = {"type": "Sequence", "normalizers": [normalizer]}
    values["normalizer"] = normalizer


def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _slow_alone(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>" * 9)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')


TOKENIZERS: dict[str, Damage] = {
    "no tokenizer": _no_tokenizer,
    "tokenizer.json empty": _write("tokenizer.json", b""),
    "tokenizer.json a pointer": _write("tokenizer.json", POINTER),
    "tokenizer.json a list": _write("tokenizer.json", b"[]"),
    "tokenizer.json null": _write("tokenizer.json", b"null"),
    "tokenizer.json cut": _cut("tokenizer.json", 0.5),
    "tokenizer.json a folder": _folder_instead("tokenizer.json"),
    "tokenizer.json a dangling link": _link("tokenizer.json", "nowhere"),
    "tokenizer.json without a model": _tokenizer_json(lambda values: values.pop("model")),
    "tokenizer.json of an unknown kind": _tokenizer_json(lambda values: values["model"].update(type="Nonesuch")),
    "merges of no tokens": _tokenizer_json(lambda values: values["model"].update(merges=["nonesuch thing"])),
    "padding without end": _tokenizer_json(lambda values: values.update(padding=_PADDING)),
    "nested without end": _tokenizer_json(_deep_normalizer),
    "nested beyond JSON": _write("tokenizer.json", _nested(100_000).encode()),
    "a broken pattern": _tokenizer_json(
        lambda values: values.update(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(" * 9}, "behavior": "Isolated", "invert": False}
        )
    ),
    "tokenizer_config.json a list": _write("tokenizer_config.json", b"[]"),
    "tokenizer_config.json null": _write("tokenizer_config.json", b"null"),
    "tokenizer_config.json cut": _cut("tokenizer_config.json", 0.5),
    "tokenizer_config.json a pointer": _write("tokenizer_config.json", POINTER),
    "tokenizer class a number": lambda folder: change_json(folder, "tokenizer_config.json", tokenizer_class=3),
    "added tokens of the wrong shape": lambda folder: change_json(
        folder, "tokenizer_config.json", added_tokens_decoder=[1, 2]
    ),
    "tokenizer code of its own": lambda folder: change_json(
        folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.Mine", None]}
    ),
    "tokenizer code as a list": lambda folder: change_json(
        folder, "tokenizer_config.json", auto_map=["tokenization.Mine", None]
    ),
    "a slow tokenizer that is none": _slow_alone,
}  # fmt: skip
_PADDING = {
    "strategy": {"Fixed": 2**40}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2, "pad_type_id": 0,
    "pad_token": "<|pad|>",
}  # fmt: skip
