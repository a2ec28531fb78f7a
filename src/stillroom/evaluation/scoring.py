"""How likely a model finds given tokens: per-token log-probabilities without logits for the whole batch.

Letters: B sequences, T positions, N positions scored, D width, V vocabulary, I items.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.models import hidden_states, unembedding
from stillroom.types import Batch

Progress = Callable[[int, int], None]
"""Called with (done, total) as work proceeds."""
TOKENS_AT_A_TIME = 8192
"""Tokens of one forward pass unless the caller says otherwise."""
_LOGITS_AT_A_TIME = 1 << 22


@contextlib.contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; the mode that the model had comes back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class Continuation:
    """Token ids, and the ids whose probability after them is asked for."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """One number per item: ``logprob_I`` in nats, summed over the continuation's ``tokens_I`` tokens.

    ``greedy_I`` is True where every token of the continuation is the model's first choice, so that greedy decoding
    would have written it.
    """

    logprob_I: NDArray[np.float64]
    greedy_I: NDArray[np.bool_]
    tokens_I: NDArray[np.int64]


def score_tokens(model: PreTrainedModel, hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability (N,) in nats, fp32, of each target, and whether (N,) it is the model's first choice."""
    weight_VD, bias_V = unembedding(model)
    softcap = getattr(model.config, "final_logit_softcapping", None)
    rows = max(1, _LOGITS_AT_A_TIME // weight_VD.shape[0])
    logprobs, firsts = [], []
    for hidden_CD, targets_C in zip(hidden_ND.split(rows), targets_N.split(rows), strict=True):
        logits_CV = torch.nn.functional.linear(hidden_CD, weight_VD, bias_V).float()
        if softcap:
            logits_CV = softcap * torch.tanh(logits_CV / softcap)
        chosen_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
        logprobs.append(chosen_C - logits_CV.logsumexp(dim=1))
        firsts.append(logits_CV.argmax(dim=1) == targets_C)
    return torch.cat(logprobs), torch.cat(firsts)


def score_continuations(
    model: PreTrainedModel,
    items: Sequence[Continuation],
    *,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: Progress | None = None,
) -> Scores:
    """How likely the model finds each continuation after its context.

    Items of like length share a forward pass, padded on the right, where causal attention never looks; only the
    positions that predict a continuation's token meet the vocabulary.
    """
    logprob_I, greedy_I = np.zeros(len(items)), np.zeros(len(items), dtype=bool)
    done = 0
    with evaluating(model):
        for indices in _like_length(items, tokens_at_a_time):
            logprob_I[indices], greedy_I[indices] = _score_batch(model, [items[i] for i in indices])
            done += len(indices)
            if progress:
                progress(done, len(items))
    return Scores(logprob_I, greedy_I, np.array([len(item.continuation) for item in items], dtype=np.int64))


def _like_length(items: Sequence[Continuation], tokens_at_a_time: int) -> Iterator[list[int]]:
    """Indices of items in batches whose padded size is at most ``tokens_at_a_time`` (or one item)."""
    lengths = [len(item.context) + len(item.continuation) for item in items]
    batch: list[int] = []
    for index in sorted(range(len(items)), key=lambda i: (-lengths[i], i)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > tokens_at_a_time:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _score_batch(
    model: PreTrainedModel, items: Sequence[Continuation]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if any(not item.context or not item.continuation for item in items):
        raise ValueError("a context and its continuation must hold at least one token each")
    length = max(len(item.context) + len(item.continuation) for item in items) - 1
    tokens_BT = torch.zeros(len(items), length, dtype=torch.int64)
    rows, places, targets = [], [], []
    for row, item in enumerate(items):
        ids = [*item.context, *item.continuation]
        tokens_BT[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        rows += [row] * len(item.continuation)
        places += range(len(item.context) - 1, len(ids) - 1)
        targets += item.continuation
    device = model.device
    hidden_BTD = run_plain(model, tokens_BT.to(device))
    hidden_ND = hidden_BTD[torch.tensor(rows, device=device), torch.tensor(places, device=device)]
    logprob_N, first_N = score_tokens(model, hidden_ND, torch.tensor(targets, device=device))
    starts = np.cumsum([0, *(len(item.continuation) for item in items[:-1])])
    return (
        np.add.reduceat(logprob_N.double().cpu().numpy(), starts),
        np.logical_and.reduceat(first_N.cpu().numpy(), starts),
    )


def run_plain(model: PreTrainedModel, tokens_BT: Tensor) -> Tensor:
    """Hidden states (B, T, D) of whole sequences: causal attention, no document boundaries."""
    unused_BT = torch.zeros_like(tokens_BT, dtype=torch.int32)
    return hidden_states(model, Batch(tokens_BT, tokens_BT, unused_BT), isolate=False)
