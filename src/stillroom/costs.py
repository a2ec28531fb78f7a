"""What a model costs: parameters, FLOPs, memory and bytes, of a configuration, of a model on disk, or of a built one.

Everything follows from the names and shapes of a model's weights and a few fields of its configuration. Those of a
configuration are written down here, those of a folder are in its ``config.json`` and the headers of its safetensors
files, so neither torch nor transformers is imported; a hub id or a GGUF file is laid out by the library of its layout.

Letters: V vocabulary, D width, L layers, T positions.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.files import read_json_object, reading
from stillroom.models.model_config import ModelConfig
from stillroom.types import SpecialIds, UserError

Shapes = Mapping[str, Sequence[int]]
"""Name to shape of every weight, tied ones once or twice."""

STATE_BYTES = 16
"""Per parameter in training: fp32 weight, gradient and two moments."""
_BLOCK_NUMBERS = 34
"""Numbers of width D kept per position inside a block for its backward pass (no scores are kept)."""
_HEAD_POSITIONS = 4096
"""Positions whose logits are held at once."""

_LOOKED_UP = re.compile(
    r"(wte|wpe|word_embeddings?|tok_embeddings?|embed(?!_out)\w*|embeddings?|\w+_embeddings?)\.weight$"
)
"""Tables of which a token reads one row."""
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output_layer)\.(?:\w+\.)*weight$")
_DERIVED = re.compile(r"(inv_freq|(cos|sin)_cached|position_ids|e_score_correction_bias|masked_bias)$")
_MASK = re.compile(r"\.(attn|attention|self_attn)\.bias$")
_ROUTED = re.compile(r"(^|\.)experts\.")
_WIDTHS = ("hidden_size", "n_embd", "d_model", "emb_dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_NO_SCORES = ("linear", "conv", "mamba", "recurrent", "ssm", "mlp", "moe")
"""Words of ``layer_types`` whose layers compare no pairs of positions."""


@dataclass(frozen=True)
class Size:
    """What decides the cost of a token."""

    parameters: int
    """All, embeddings included, tied ones once."""
    tables: int
    """Of these: the embedding and, where it is another, the unembedding."""
    width: int
    layers: int
    blocks: float
    """Multiply-adds per token of the matrices inside blocks; of routed experts those that a token takes."""
    unembedding: int
    """Multiply-adds per token of the unembedding."""
    pair_widths: tuple[tuple[float, int | None], ...]
    """Of every layer with attention: multiply-adds per pair of positions, and its window if it has one."""

    def flops_per_token(self, sequence_length: int, *, backward: bool, further_heads: int = 0) -> float:
        """Model FLOPs per token: 2 per multiply-add of matrices and of causal attention over the mean T/2 positions.

        A backward pass counts twice a forward pass (Kaplan et al. 2020, 2001.08361, appendix B, plus attention). Heads
        beyond the first are a block each, with the unembedding once more. Recomputation, norms and the recurrences of
        layers without attention are not counted.
        """
        pairs = sum(width * _mean_context(sequence_length, window) for width, window in self.pair_widths)
        blocks = (self.blocks + pairs) * (1 + further_heads / max(1, self.layers))
        return 2.0 * (blocks + (1 + further_heads) * self.unembedding) * (3.0 if backward else 1.0)


def _mean_context(length: int, window: int | None) -> float:
    """Earlier positions that a position attends to, in the mean over a sequence."""
    if window is None or window >= length:
        return length / 2
    return window * (length - window / 2) / length


def size_of(config: ModelConfig, vocab_size: int) -> Size:
    """The size of a configuration's model: a fresh one in the Llama layout, or the pretrained one of ``path``.

    Of one that is not on this machine the sizes beside its path are taken where they are given.
    """
    if config.path is not None and (_is_here(config.path) or config == ModelConfig(path=config.path)):
        return size_of_path(config.path)
    if config.path is None and not config.has_llama_sizes:
        return _size_of_new(config.model_dump_json(), vocab_size)
    width, layers = config.hidden_size, config.num_layers
    blocks = layers * sum(math.prod(shape) for shape in _block_matrices(config))
    unembedding = vocab_size * width
    tables = unembedding * (1 if config.tie_embeddings else 2)
    parameters = blocks + (2 * layers + 1) * width + tables
    return Size(parameters, tables, width, layers, blocks, unembedding, ((2 * width, None),) * layers)


@functools.lru_cache
def _size_of_new(config: str, vocab_size: int) -> Size:
    """Of a new model of any architecture, laid out by its own modules."""
    from stillroom.models import modules_of, new_config

    return size_of_model(modules_of(new_config(ModelConfig.model_validate_json(config), vocab_size, SpecialIds())))


def _block_matrices(config: ModelConfig) -> list[tuple[int, int]]:
    width, inner = config.hidden_size, config.intermediate_size
    kv_width = width // config.num_heads * (config.num_kv_heads or config.num_heads)
    return [(width, width)] * 2 + [(width, kv_width)] * 2 + [(width, inner)] * 3


def num_parameters(config: ModelConfig, vocab_size: int) -> int:
    """Parameters of a configuration's model, embeddings included (counted once where they are tied)."""
    return size_of(config, vocab_size).parameters


