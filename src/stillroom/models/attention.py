"""Attention of short sequences on a processor: two batched matrix products, several times the fused kernel's speed.

Letters: B sequences, H heads, G key and value heads, T positions, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SHORT = "stillroom-short"
"""Name under which transformers knows this implementation."""
_LONGEST = 1024
"""Positions up to which scores of shape (B, H, T, T) are worth holding."""


def is_short(query: Tensor, key: Tensor) -> bool:
    """Whether the matrix products apply: bfloat16 on a processor, whole sequences, no longer than ``_LONGEST``."""
    in_bf16 = query.dtype == torch.bfloat16 or autocasts_to_bf16(query.device)
    return query.device.type == "cpu" and in_bf16 and query.shape[2] == key.shape[2] <= _LONGEST


def autocasts_to_bf16(device: torch.device) -> bool:
    """Whether matrix products on this device are in bfloat16 now."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.bfloat16


def short_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """Attention output (B, T, H, d); falls back to PyTorch's fused attention wherever ``is_short`` is false.

    Scores are in bfloat16, as in transformers' eager attention; softmax is taken in float32. ``attention_mask`` is
    additive or boolean (True = sees), (B or 1, H or 1, T, T), or None for plain causal attention.
    """
    if dropout > 0 or not is_short(query, key):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **arguments
        )
    sequences, heads, length, width = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    query = query * (width**-0.5 if scaling is None else scaling)
    flat = (sequences * heads, length, width)
    scores = torch.bmm(query.reshape(flat), key.reshape(flat).transpose(1, 2)).view(sequences, heads, length, length)
    scores += additive_mask(attention_mask, length, scores)
    shares = torch.softmax(scores, dim=-1).view(sequences * heads, length, length)
    output = torch.bmm(shares, value.reshape(flat)).view(sequences, heads, length, width)
    return output.transpose(1, 2), None


def additive_mask(mask: Tensor | None, length: int, like: Tensor) -> Tensor:
    """0 where a position sees and -inf where it does not, in the dtype and on the device of ``like``."""
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool, device=like.device).tril()
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(~mask, float("-inf"))
    return mask


def use_short_attention(model: PreTrainedModel) -> None:
    """Switches a model on a processor from PyTorch's fused attention to this one; others stay as they are."""
    if model.config._attn_implementation == "sdpa" and model.device.type == "cpu":
        model.set_attn_implementation(SHORT)


AttentionInterface.register(SHORT, short_attention)
AttentionMaskInterface.register(SHORT, sdpa_mask)
