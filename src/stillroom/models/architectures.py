"""New models of any causal architecture that transformers has: its configuration as plain fields, and back.

The fields of a configuration are those of its class, whatever a file left to defaults, without what belongs to a
vocabulary: so they make the same model wherever and whenever they are read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from stillroom.models.checks import checked_json
from stillroom.models.forward import layer_list
from stillroom.models.loading import read_config
from stillroom.models.locate import find_source
from stillroom.models.meta import llama_config
from stillroom.models.model_config import ModelConfig
from stillroom.strict import nearest
from stillroom.types import SpecialIds, UserError

Fields = Mapping[str, Any]
"""Those of a configuration by name, ``model_type`` among them."""
_OF_FILES = (
    "architectures", "dtype", "torch_dtype", "id2label", "label2id", "quantization_config", "return_dict",
    "transformers_version", "use_cache", "vocab_size",
)  # fmt: skip
"""What says nothing of an architecture, or what the corpus's vocabulary says."""
_MOST_LAYERS = 10_000
_INDICES = ("idxs", "indices", "layer_ids", "only_layers")
"""Ends of names of lists of layers' numbers."""


def architecture_fields(given: str | Fields | None, overrides: Fields) -> dict[str, JsonValue]:
    """The fields of a configuration: of a ``config.json``, folder, GGUF file or hub id, or given; some set otherwise.

    Raises ``UserError`` for what is no configuration of a causal language model, and for overrides that it has not.
    """
    config = _config_at(given) if isinstance(given, str) else config_of(given or {}, "its fields")
    if not isinstance(given, str):
        _check_known([name for name in given or {} if name != "model_type"], type(config), "config")
    fields, kind = _own_fields(config), type(config)
    named = {kind.attribute_map.get(name, name): value for name, value in overrides.items()}
    _check_known(named, kind, "overrides")
    number = named.get(_layers_name(kind))
    if isinstance(number, int) and 0 < number <= _MOST_LAYERS:
        fields = with_layers(fields, [place % config.num_hidden_layers for place in range(number)], config)
    for name, value in named.items():
        old = fields.get(name)
        fields[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return _own_fields(config_of(fields, "its fields with overrides")) if overrides else fields


def _config_at(given: str) -> PreTrainedConfig:
    place = Path(given).expanduser()
    if place.suffix == ".json" and not place.is_file():
        raise UserError(f"{given}: no such file; expected a config.json, a folder that holds one, or a hub id.")
    source = None if place.is_file() else find_source(given, weights=False)
    if place.suffix == ".gguf" or (source is not None and source.gguf is not None):
        return _text_part(read_config(given), given)
    file = place if source is None else source.folder / "config.json"
    return config_of(checked_json(file, "the configuration of a model"), str(file))


def config_of(fields: Fields, given: str) -> PreTrainedConfig:
    """The configuration of a causal language model that holds these fields; ``given`` is what the user calls them.

    Of a model of several parts it is that of its language model.
    """
    with tempfile.TemporaryDirectory() as folder:  # it is read, and so checked, as any other
        kept = {name: value for name, value in fields.items() if name not in ("architectures", "quantization_config")}
        (Path(folder) / "config.json").write_text(json.dumps(kept))
        try:
            config = read_config(folder)
        except UserError as error:
            said = str(error).replace(f"{folder}/config.json", given).replace(folder, given)
            raise UserError(said) from error.__cause__
    config.name_or_path = ""
    return _text_part(config, given)


def _text_part(config: PreTrainedConfig, given: str) -> PreTrainedConfig:
    text = config.get_text_config()
    return config if text is config else config_of(text.to_dict(), given)


def all_fields(config: PreTrainedConfig) -> dict[str, JsonValue]:
    """What makes a configuration the one that it is, what its class works out included."""
    known = {*type(config)().to_dict(), "model_type"}
    kept = {name: value for name, value in config.to_diff_dict().items() if name in known and not _is_of_files(name)}
    return json.loads(json.dumps(kept))


def _own_fields(config: PreTrainedConfig) -> dict[str, JsonValue]:
    """The same without what its class works out of the others, which so follows them when they are changed."""
    fields, kind = all_fields(config), type(config)
    for name in [one.name for one in dataclasses.fields(kind) if one.default is None and fields.get(one.name)]:
        others = {other: value for other, value in fields.items() if other not in (name, "model_type")}
        with contextlib.suppress(Exception):  # what a class raises without it is its own affair: then it stays
            if json.loads(json.dumps(kind.from_dict(others).to_dict().get(name))) == fields[name]:
                del fields[name]
    return fields


def _is_of_files(name: str) -> bool:
    return name in _OF_FILES or name.startswith("_") or name.endswith("_token_id")


def _layers_name(kind: type[PreTrainedConfig]) -> str:
    return kind.attribute_map.get("num_hidden_layers", "num_hidden_layers")


def _check_known(names: Iterable[str], kind: type[PreTrainedConfig], where: str) -> None:
    """Refuses names that are no fields of an architecture: its class would take them without a word."""
    known = [name for name in kind().to_dict() if not _is_of_files(name)]
    for name in names:
        if name == "model_type" or _is_of_files(name):
            raise UserError(f"{where}: {name} cannot be set, for the corpus or the file says it; leave it out.")
        if name not in known:
            hint = nearest(name, known).partition("; expected one")[0]
            raise UserError(f"{where}: {name} is no field of a {kind.__name__}{hint or '; see its documentation'}.")


def with_layers(fields: Fields, keep: Sequence[int], config: PreTrainedConfig) -> dict[str, JsonValue]:
    """The fields of ``config`` with these of its layers, which lists of something for every layer follow."""
    made = {**fields, _layers_name(type(config)): len(keep)}
    for name, value in fields.items():
        if isinstance(value, list) and name.endswith(_INDICES):
            made[name] = [number for number, old in enumerate(keep) if old in value]
        elif isinstance(value, list) and len(value) == config.num_hidden_layers:
            made[name] = [value[old] for old in keep]
    return made


def shallower(model: ModelConfig, fewer: int) -> dict[str, JsonValue]:
    """The fields of a new model without its last few layers."""
    config = new_config(model, 1, SpecialIds())
    return with_layers(all_fields(config), range(config.num_hidden_layers - fewer), config)


def new_config(model: ModelConfig, vocab_size: int, special: SpecialIds) -> PreTrainedConfig:
    """The configuration of a new model over a vocabulary, with the ids of its tokenizer; where none is, none are."""
    if model.config is None and model.like_teacher is not None:
        raise UserError("like_teacher: no teacher is given here, expected a study's student; give config instead.")
    if not isinstance(model.config, dict):
        return llama_config(model, vocab_size, special)
    ids = {"bos_token_id": special.bos, "eos_token_id": special.eos, "pad_token_id": special.pad}
    config = config_of({**model.config, "vocab_size": vocab_size, **ids}, "config")
    _check_known([name for name in model.config if name != "model_type"], type(config), "config")
    return config


def layer_kinds(model: PreTrainedModel) -> list[tuple[object, ...]]:
    """What kind of layer every layer is: of what modules, and of which type; empty where no list of layers is found."""
    layers = layer_list(model)
    types = getattr(model.config.get_text_config(), "layer_types", None) or [None] * len(layers or ())
    return [
        (types[number], *(_kind(name, part) for name, part in layer.named_modules()))
        for number, layer in enumerate(layers or ())
    ]


def _kind(name: str, module: nn.Module) -> tuple[object, ...]:
    return name, type(module), getattr(module, "sliding_window", None)
