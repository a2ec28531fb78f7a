"""Loss token by token: where it lies, and where two models differ.

Letters: B sequences, T positions, N = B·T, D width, Q bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.models import hidden_states, score
from stillroom.models.score import token_logprobs
from stillroom.objectives.routing import copyable
from stillroom.results.inspected import Passage
from stillroom.types import IGNORE_INDEX, Batch

_LOGITS_AT_A_TIME = 1 << 22


def batch_losses(model: PreTrainedModel, batch: Batch, *, isolate: bool = True) -> Tensor:
    """Loss in nats of every target, (B, T), fp32; 0 where a position has none. The model is left as it was."""
    counted_BT = batch.targets_BT != IGNORE_INDEX
    loss_BT = torch.zeros(batch.targets_BT.shape)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            hidden_ND = hidden_states(model, batch.to(model.device), isolate=isolate)[counted_BT]
            targets_N = batch.targets_BT[counted_BT].to(hidden_ND.device)
            logprob_N, _ = token_logprobs(model, hidden_ND, targets_N, logits_at_a_time=_LOGITS_AT_A_TIME)
    finally:
        model.train(was_training)
    loss_BT[counted_BT] = -logprob_N.cpu()
    return loss_BT


@dataclass(frozen=True)
class QuantileBin:
    """The tokens whose key lies between two quantiles: their number, the range of the key and the mean value."""

    low: float
    high: float
    num: int
    mean: float


def by_quantile(values_N: Tensor, key_N: Tensor, num_bins: int) -> list[QuantileBin]:
    """Means of a value over bins of like size, ordered by a key: loss by teacher entropy, say.

    Ties are kept in the order of the tokens, so that bins differ in size by at most one.
    """
    if values_N.shape != key_N.shape or values_N.ndim != 1 or not 1 <= num_bins <= len(values_N):
        raise ValueError(f"{num_bins} bins of {tuple(values_N.shape)} values by {tuple(key_N.shape)} keys")
    order = key_N.argsort(stable=True)
    return [
        QuantileBin(float(key_N[part[0]]), float(key_N[part[-1]]), len(part), float(values_N[part].double().mean()))
        for part in order.tensor_split(num_bins)
    ]


@dataclass(frozen=True)
class Split:
    """Mean losses in nats on a part of the tokens: of one model, of another, and how many tokens there are."""

    name: str
    num: int
    first: float
    second: float


def split_losses(
    first_BT: Tensor, second_BT: Tensor, batch: Batch, *, entropy_BT: Tensor | None = None, num_bins: int = 4
) -> list[Split]:
    """Where two models differ: on all targets, on copyable and other ones, and by bins of a teacher's entropy.

    The losses are from ``batch_losses``; ``entropy_BT`` is the teacher's entropy in nats at every position. Parts
    without a token are left out.
    """
    counted_BT = batch.targets_BT != IGNORE_INDEX
    copied_BT = copyable(batch)
    parts = {"all": counted_BT, "copyable": copied_BT, "not copyable": counted_BT & ~copied_BT}
    if entropy_BT is not None and int(counted_BT.sum()) >= num_bins:
        places = counted_BT.flatten().nonzero()[:, 0]
        order = places[entropy_BT.flatten()[places].argsort(stable=True)]
        for part in order.tensor_split(num_bins):
            low, high = (float(entropy_BT.flatten()[place]) for place in (part[0], part[-1]))
            inside = torch.zeros(counted_BT.numel(), dtype=torch.bool)
            inside[part] = True
            parts[f"teacher entropy {low:.2f} to {high:.2f}"] = inside.view_as(counted_BT)
    return [
        Split(name, int(part.sum()), float(first_BT[part].double().mean()), float(second_BT[part].double().mean()))
        for name, part in parts.items()
        if bool(part.any())
    ]


def batch_entropies(model: PreTrainedModel, batch: Batch, *, isolate: bool = True) -> Tensor:
    """Entropy in nats of a model's next-token distribution at every position, (B, T), fp32."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            hidden_ND = hidden_states(model, batch.to(model.device), isolate=isolate).flatten(0, 1)
            entropy_N = score.token_entropies(model, hidden_ND, logits_at_a_time=_LOGITS_AT_A_TIME)
    finally:
        model.train(was_training)
    return entropy_N.cpu().view(batch.tokens_BT.shape)


def largest_differences(
    first_BT: Tensor, second_BT: Tensor, batch: Batch, tokenizer: Any, *, width: int = 24, num: int = 10
) -> list[Passage]:
    """The ``num`` passages of ``width`` targets on which two models' losses differ most in sum, largest first.

    ``first_BT`` and ``second_BT`` are from ``batch_losses``. Passages do not overlap. A token shown is the target
    that the loss is of.
    """
    gain_BT = first_BT - second_BT
    windows_BW = gain_BT.double().unfold(1, min(width, gain_BT.shape[1]), 1).sum(dim=-1).abs()
    passages: list[Passage] = []
    while len(passages) < num and (best := int(windows_BW.argmax())) >= 0:
        row, place = divmod(best, windows_BW.shape[1])
        if windows_BW[row, place] <= 0:
            break
        span = slice(place, place + width)
        passages.append(_passage(batch.targets_BT[row, span], gain_BT[row, span], tokenizer))
        windows_BW[row, max(0, place - width + 1) : place + width] = -1.0
    return passages


def _passage(targets_T: Tensor, gain_T: Tensor, tokenizer: Any) -> Passage:
    counted = targets_T != IGNORE_INDEX
    ids: Sequence[int] = targets_T[counted].tolist()
    return Passage(tuple(tokenizer.decode([i]) for i in ids), tuple(gain_T[counted].tolist()))
