"""How documents that lie packed in one row are kept apart: by masks where those are exact, else each in a row alone.

A document in a row of its own, with padding behind it, is exact for every causal model: nothing of it sees what comes
later, be it attention, a convolution or a state. Masks are faster, because nothing is padded, and right for models
whose layers are attention that takes them; which those are is in ``MASKED`` and ``RESTARTED``, and the sweep over all
architectures in the tests holds this for each.

Letters: B sequences, T positions, R rows (documents), S positions of the longest, N = B·T.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PreTrainedModel

from stillroom.models.attention import SHORT, additive_mask, autocasts_to_bf16
from stillroom.types import UserError

Way = Literal["mask", "masks by layer type", "restarts", "one row", "rows"]
"""A mask of ours for all layers; one for each type of layer; the model's own, which it makes of positions that
restart; the same in a single long row, for flash-attention; or a row for every document."""

_NAMES = """
    apertus arcee aria_text biogpt bitnet cohere cohere2 cohere2_moe cwm diffllama ernie4_5 ernie4_5_moe exaone4
    exaone_moe falcon flex_olmo gemma gemma2 gemma3 gemma3_text gemma4_text glm glm4 glm4_moe gpt-sw3 gpt2
    gpt_bigcode gpt_neo gpt_neox gpt_oss granite granite_swa granitemoe granitemoe_swa granitemoeshared helium
    hunyuan_v1_dense hunyuan_v1_moe hyperclovax internlm3 iquestcoder jais2 jetmoe llama llama4 llama4_text
    minimax_m2 ministral ministral3 mistral mixtral nanochat nemotron olmo olmo2 olmo3 olmoe opt persimmon phi
    phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma
"""
MASKED = frozenset(_NAMES.split())
"""Model types whose layers all obey a mask of four dimensions, as long as no document is longer than a window."""
RESTARTED = MASKED - {"biogpt", "falcon", "gpt_neo", "gpt_oss", "opt"}
"""Model types that make masks of their own, windows included, of positions that restart."""
BY_LAYER_TYPE = frozenset({"gpt_oss"})
"""Model types that take masks of ours by the type of a layer, windows included, and make none of positions."""

_BY_RANK = "picks the keys that it attends to by ranks that change with the padding of a row"
REFUSED = {
    "axk2": _BY_RANK,
    "big_bird": "runs on lengths that are a multiple of its blocks alone",
    "doge": _BY_RANK,
    "dots3_note": _BY_RANK,
    "dots3_note_text": _BY_RANK,
    "reformer": "hashes what it attends to, at random where no seed is set, and trains on one length alone",
}
"""What a short text does not show: found by the sweep over all architectures."""

_ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
_overrides: weakref.WeakKeyDictionary[PreTrainedModel, bool] = weakref.WeakKeyDictionary()


def position_ids(document_BT: Tensor) -> Tensor:
    """Positions (B, T) that restart at every document."""
    length = document_BT.shape[1]
    places = torch.arange(length, device=document_BT.device).expand_as(document_BT)
    return places - torch.where(_begins(document_BT), places, 0).cummax(dim=1).values


def _begins(document_BT: Tensor) -> Tensor:
    """Whether (B, T) a position is the first of its document in its row."""
    is_first = torch.ones_like(document_BT, dtype=torch.bool)
    is_first[:, 1:] = document_BT[:, 1:] != document_BT[:, :-1]
    return is_first


def attention_mask(document_BT: Tensor) -> Tensor:
    """Which position sees which, (B, 1, T, T), True = sees: causal and inside the same document."""
    length = document_BT.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=document_BT.device).tril()
    return ((document_BT[:, :, None] == document_BT[:, None, :]) & causal)[:, None]


@dataclass(frozen=True)
class Calls:
    """Forward passes that together give the hidden states of a batch: the arguments of each, and where they belong."""

    arguments: tuple[dict[str, Any], ...]
    shape: tuple[int, int]
    """B, T."""
    inside: tuple[Tensor, ...] = ()
    """Of each call (R, S): whether a position is one of the batch's; none where a call is the batch itself."""
    order_N: Tensor | None = None
    """Where the batch's positions lie in the calls' positions, one after the other."""

    def gathered(self, hidden: Sequence[Tensor]) -> Tensor:
        """Hidden states (B, T, D) of the batch from those of the calls."""
        if self.order_N is None:
            return hidden[0].reshape(*self.shape, -1)
        flat_ND = torch.cat([states[inside] for states, inside in zip(hidden, self.inside, strict=True)])
        return flat_ND[self.order_N].view(*self.shape, -1)


