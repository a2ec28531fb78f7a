"""A student of its teacher's architecture: fewer layers, narrower ones, and the teacher's weights cut to its sizes.

Letters: H query heads, K key and value heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import JsonValue
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from stillroom.models.architectures import all_fields, config_of, layer_kinds, with_layers
from stillroom.models.forward import layer_list
from stillroom.models.loading import modules_of, read_config
from stillroom.models.meta import llama_config
from stillroom.models.model_config import LikeTeacherConfig, ModelConfig
from stillroom.types import UserError

_INNER = re.compile(r"(\w+_)?intermediate_size(_mlp)?|n_inner|(\w+_)?ffn_(hidden_size|dim)|block_ff_dim")
_WIDTH = re.compile(r"hidden_size|n_embd|d_model")
_JOINED = {"c_attn": (3, -1), "in_proj": (3, 0), "gate_up_proj": (2, -2)}
"""Matrices of several in one, end to end: how many, and along which dimension."""
_NAMES = """
    gemma gemma2 gemma3_text gpt2 gpt_neox granite lfm2 llama mistral mixtral olmo olmo2 olmo3 qwen2 qwen3 qwen3_moe
    smollm3
"""
NARROWED = frozenset(_NAMES.split())
"""Model types of whose weights the first parts are heads, channels and neurons, but for ``_JOINED``."""


def fields_like(teacher: ModelConfig, like: LikeTeacherConfig) -> dict[str, JsonValue]:
    """The fields of the configuration of a student of ``teacher``'s architecture.

    Raises ``UserError`` for a teacher that is not there, and where its architecture cannot be made so.
    """
    config = _config_of_teacher(teacher)
    kinds = _kinds_of(config)
    keep = _kept(kinds, like.depth)
    fields = with_layers(_narrower(config, like.width), keep, config)
    if not kinds or _kinds_of(config_of(fields, "like_teacher")) != [kinds[place] for place in keep]:
        raise UserError(
            f"like_teacher: the layers of a {config.model_type} are not laid out so that some can be left out; give "
            "student.config the sizes that you want."
        )
    if like.weights == "cut" and like.width < 1 and config.model_type not in NARROWED:
        raise UserError(
            f"like_teacher: of the weights of a {config.model_type} it is not known which parts are heads and neurons, "
            "so they are cut in depth alone; set width to 1, or weights to random."
        )
    return fields


def _config_of_teacher(teacher: ModelConfig) -> PreTrainedConfig:
    if teacher.path is not None:
        config = read_config(teacher.path)
        return config.get_text_config()
    if isinstance(teacher.config, dict):
        return config_of(teacher.config, "teacher.model.config")
    return llama_config(teacher, vocab_size=1)


def _kinds_of(config: PreTrainedConfig) -> list[tuple[object, ...]]:
    return layer_kinds(modules_of(config))


def _kept(kinds: Sequence[tuple[object, ...]], depth: float) -> list[int]:
    """Numbers of the layers that are kept: of every kind its share, at least one, by the largest remainders."""
    shares = {kind: depth * kinds.count(kind) for kind in dict.fromkeys(kinds)}
    counts = {kind: max(1, int(share)) for kind, share in shares.items()}
    left = round(depth * len(kinds)) - sum(counts.values())
    for kind in sorted(shares, key=lambda one: counts[one] - shares[one])[: max(0, left)]:
        counts[kind] += 1
    return sorted(place for kind, count in counts.items() for place in _evenly(_places(kinds, kind), count))


def _places(kinds: Sequence[tuple[object, ...]], kind: tuple[object, ...]) -> list[int]:
    return [place for place, other in enumerate(kinds) if other == kind]


def _evenly(places: Sequence[int], num: int) -> list[int]:
    """``num`` of some places, the first and the last among them."""
    return [places[number * (len(places) - 1) // max(1, num - 1)] for number in range(num)]


def _narrower(config: PreTrainedConfig, width: float) -> dict[str, JsonValue]:
    """The fields with widths as parts of what they are; heads keep their size and their number for each key."""
    fields = all_fields(config)
    if width == 1:
        return fields
    name = next((name for name in fields if _WIDTH.fullmatch(name)), None)
    heads, hidden = getattr(config, "num_attention_heads", None), config.hidden_size
    if name is None or not isinstance(heads, int):
        raise UserError(f"like_teacher: a {config.model_type} has no one number of heads to lower; set width to 1.")
    groups = getattr(config, "num_key_value_heads", None) or heads
    fewer_groups = _part(groups, width)
    fewer = _part(heads, width) if groups == 1 else heads // groups * fewer_groups
    named = {"num_attention_heads": fewer, "num_key_value_heads": fewer_groups}
    fields |= {one: value for key, value in named.items() if (one := config.attribute_map.get(key, key)) in fields}
    multiple = fewer * (8 if hidden // heads % 8 == 0 else 1)
    fields[name] = _part(hidden, width, multiple) if "head_dim" in fields else hidden // heads * fewer
    inner = {one: value for one, value in fields.items() if _INNER.fullmatch(one) and isinstance(value, int)}
    return fields | {one: _part(value, width, 8 if value % 8 == 0 else 1) for one, value in inner.items()}


def _part(number: int, width: float, multiple: int = 1) -> int:
    return max(1, round(number * width / multiple)) * multiple


def cut_weights(student: PreTrainedModel, teacher: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every weight that a student begins with, from its teacher: of layers of a kind evenly spaced ones, of matrices
    the first parts. ``student`` may be on the meta device.
    """
    layers = _sources(student, teacher)
    place = f"{next(name for name, part in student.named_modules() if part is layer_list(student))}."
    whole = teacher.state_dict()
    own = {name for name, _ in student.named_parameters()} | {name for name, _ in student.named_buffers()}
    for name, value in student.state_dict().items():
        if name in own:
            number, point, inner = name.removeprefix(place).partition(".")
            source = f"{place}{layers[int(number)]}{point}{inner}" if name.startswith(place) else name
            yield name, _first_parts(whole[source], value.shape, name)


def _sources(student: PreTrainedModel, teacher: PreTrainedModel) -> list[int]:
    """The number of the teacher's layer that each of the student's begins as."""
    kinds, wanted = layer_kinds(teacher), layer_kinds(student)
    picked = {kind: iter(_evenly(_places(kinds, kind), wanted.count(kind))) for kind in wanted if kind in kinds}
    if any(wanted.count(kind) > kinds.count(kind) for kind in wanted):
        raise UserError(
            f"like_teacher: the student has {len(wanted)} layers that are not all of kinds that its teacher has; take "
            "out student.config, so that it follows the teacher."
        )
    return [next(picked[kind]) for kind in wanted]


def _first_parts(whole: Tensor, shape: Sequence[int], name: str) -> Tensor:
    """The first part of a weight in every dimension; where it holds several end to end, of each."""
    joined, along = next((_JOINED[part] for part in name.split(".") if part in _JOINED), (1, 0))
    for dim, (have, want) in enumerate(zip(whole.shape, shape, strict=True)):
        if want > have:
            raise UserError(f"like_teacher: {name} has {want} rows, its teacher's {have}; give a teacher as large.")
        parts = joined if dim == along % whole.ndim else 1
        whole = whole.unflatten(dim, (parts, have // parts)).narrow(dim + 1, 0, want // parts).flatten(dim, dim + 1)
    return whole.float() if whole.is_floating_point() else whole