def flops_per_token(config: ModelConfig, vocab_size: int, sequence_length: int, *, backward: bool) -> float:
    """Model FLOPs per token of a configuration's model (``Size.flops_per_token``)."""
    return size_of(config, vocab_size).flops_per_token(sequence_length, backward=backward)


def _is_here(path: str) -> bool:
    return (Path(path).expanduser() / "config.json").is_file()


def size_of_path(path: str | Path) -> Size:
    """The size of a pretrained model: a folder, without torch; a hub id or GGUF file, by its layout's own modules.

    Raises ``UserError`` where it is not there or no model.
    """
    folder = Path(path).expanduser()
    if (folder / "config.json").is_file() and (files := sorted(folder.glob("*.safetensors"))):
        config = read_json_object(folder / "config.json", "that of a Hugging Face model")
        return size_of_files(files, config)
    from stillroom.models import empty_model, read_config

    return size_of_model(empty_model(read_config(path), path))


def size_of_model(model: Any) -> Size:
    """The size of a transformers model that is built, on whatever device."""
    return _size({name: parameter.shape for name, parameter in model.named_parameters()}, _flat(model.config.to_dict()))


def size_of_files(files: Iterable[Path], config: Mapping[str, Any]) -> Size:
    """The size of a model by the headers of its safetensors files and its ``config.json``."""
    fields = _flat(config)
    kept = {name: shape for file in files for name, shape in _header(file) if not _is_buffer(name, shape)}
    head = next(filter(_HEAD.search, kept), None)
    if head is not None and len(_tables(kept, fields)) > 0 and fields.get("tie_word_embeddings") is True:
        kept.pop(head)  # some files hold the one matrix twice
    return _size(kept, fields)


def _tables(kept: Shapes, fields: Mapping[str, Any]) -> list[str]:
    """Names of the tables of tokens' embeddings."""
    return [name for name, shape in kept.items() if _LOOKED_UP.search(name) and shape[0] == fields.get("vocab_size")]


def _size(kept: Shapes, fields: Mapping[str, Any]) -> Size:
    head = next(filter(_HEAD.search, kept), None)
    tables = _tables(kept, fields)[:1]
    last = head or next(iter(tables), None)
    matrices = [name for name, shape in kept.items() if len(shape) > 1 and not _LOOKED_UP.search(name) and name != head]
    return Size(
        parameters=sum(map(math.prod, kept.values())),
        tables=sum(math.prod(kept[name]) for name in (*tables, *([head] if head else []))),
        width=_first(fields, *_WIDTHS) or 0,
        layers=_first(fields, *_LAYERS) or 0,
        blocks=sum(_active(name, kept[name], fields) for name in matrices),
        unembedding=math.prod(kept[last]) if last else 0,
        pair_widths=_pair_widths(fields),
    )


