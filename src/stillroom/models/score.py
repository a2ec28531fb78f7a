"""Logits, log-probabilities and entropies of hidden states: the one place that multiplies by the unembedding.

Scale, soft cap and bias of the model are in all of them. Hidden states are those of ``hidden_states``.
Letters: N positions, C positions of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.models.output_layer import logit_softcap, unembedding

LOGITS_AT_A_TIME = 1 << 22
"""Logits that exist at one time."""


def logits(model: PreTrainedModel, hidden_ND: Tensor) -> Tensor:
    """Logits (N, V), fp32, as the model's own forward pass makes them."""
    weight_VD, bias_V = unembedding(model)
    return capped(torch.nn.functional.linear(hidden_ND, weight_VD, bias_V).float(), logit_softcap(model))


def capped(logits_NV: Tensor, softcap: float | None) -> Tensor:
    """c·tanh(z / c), or the logits themselves where nothing is capped."""
    return logits_NV if softcap is None else softcap * torch.tanh(logits_NV / softcap)


def token_logprobs(
    model: PreTrainedModel, hidden_ND: Tensor, targets_N: Tensor, *, logits_at_a_time: int = LOGITS_AT_A_TIME
) -> tuple[Tensor, Tensor]:
    """Log-probability (N,) in nats, fp32, of each target, and whether (N,) it is the model's first choice."""
    logprobs, firsts = [], []
    for logits_CV, targets_C in _chunks(model, hidden_ND, targets_N, logits_at_a_time):
        chosen_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
        logprobs.append(chosen_C - logits_CV.logsumexp(dim=1))
        firsts.append(logits_CV.argmax(dim=1) == targets_C)
    return torch.cat(logprobs), torch.cat(firsts)


def token_entropies(model: PreTrainedModel, hidden_ND: Tensor, *, logits_at_a_time: int = LOGITS_AT_A_TIME) -> Tensor:
    """Entropy (N,) in nats, fp32, of the next token's distribution."""
    found = []
    for logits_CV, _ in _chunks(model, hidden_ND, hidden_ND, logits_at_a_time):
        logprobs_CV = logits_CV.log_softmax(-1)
        found.append(-(logprobs_CV.exp() * logprobs_CV).sum(dim=-1))
    return torch.cat(found)


def _chunks(
    model: PreTrainedModel, hidden_ND: Tensor, beside_N: Tensor, logits_at_a_time: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of a few positions at a time, with what belongs to them."""
    rows = max(1, logits_at_a_time // unembedding(model)[0].shape[0])
    for hidden_CD, beside_C in zip(hidden_ND.split(rows), beside_N.split(rows), strict=True):
        yield logits(model, hidden_CD), beside_C