def calls(model: PreTrainedModel, tokens_BT: Tensor, document_BT: Tensor, *, one_call: bool = False) -> Calls:
    """How to run a model on packed documents so that none sees another; in a single forward pass with ``one_call``."""
    shape = (tokens_BT.shape[0], tokens_BT.shape[1])
    way = way_of(model, 1, shape[1])
    if way not in ("mask", "one row"):  # looking at the lengths makes an accelerator wait
        lengths = document_lengths(document_BT)
        way = way_of(model, min(lengths), max(lengths))
    if way == "rows":
        return _in_rows(model, tokens_BT, document_BT, one_call)
    positions = position_ids(document_BT)
    if way == "one row":  # which takes no mask: the documents are found where the positions of a single row restart
        return Calls(({"input_ids": tokens_BT.reshape(1, -1), "position_ids": positions.reshape(1, -1)},), shape)
    arguments: dict[str, Any] = {"input_ids": tokens_BT, "position_ids": positions}
    if way == "mask":
        arguments["attention_mask"] = _mask_for(model, document_BT)
    elif way == "masks by layer type":
        arguments["attention_mask"] = _masks_by_type(model, document_BT)
    return Calls((arguments,), shape)


def document_lengths(document_BT: Tensor) -> list[int]:
    """Length of every document, row by row."""
    starts = _begins(document_BT).flatten().nonzero()[:, 0].tolist()
    return [stop - start for start, stop in zip(starts, [*starts[1:], document_BT.numel()], strict=True)]


def way_of(model: PreTrainedModel, shortest: int, longest: int) -> Way:
    """How documents of these lengths are kept apart, the fastest way that is exact."""
    if not isinstance(model, PreTrainedModel):  # something that stands for one and says what a mask is to it
        return "mask"
    kind, implementation = model.config.model_type, model.config._attn_implementation or "eager"
    if kind not in MASKED or needs_rows(model) or straddles(model, shortest, longest):
        return "rows"
    if "flash" in implementation:
        return "one row" if kind in RESTARTED else "rows"
    window = shortest_window(model)
    if window is None or longest <= window:
        return "mask"
    if kind in RESTARTED:
        return "restarts"
    return "masks by layer type" if kind in BY_LAYER_TYPE and implementation != "flex_attention" else "rows"


def sees_branches(model: PreTrainedModel, longest: int) -> bool:
    """Whether a mask of ours is all that decides what a position sees, up to this distance."""
    fused = ("flash", "flex")
    masked = way_of(model, longest, longest) == "mask"
    return masked and not any(name in (model.config._attn_implementation or "") for name in fused)


def use_rows(model: PreTrainedModel) -> None:
    """Puts every document of this model into a row of its own from now on."""
    _overrides[model] = True


def needs_rows(model: PreTrainedModel) -> bool:
    """Whether a model's layers keep more than attention does: convolutions, states, or layers of an unknown type."""
    if model not in _overrides:
        types = getattr(model.config.get_text_config(), "layer_types", None) or ()
        has_convolution = any(isinstance(part, nn.Conv1d) for part in model.base_model.modules())
        _overrides[model] = has_convolution or bool(getattr(model, "_is_stateful", False)) or not {*types} <= _ATTENTION
    return _overrides[model]


def shortest_window(model: PreTrainedModel) -> int | None:
    """The smallest span of a window or chunk that the configuration names; None where there is none."""
    fields = vars(model.config.get_text_config()).items()
    named = [
        value
        for name, value in fields
        if ("window" in name or "attention_chunk" in name) and not name.endswith(("layers", "pattern"))
    ]
    spans = [value for value in named if type(value) is int and value > 0]
    return min(spans, default=None)


def straddles(model: PreTrainedModel, shortest: int, longest: int) -> bool:
    """Whether documents lie on both sides of the length at which the model changes its rotary frequencies."""
    return any(shortest <= limit < longest for limit in rotary_limits(model))


