"""What a model folder of others must be before any library reads it: its configuration and its files of weights.

Nothing here builds a model. Weights are read as safetensors only: a pickle can run code.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from stillroom.files import read_json_object, reading
from stillroom.models.locate import INDEX, SINGLE, Source, libraries
from stillroom.types import UserError

_POINTER = b"version https://git-lfs"
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LARGEST_JSON = 64 << 20
_MOST_LAYERS = 10_000
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "n_embd", "n_layer", "n_head")
WRAPPER = r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
"""A part of a weight's name that ``torch.compile``, FSDP or activation checkpointing puts in."""
FRACTIONS = {"F64", "F32", "F16", "BF16"}
"""Types of weights, in the words of safetensors."""
_FOREIGN_TYPES = re.compile(r"F4$|F[68]_|C")


def checked_json(path: Path, wanted: str) -> dict[str, object]:
    """The JSON object of a file of a model folder; refuses pointers of git-lfs and files far beyond their kind."""
    check_file(path, wanted)
    if path.stat().st_size > _LARGEST_JSON:
        raise UserError(f"{path}: is larger than {_LARGEST_JSON >> 20} MiB; expected {wanted}.")
    return read_json_object(path, wanted)


def check_file(path: Path, wanted: str) -> None:
    """Refuses what is no file with bytes of its own: missing, a folder, a pipe, empty, or a pointer of git-lfs."""
    with reading(path, wanted):
        size = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path}: is no regular file; expected {wanted}.")
        with path.open("rb") as handle:
            head = handle.read(len(_POINTER))
    if not size:
        raise UserError(f"{path}: is empty; expected {wanted}: fetch or save it again.")
    if head == _POINTER:
        raise UserError(
            f"{path}: is a pointer of git-lfs, not the file itself; expected {wanted}: fetch it with git lfs pull."
        )


def check_config(source: Source) -> None:
    """Refuses a folder whose ``config.json`` is of no causal language model that can be read as it is.

    Raises ``UserError`` for other models, code of the folder's own, adapters and quantised weights.
    """
    path = source.folder / "config.json"
    if not path.is_file() and not path.is_symlink():
        _refuse_folder_without_config(source)
    config = checked_json(path, "the configuration of a model")
    check_no_code(path, config)
    if (source.folder / "adapter_config.json").is_file():
        raise _adapter(source)
    if "transformers_weights" in config or "configuration_files" in config:
        raise UserError(f"{path}: names other files to read; expected {SINGLE} or {INDEX} beside it: save it anew.")
    _check_kind_of_model(source, config)
    _check_not_quantised(path, config)
    _check_sizes(path, config)


def check_no_code(path: Path, config: Mapping[str, object]) -> None:
    """Refuses a configuration that wants code of its own to run, or kernels from the hub."""
    if config.get("auto_map"):
        raise UserError(
            f"{path}: auto_map wants code from the folder to run, which is never done; expected a model or tokenizer "
            f"of transformers {transformers_version}: if it is one, save it from there without that entry."
        )
    for name, value in _entries(config):
        if "implementation" in name and isinstance(value, str) and "/" in value:
            raise UserError(f"{path}: {name} wants code from the hub ({value}); expected a name such as sdpa.")


def _refuse_folder_without_config(source: Source) -> None:
    if (source.folder / "adapter_config.json").is_file():
        raise _adapter(source)
    raise UserError(
        f"{source.given}: holds no config.json; expected a Hugging Face model folder, a run's model or a hub id."
    )


def _adapter(source: Source) -> UserError:
    return UserError(
        f"{source.given}: holds an adapter (adapter_config.json), whose weights change another model's; expected a "
        "whole model: merge the adapter into its base model and save that."
    )


