"""Recall: after a trigger, the token that followed it earlier in this very sequence, amid ordinary-looking text.

Letters: B sequences, T positions, K triggers. After Bietti et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, evaluating, run_plain, score_tokens
from stillroom.results.schema import RecallResult
from stillroom.results.statistics import mean, ratio, require_finite
from stillroom.types import OnProgress, Sequences, UserError

_TRIGGER_RATE = 0.12
"""Part of the background tokens that are made triggers, so that each comes several times in a short sequence."""


@dataclass(frozen=True)
class RecallTokens:
    """Sequences (B, T), and for every position n where it is the n-th output of its trigger, else 0."""

    tokens_BT: Tensor
    occurrence_BT: NDArray[np.int32]


def recall_tokens(
    vocabulary: Sequence[int],
    start: Sequence[int],
    background: Sequences,
    *,
    num: int,
    length: int,
    triggers: int,
    seed: int,
) -> RecallTokens:
    """``num`` sequences of ``length`` tokens after ``start``: a random walk over real bigrams, and K triggers.

    Every sequence draws its own triggers and an output for each from ``vocabulary``; a trigger is always followed by
    its output. Elsewhere the walk goes from a token to one that follows it in the background text. A sequence is a
    function of the seed and its number. Raises ``UserError`` where ``vocabulary`` is too small for the triggers.
    """
    if 2 * triggers > len(vocabulary):
        raise UserError(
            f"recall_triggers is {triggers} but only {len(vocabulary)} token ids may be drawn, expected at least twice "
            "as many; raise copying_vocabulary."
        )
    followers = _followers(background, frozenset(vocabulary))
    rows = [_row(np.random.default_rng([seed, n]), vocabulary, followers, length, triggers) for n in range(num)]
    opening = np.tile(np.asarray(start, dtype=np.int64), (num, 1))
    tokens_BT = np.concatenate([opening, np.array([tokens for tokens, _ in rows])], axis=1)
    occurrence_BT = np.concatenate([np.zeros_like(opening), np.array([marks for _, marks in rows])], axis=1)
    return RecallTokens(torch.from_numpy(tokens_BT), occurrence_BT.astype(np.int32))


def _followers(
    background: Sequences, allowed: frozenset[int], num_sequences: int = 512
) -> dict[int, NDArray[np.int64]]:
    """Allowed token → the allowed tokens that follow it in the text, as often as they do."""
    tokens_BT = background.batch(range(min(num_sequences, len(background)))).tokens_BT.numpy()
    now, after = tokens_BT[:, :-1].ravel(), tokens_BT[:, 1:].ravel()
    inside = np.isin(now, list(allowed)) & np.isin(after, list(allowed))
    now, after = now[inside], after[inside]
    order = np.argsort(now, kind="stable")
    ids, begins = np.unique(now[order], return_index=True)
    return {int(i): part for i, part in zip(ids, np.split(after[order], begins[1:]), strict=True)}


def _row(
    rng: np.random.Generator,
    vocabulary: Sequence[int],
    followers: dict[int, NDArray[np.int64]],
    length: int,
    triggers: int,
) -> tuple[list[int], list[int]]:
    drawn = rng.choice(np.asarray(vocabulary), size=2 * triggers, replace=False).tolist()
    output_of = dict(zip(drawn[:triggers], drawn[triggers:], strict=True))
    times = dict.fromkeys(output_of, 0)
    tokens: list[int] = []
    marks: list[int] = []
    while len(tokens) < length:
        last = tokens[-1] if tokens else -1
        if last in output_of:
            times[last] += 1
            tokens.append(output_of[last])
            marks.append(times[last])
            continue
        if rng.random() < _TRIGGER_RATE:
            token = int(rng.choice(drawn[:triggers]))
        else:
            token = int(rng.choice(followers.get(last, np.asarray(vocabulary))))
        tokens.append(token)
        marks.append(0)
    return tokens, marks


def measure_recall(
    model: PreTrainedModel,
    items: RecallTokens,
    *,
    seed: int = 0,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> RecallResult:
    """The ``recall`` part of an evaluation: accuracy and loss (nats) on outputs whose trigger has come before.

    ``loss_first`` is of the first output of each trigger, which nothing tells; ``by_occurrence`` gives the accuracy at
    the second, third, ... time. Intervals are over sequences; ``per_item`` has a number for each, and
    ``per_item_weights`` how many outputs it is of. Raises ``UserError`` where no trigger comes twice.
    """
    tokens_BT = items.tokens_BT
    loss_BT, hit_BT = np.zeros(tokens_BT.shape), np.zeros(tokens_BT.shape)
    per_batch = max(1, tokens_at_a_time // tokens_BT.shape[1])
    for begin in range(0, len(tokens_BT), per_batch):
        part_BT = tokens_BT[begin : begin + per_batch].to(model.device)
        with evaluating(model):
            hidden_ND = run_plain(model, part_BT)[:, :-1].flatten(0, 1)
            logprob_N, first_N = score_tokens(model, hidden_ND, part_BT[:, 1:].flatten())
        require_finite(logprob_N.cpu())
        shape = (len(part_BT), -1)
        loss_BT[begin : begin + per_batch, 1:] = -logprob_N.double().cpu().numpy().reshape(shape)
        hit_BT[begin : begin + per_batch, 1:] = first_N.double().cpu().numpy().reshape(shape)
        if progress:
            progress(begin + len(part_BT), len(tokens_BT))
    return _summary(loss_BT, hit_BT, items.occurrence_BT, seed)


def _summary(
    loss_BT: NDArray[np.float64], hit_BT: NDArray[np.float64], occurrence_BT: NDArray[np.int32], seed: int
) -> RecallResult:
    again_BT, first_BT = occurrence_BT >= 2, occurrence_BT == 1
    if not again_BT.any():
        raise UserError(
            "recall: no trigger came twice, expected some; lengthen the sequences or lower recall_triggers."
        )
    num_B, loss_B = again_BT.sum(axis=1), (loss_BT * again_BT).sum(axis=1)
    hits_B = (hit_BT * again_BT).sum(axis=1)
    times = [n for n in range(2, int(occurrence_BT.max()) + 1) if (occurrence_BT == n).any()]
    return RecallResult(
        accuracy=ratio(hits_B, num_B, seed=seed),
        loss_repeat=ratio(loss_B, num_B, seed=seed),
        loss_first=ratio((loss_BT * first_BT).sum(axis=1), first_BT.sum(axis=1), seed=seed),
        by_occurrence={n: mean(hit_BT[occurrence_BT == n], seed=seed) for n in times},
        per_item={
            "accuracy": tuple((hits_B / np.maximum(num_B, 1)).tolist()),
            "loss_repeat": tuple((loss_B / np.maximum(num_B, 1)).tolist()),
        },
        per_item_weights=dict.fromkeys(("accuracy", "loss_repeat"), tuple(num_B.tolist())),
    )