def rotary_limits(model: PreTrainedModel) -> set[int]:
    """Lengths at which rotary frequencies change (long and dynamic rope); the longest text of a call, padding
    included, decides for all of it.
    """
    if not isinstance(model, PreTrainedModel):
        return set()
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    limits = [part.get("original_max_position_embeddings") for part in parts if part.get("rope_type") == "longrope"]
    if any(part.get("rope_type") == "dynamic" for part in parts):
        limits.append(getattr(config, "max_position_embeddings", None))
    return {int(limit) for limit in limits if limit}


def _in_rows(model: PreTrainedModel, tokens_BT: Tensor, document_BT: Tensor, one_call: bool) -> Calls:
    """Every document at the beginning of a row; rows of like length share a call."""
    lengths = document_lengths(document_BT)
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    one_call = one_call or any(isinstance(part, FSDPModule) for part in model.modules())  # all ranks make it together
    if one_call and straddles(model, min(lengths), max(lengths)):
        raise UserError(
            f"documents of {min(lengths)} and of {max(lengths)} tokens get other rotary frequencies from a "
            f"{type(model).__name__}, expected one kind in one forward pass; shorten the sequences to "
            f"{min(rotary_limits(model))} tokens, or do without sharding and an own loop."
        )
    flat_N = tokens_BT.flatten()
    arguments, inside, sources = [], [], []
    for group in _groups(model, lengths, 0 if one_call else document_BT.numel()):
        longest = max(lengths[index] for index in group)
        begin = torch.tensor([starts[index] for index in group], device=flat_N.device)[:, None]
        length = torch.tensor([lengths[index] for index in group], device=flat_N.device)[:, None]
        place = torch.arange(longest, device=flat_N.device)[None]
        source_RS, inside_RS = begin + place, place < length
        tokens_RS = torch.where(inside_RS, flat_N[source_RS.clamp(max=len(flat_N) - 1)], flat_N[begin])
        arguments.append({"input_ids": tokens_RS})
        inside.append(inside_RS)
        sources.append(source_RS[inside_RS])
    order_N = torch.cat(sources).argsort()
    return Calls(tuple(arguments), (tokens_BT.shape[0], tokens_BT.shape[1]), tuple(inside), order_N)


def _groups(model: PreTrainedModel, lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Numbers of documents of like length, longest first: at most ``size`` positions with their padding (0: no limit),
    none half as long as the first, all on one side of every limit of the model.
    """
    limits = rotary_limits(model)
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if group:
            longest = lengths[group[0]]
            is_full = size and ((len(group) + 1) * longest > size or 2 * lengths[index] < longest)
            if is_full or any(lengths[index] <= limit < longest for limit in limits):
                yield group
                group = []
        group.append(index)
    if group:
        yield group


def _mask_for(model: PreTrainedModel, document_BT: Tensor) -> Tensor | BlockMask:
    """``attention_mask`` in the form that the model's attention implementation takes."""
    if model.config._attn_implementation == "flex_attention":
        return _block_mask(document_BT)
    return in_form(model, attention_mask(document_BT))


def _masks_by_type(model: PreTrainedModel, document_BT: Tensor) -> dict[str, Tensor]:
    """A mask for each type of layer of the model."""
    full = attention_mask(document_BT)
    place = torch.arange(document_BT.shape[1], device=full.device)
    near = (place[:, None] - place) < (shortest_window(model) or len(place))
    return {"full_attention": in_form(model, full), "sliding_attention": in_form(model, full & near)}


def in_form(model: PreTrainedModel, mask: Tensor) -> Tensor:
    """A boolean mask (True = sees) as the model's attention implementation takes it, unless that is flex attention."""
    kind = model.config._attn_implementation
    if kind == "eager":
        zero = torch.zeros((), dtype=model.dtype, device=mask.device)
        return torch.where(mask, zero, torch.finfo(model.dtype).min)
    if kind == SHORT and autocasts_to_bf16(mask.device):
        return additive_mask(mask, mask.shape[-1], torch.empty(0, dtype=torch.bfloat16, device=mask.device))
    return mask


def _block_mask(document_BT: Tensor) -> BlockMask:
    def sees(sequence: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (document_BT[sequence, query] == document_BT[sequence, key])

    sequences, length = document_BT.shape
    return create_block_mask(sees, sequences, None, length, length, device=str(document_BT.device))