def _check_kind_of_model(source: Source, config: Mapping[str, object]) -> None:
    path = source.folder / "config.json"
    kind, names = config.get("model_type"), config.get("architectures") or []
    if not isinstance(kind, str):
        raise UserError(f"{path}: model_type is {kind!r}; expected the name of a causal language model, such as llama.")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: architectures is {names!r}; expected a list of one name, such as LlamaForCausalLM.")
    if kind not in CONFIG_MAPPING_NAMES:
        raise UserError(
            f"{path}: model_type {kind!r} is none that transformers {transformers_version} knows; expected a causal "
            "language model of its: update transformers if the model is newer."
        )
    found = names[0] if names else kind
    causal = _causal_names(kind)
    if not causal or (not names and config.get("is_encoder_decoder") is True):
        raise UserError(f"{source.given}: is a {found} ({kind}); expected a causal language model.")
    for name in names:
        if name.lower() not in {one.lower() for one in causal}:
            raise UserError(f"{source.given}: is a {name} ({kind}); expected a causal language model ({causal[0]}).")


def _causal_names(kind: str) -> list[str]:
    """Classes that transformers has for causal language models of a type."""
    names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, ())
    return [names] if isinstance(names, str) else list(names)


def _check_not_quantised(path: Path, config: Mapping[str, object]) -> None:
    for name, value in _entries(config):
        if name in ("quantization_config", "compression_config") and value:
            method = value.get("quant_method", "unknown method") if isinstance(value, dict) else value
            raise UserError(
                f"{path}: the weights are quantised ({method}); expected them in full precision: give the model that "
                "was quantised, or a GGUF file of it."
            )


def _check_sizes(path: Path, config: Mapping[str, object]) -> None:
    """Refuses sizes that no model has, before anything is built of them."""
    for name in _SIZES:
        value = config.get(name)
        if name.endswith(("heads", "n_head")) and isinstance(value, list):  # one for each layer
            continue
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"{path}: {name} is {value!r}; expected a whole number above 0.")
    for name, value in _entries(config):
        if isinstance(value, int) and name.endswith(("layers", "n_layer")) and value > _MOST_LAYERS:
            raise UserError(f"{path}: {name} is {value}; expected at most {_MOST_LAYERS}.")
        if name in ("dtype", "torch_dtype") and not _is_type(value):
            raise UserError(f"{path}: {name} is {value!r}; expected a type of torch, such as bfloat16.")


def _is_type(value: object) -> bool:
    """Whether a configuration may give this as the type of its weights: a name, or one for each part."""
    if isinstance(value, str):
        return value == "auto" or isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype)
    return value is None or isinstance(value, dict)


