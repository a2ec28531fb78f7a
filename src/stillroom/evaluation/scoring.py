"""How likely a model finds given tokens: per-token log-probabilities without logits for the whole batch.

Letters: B sequences, T positions, N positions scored, D width, V vocabulary, I items.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.models import hidden_states, num_positions
from stillroom.models.output_layer import unembedding_inputs
from stillroom.models.packing import in_form, rotary_limits, sees_branches
from stillroom.models.score import token_logprobs
from stillroom.results.statistics import require_finite
from stillroom.types import Batch, OnProgress, UserError

TOKENS_AT_A_TIME = 8192
"""Tokens of one forward pass unless the caller says otherwise."""
_LOGITS_AT_A_TIME = 1 << 22
_SHARING = 32


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
class ContinuationScores:
    """One number per item: ``logprob_I`` in nats, summed over the continuation's ``tokens_I`` tokens.

    ``greedy_I`` is True where every token of the continuation is the model's first choice, so that greedy decoding
    would have written it.
    """

    logprob_I: NDArray[np.float64]
    greedy_I: NDArray[np.bool_]
    tokens_I: NDArray[np.int64]


def check_positions(model: PreTrainedModel, tokens: int, what: str) -> None:
    """Refuses an item of more tokens than the model has positions for: it would answer from where it never learnt."""
    longest = num_positions(model.config)
    if longest is not None and longest < tokens:
        raise UserError(f"{what} of {tokens} tokens: the model has {longest} positions; shorten what is asked.")


def score_tokens(model: PreTrainedModel, hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability (N,) in nats, fp32, of each target, and whether (N,) it is the model's first choice."""
    return token_logprobs(model, hidden_ND, targets_N, logits_at_a_time=_LOGITS_AT_A_TIME)


@dataclass(frozen=True)
class _Shared:
    """A context and the items (by number) that continue it."""

    context: tuple[int, ...]
    items: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Positions of the row: the context, then every continuation but its last token, which predicts nothing."""
        return len(self.context) + sum(len(continuation) - 1 for continuation in self.continuations)


def score_continuations(
    model: PreTrainedModel,
    items: Sequence[Continuation],
    *,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> ContinuationScores:
    """How likely the model finds each continuation after its context.

    Continuations of one context share its pass through the model: they lie behind it in one row and do not see one
    another; of a model that a mask does not tell all (a window, a state), each continuation has a row of its own. Rows
    of like length share a forward pass, padded on the right, where a causal model never looks; only the positions that
    predict a continuation's token meet the vocabulary.
    """
    if any(not item.context or not item.continuation for item in items):
        raise ValueError("a context and its continuation must hold at least one token each")
    longest = max((len(item.context) + len(item.continuation) - 1 for item in items), default=0)
    check_positions(model, longest, "evaluation: a question with its answer")
    logprob_I, greedy_I = np.zeros(len(items)), np.zeros(len(items), dtype=bool)
    done = 0
    with evaluating(model):
        for rows in _like_length(_by_context(items, _sharing(model, items)), tokens_at_a_time, rotary_limits(model)):
            indices = [index for row in rows for index in row.items]
            logprob_I[indices], greedy_I[indices] = _score_rows(model, rows)
            done += len(indices)
            if progress:
                progress(done, len(items))
    require_finite(logprob_I)
    return ContinuationScores(logprob_I, greedy_I, np.array([len(item.continuation) for item in items], dtype=np.int64))


def _sharing(model: PreTrainedModel, items: Sequence[Continuation]) -> int:
    """How many continuations may share a row: one where a mask is not all that decides what a position sees."""
    longest = max((len(item.context) + len(item.continuation) for item in items), default=1)
    changes = any(limit < longest for limit in rotary_limits(model))
    return _SHARING if sees_branches(model, longest) and not changes else 1


def _by_context(items: Sequence[Continuation], sharing: int = _SHARING) -> list[_Shared]:
    """Items by context, at most ``sharing`` to a row."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.context, []).append(index)
    return [
        _Shared(context, tuple(part), tuple(items[index].continuation for index in part))
        for context, indices in groups.items()
        for part in (indices[start : start + sharing] for start in range(0, len(indices), sharing))
    ]


def _like_length(
    rows: Sequence[_Shared], tokens_at_a_time: int, limits: Collection[int] = ()
) -> Iterator[list[_Shared]]:
    """Rows in batches whose padded size is at most ``tokens_at_a_time`` (or one row), longest first, each on one side
    of every one of the ``limits``.
    """
    batch: list[_Shared] = []
    for row in sorted(rows, key=lambda row: (-row.length, row.items)):
        if batch and (
            batch[0].length * (len(batch) + 1) > tokens_at_a_time
            or any(row.length <= limit < batch[0].length for limit in limits)
        ):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _score_rows(model: PreTrainedModel, rows: Sequence[_Shared]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probability and greediness of every continuation, row by row."""
    length = max(row.length for row in rows)
    tokens_BT = torch.zeros(len(rows), length, dtype=torch.int64)
    places_BT, segments_BT = torch.zeros_like(tokens_BT), torch.zeros_like(tokens_BT)
    from_row, from_place, targets, sizes = [], [], [], []
    for number, row in enumerate(rows):
        end = len(row.context)
        tokens_BT[number, :end], places_BT[number, :end] = torch.tensor(row.context), torch.arange(end)
        for segment, continuation in enumerate(row.continuations, 1):
            inner = slice(end, end + len(continuation) - 1)
            tokens_BT[number, inner] = torch.tensor(continuation[:-1], dtype=torch.int64)
            places_BT[number, inner] = torch.arange(len(continuation) - 1) + len(row.context)
            segments_BT[number, inner] = segment
            from_row += [number] * len(continuation)
            from_place += [len(row.context) - 1, *range(inner.start, inner.stop)]
            targets += continuation
            sizes.append(len(continuation))
            end = inner.stop
    device = model.device
    if all(len(row.items) == 1 for row in rows):
        hidden_BTD = run_plain(model, tokens_BT.to(device))
    else:
        hidden_BTD = _run_branches(model, tokens_BT.to(device), places_BT.to(device), segments_BT.to(device))
    hidden_ND = hidden_BTD[torch.tensor(from_row, device=device), torch.tensor(from_place, device=device)]
    logprob_N, first_N = score_tokens(model, hidden_ND, torch.tensor(targets, device=device))
    starts = np.cumsum([0, *sizes[:-1]])
    return (
        np.add.reduceat(logprob_N.double().cpu().numpy(), starts),
        np.logical_and.reduceat(first_N.cpu().numpy(), starts),
    )


def _run_branches(model: PreTrainedModel, tokens_BT: Tensor, places_BT: Tensor, segments_BT: Tensor) -> Tensor:
    """Hidden states (B, T, D) of rows whose segments see segment 0 (the context), themselves, and no other."""
    length = tokens_BT.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=tokens_BT.device).tril()
    sees = (segments_BT[:, None, :] == 0) | (segments_BT[:, :, None] == segments_BT[:, None, :])
    mask = in_form(model, (sees & causal)[:, None])
    return unembedding_inputs(model, input_ids=tokens_BT, attention_mask=mask, position_ids=places_BT)


def run_plain(model: PreTrainedModel, tokens_BT: Tensor) -> Tensor:
    """Hidden states (B, T, D) of whole sequences: causal attention, no document boundaries."""
    check_positions(model, tokens_BT.shape[1], "evaluation: a sequence")
    unused_BT = torch.zeros_like(tokens_BT, dtype=torch.int32)
    return hidden_states(model, Batch(tokens_BT, tokens_BT, unused_BT), isolate=False)