def _header(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of fractions in a safetensors file."""
    with reading(file, "a safetensors file of weights"), file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        text = handle.read(length) if length < file.stat().st_size else b""
    try:
        entries = json.loads(text)
        for name, entry in entries.items():
            if name != "__metadata__" and entry["dtype"] not in ("BOOL", "I64", "I32", "U8"):
                yield name, tuple(entry["shape"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file}: has no header; expected a safetensors file of weights: fetch or save it again."
        ) from error


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the language model, and those of its parts that have a configuration of their own."""
    text = config.get("text_config") or {}
    parts = [{**config, **text}.get(name) or {} for name in ("ffn_config", "attn_config")]
    return {name: value for one in (*parts, config, text) for name, value in one.items() if value is not None}


def _is_buffer(name: str, shape: Sequence[int]) -> bool:
    """What some files hold beside parameters: positions and masks."""
    return bool(_DERIVED.search(name)) or (bool(_MASK.search(name)) and len(shape) == 4)


def _first(fields: Mapping[str, Any], *names: str) -> Any:
    return next((fields[name] for name in names if name in fields), None)


def _active(name: str, shape: Sequence[int], fields: Mapping[str, Any]) -> float:
    """Multiply-adds of a matrix per token: all, or of a routed expert the share of tokens that take it."""
    experts = _first(fields, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    is_routed = _ROUTED.search(name) or (len(shape) == 3 and shape[0] == experts)
    if not experts or not is_routed or "shared" in name:
        return math.prod(shape)
    taken = _first(
        fields, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts", "moe_k"
    )
    return math.prod(shape) * (taken or 1) / experts


def _pair_widths(fields: Mapping[str, Any]) -> tuple[tuple[float, int | None], ...]:
    """Width and window of every layer's attention, of scores and of values together."""
    heads = _first(fields, "num_attention_heads", "n_head", "n_heads", "num_heads")
    layers, hidden = _first(fields, *_LAYERS), _first(fields, *_WIDTHS)
    if not heads or not layers or not hidden:  # such as a model of recurrences alone
        return ()
    types = fields.get("layer_types") or fields.get("layers_block_type") or _by_pattern(fields, layers)
    one = fields.get("head_dim") or hidden // heads
    if "qk_nope_head_dim" in fields:
        width = heads * (fields["qk_nope_head_dim"] + fields["qk_rope_head_dim"] + fields["v_head_dim"])
    else:
        width = 2 * heads * one
    window = fields.get("sliding_window") if fields.get("use_sliding_window") is not False else None
    windows = {"sliding_attention": window, "chunked_attention": fields.get("attention_chunk_size")}
    return tuple((width, windows.get(kind)) for kind in types if not any(word in kind for word in _NO_SCORES))


def _by_pattern(fields: Mapping[str, Any], layers: int) -> list[str]:
    """Kinds of layers of configurations that do not list them: every ``sliding_window_pattern``-th sees everything."""
    period = fields.get("sliding_window_pattern")
    if period:
        return ["full_attention" if number % period == 0 else "sliding_attention" for number in range(1, layers + 1)]
    return ["sliding_attention"] * layers


def training_bytes(
    size: Size,
    positions: int,
    *,
    shards: int = 1,
    weight_bytes: int = 4,
    number_bytes: int = 2,
    recompute: bool = False,
) -> float:
    """Bytes of training on a device: its shard of the state, what is gathered at once, activations, a chunk's logits.

    ``positions`` are those of a micro-batch. A gathered weight takes ``weight_bytes``, a number that is kept for the
    backward pass ``number_bytes``; with ``recompute`` only the inputs of blocks are kept.
    """
    layers = max(1, size.layers)
    block = (size.parameters - size.tables) / layers
    gathered = (
        0.0 if shards == 1 else (2 * block + size.tables) * (weight_bytes + 4)
    )  # weights, and gradients before the sum
    per_block = float(positions * size.width * _BLOCK_NUMBERS * number_bytes)
    inputs = positions * size.width * 4.0  # of a block
    activations = layers * inputs + per_block if recompute else layers * per_block
    vocab_size = size.unembedding // max(1, size.width)
    logits = min(positions, _HEAD_POSITIONS) * vocab_size * 6.0 + size.tables * 4.0  # in two precisions; its gradient
    return size.parameters * STATE_BYTES / shards + gathered + activations + logits