def _entries(config: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Every named value of a configuration and of those inside it."""
    for name, value in config.items():
        yield name, value
        if isinstance(value, dict) and name not in ("quantization_config", "id2label", "label2id"):
            yield from _entries(value)


@dataclass(frozen=True)
class StoredWeight:
    """One tensor of a safetensors file as its header describes it."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    """In the words of safetensors: F32, BF16, I64 ..."""


def weight_files(source: Source) -> list[Path]:
    """The safetensors files of a folder's weights, one or those that its index names; none leads out of the folder."""
    folder = source.folder
    if shards := [file.name for file in folder.glob("shard-*") if _DISTRIBUTED.fullmatch(file.name)]:
        raise UserError(
            f"{source.given}: holds shards of a distributed checkpoint ({shards[0]}); expected {SINGLE} or {INDEX}: "
            "export the run or save the model whole."
        )
    if (folder / SINGLE).is_symlink() or (folder / SINGLE).exists():
        return [folder / SINGLE]
    if (folder / INDEX).is_symlink() or (folder / INDEX).exists():
        return _shards(folder / INDEX)
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    found = f"its weights are a pickle ({pickles[0]}), which can run code" if pickles else "holds no weights"
    raise UserError(f"{source.given}: {found}; expected {SINGLE} or {INDEX}: save the model as safetensors.")


def _shards(path: Path) -> list[Path]:
    index = checked_json(path, "an index of safetensors files")
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{path}: has no weight_map from weights to files; expected an index of safetensors files.")
    if not isinstance(index.get("metadata"), dict):
        raise UserError(f'{path}: has no metadata; expected an index of safetensors files: add "metadata": {{}} to it.')
    names = sorted(set(places.values()))
    for name in names:
        if not name.endswith(".safetensors") or re.search(r"[/\\\0]", name):
            raise UserError(f"{path}: names {name}; expected .safetensors files in the same folder.")
    return [path.parent / name for name in names]


def stored_weights(files: Iterable[Path]) -> dict[str, StoredWeight]:
    """Every tensor of safetensors files by the name that it is stored under.

    Raises ``UserError`` for files that are cut, damaged, empty, not the format, or hold the same weight twice.
    """
    stored: dict[str, StoredWeight] = {}
    for file in files:
        wanted = "a safetensors file of weights"
        check_file(file, wanted)
        length = _header_length(file, wanted)
        with libraries(file, "weights", f"{wanted}, undamaged: fetch or save it again"):
            found = list(_described(file, length))
        for weight in found:
            if weight.name in stored:
                raise UserError(
                    f"{file}: holds {weight.name}, which {stored[weight.name].file.name} holds too; keep one."
                )
            stored[weight.name] = weight
    if not stored:
        raise UserError(f"{', '.join(map(str, files))}: holds no weights at all; fetch or save the model again.")
    return stored


def _header_length(file: Path, wanted: str) -> int:
    """Bytes of a file's header; says of a file that was cut there that it was."""
    with reading(file, wanted), file.open("rb") as handle:
        head, size = handle.read(8), file.stat().st_size
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
    if length + 8 > size:
        raise UserError(f"{file}: ends inside its header, at {size} bytes; expected {wanted}: fetch or save it again.")
    return length


def _described(file: Path, length: int) -> Iterator[StoredWeight]:
    """What the header says, once its reader has found that it fits the file."""
    with safe_open(file, "pt"), file.open("rb") as handle:
        header = json.loads(handle.read(8 + length)[8:])
    for name, entry in header.items():
        if name != "__metadata__":
            yield StoredWeight(file, name, tuple(entry["shape"]), entry["dtype"])


def plain_names(stored: Iterable[str]) -> dict[str, str]:
    """The names of weights without the wrappers of ``torch.compile``, FSDP and DDP, by the stored ones.

    ``_orig_mod.`` and FSDP's names are taken off wherever they stand, ``module.`` where every name begins with it.
    """
    plain = {name: re.sub(WRAPPER, "", name) for name in stored}
    while plain and all(name.startswith("module.") for name in plain.values()):
        plain = {stored: name.removeprefix("module.") for stored, name in plain.items()}
    return plain


def check_types(stored: dict[str, StoredWeight]) -> None:
    """Refuses weights in types that mean nothing without a scale beside them."""
    for weight in stored.values():
        if _FOREIGN_TYPES.match(weight.dtype):
            raise wrong_type(weight)


def wrong_type(weight: StoredWeight) -> UserError:
    """What is said of a weight in a type that is none of fractions."""
    return UserError(
        f"{weight.file}: {weight.name} is stored as {weight.dtype}; expected F32, F16 or BF16: give the model in full "
        "precision."
    )


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, all of them numbers; a ``UserError`` that names it where it is damaged."""
    check_types(stored_weights([file]))
    with libraries(file, "weights", "a safetensors file of weights, undamaged: fetch or save it again"):
        weights = load_file(file)
    if broken := [name for name, value in weights.items() if not is_finite(value)]:
        raise UserError(f"{file}: {broken[0]} holds NaN or infinities; expected numbers: fetch or save it again.")
    return weights


def is_finite(values: Tensor) -> bool:
    """Whether a tensor holds numbers only.

    A sum is a number where every summand is, unless it overflows: one pass over memory, and a second for suspects.
    """
    if not values.is_floating_point():
        return True
    wide = torch.float32 if values.dtype == torch.float16 else values.dtype  # which overflows at 65,504
    return bool(torch.isfinite(values.sum(dtype=wide))) or bool(torch.isfinite(values).all())
