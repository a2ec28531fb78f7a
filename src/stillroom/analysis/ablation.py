"""What the loss on repeated tokens becomes when a head is taken out: which heads the copying hangs on.

Letters: L layers, H query heads, B sequences, T positions, E width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.analysis.attention_heads import writes_by_head
from stillroom.analysis.loss_comparison import batch_losses
from stillroom.types import IGNORE_INDEX, Batch, OnProgress, UserError


@dataclass(frozen=True)
class Ablation:
    """Loss in nats on the repeated tokens: of the whole model, and with each head taken out, (L, H)."""

    whole: float
    without: Tensor
    """NaN for a head that was not taken out."""

    @property
    def effect(self) -> Tensor:
        """How much the loss rises without each head, (L, H), nats."""
        return self.without - self.whole


@contextmanager
def without_head(model: PreTrainedModel, layer: int, head: int) -> Iterator[None]:
    """The model with one head writing nothing (zero ablation); as it was when the block ends."""
    attention = _attentions(model)[layer]
    width = attention.head_dim
    inside = slice(head * width, (head + 1) * width)

    def silence(_: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        heads = arguments[0].clone()
        heads[..., inside] = 0
        return (heads, *arguments[1:])

    handle = attention.o_proj.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()


def copying_ablation(
    model: PreTrainedModel,
    tokens_BT: Tensor,
    *,
    period: int,
    start: int = 1,
    heads: Sequence[tuple[int, int]] | None = None,
    progress: OnProgress | None = None,
) -> Ablation:
    """Takes heads out in turn and measures the loss on tokens that have an earlier copy with its successor.

    All heads, or the (layer, head) pairs of ``heads``. The tokens after the first ``start`` repeat every ``period``.
    An induction circuit shows as few heads with a large effect: those that match the prefix, and the previous-token
    head that they read.
    """
    num_layers, num_heads = len(_attentions(model)), model.config.num_attention_heads
    targets_BT = torch.full_like(tokens_BT, IGNORE_INDEX)
    targets_BT[:, start + period : -1] = tokens_BT[:, start + period + 1 :]
    batch = Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT, dtype=torch.int32))
    num_counted = int((targets_BT != IGNORE_INDEX).sum())
    if not num_counted:
        raise ValueError(f"{tokens_BT.shape[1]} positions hold no repeat of {period} tokens after the first {start}")

    def loss() -> float:
        return float(batch_losses(model, batch, isolate=False).double().sum() / num_counted)

    whole = loss()
    without = torch.full((num_layers, num_heads), math.nan, dtype=torch.float64)
    chosen = [(layer, head) for layer in range(num_layers) for head in range(num_heads)] if heads is None else heads
    for done, (layer, head) in enumerate(chosen, 1):
        with without_head(model, layer, head):
            without[layer, head] = loss()
        if progress:
            progress(done, len(chosen))
    return Ablation(whole, without)


def _attentions(model: PreTrainedModel) -> list[Any]:
    layers = getattr(model.base_model, "layers", None)
    attentions = [getattr(layer, "self_attn", None) for layer in layers or ()]
    if not attentions or not all(map(writes_by_head, attentions)):
        raise UserError(f"{type(model).__name__}: heads can be taken out of models in the Llama layout only.")
    return attentions
