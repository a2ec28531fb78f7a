"""In-context copying: random tokens that repeat, which only a model that looks back can predict.

Letters: B sequences, T positions, P period, R repeats, V ids that may be drawn. After Olsson et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, Progress, evaluating, run_plain, score_tokens
from stillroom.evaluation.statistics import mean
from stillroom.types import Sequences, UserError


def frequent_tokens(sequences: Sequences, special: frozenset[int], num: int, *, num_sequences: int = 512) -> list[int]:
    """The ``num`` most frequent ids of the first ``num_sequences`` sequences, special tokens left out.

    Fewer where fewer occur. A model of a million parameters has barely seen the rarest ids, so copying them measures
    their embeddings and not the model's looking back.
    """
    batch = sequences.batch(range(min(num_sequences, len(sequences))))
    ids, counts = np.unique(batch.tokens_BT.numpy(), return_counts=True)
    ordinary = ~np.isin(ids, list(special))
    order = np.lexsort((ids[ordinary], -counts[ordinary]))
    return [int(i) for i in ids[ordinary][order][:num]]


def repeated_tokens(
    vocabulary: Sequence[int], start: Sequence[int], *, num: int, period: int, repeats: int, seed: int
) -> Tensor:
    """``num`` sequences (B, T) of ``start``, then ``period`` random ids, ``repeats`` times over.

    The ids of a period are all different, so that every token has one successor and a perfect copier is always right.
    Each sequence is a function of the seed and its number.
    """
    if period > len(vocabulary):
        raise UserError(
            f"copying_period is {period} but only {len(vocabulary)} token ids may be drawn, expected at least as many; "
            "shorten the period or raise copying_vocabulary."
        )
    ids_V = np.asarray(vocabulary, dtype=np.int64)
    rows = []
    for number in range(num):
        once_P = np.random.default_rng([seed, number]).choice(ids_V, size=period, replace=False)
        rows.append(np.concatenate([np.asarray(start, dtype=np.int64), np.tile(once_P, repeats)]))
    return torch.from_numpy(np.stack(rows))


def measure_copying(
    model: PreTrainedModel,
    tokens_BT: Tensor,
    *,
    period: int,
    repeats: int,
    seed: int = 0,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The ``copying`` part of an evaluation, from the sequences of ``repeated_tokens``.

    ``loss_first`` is of the tokens met for the first time, ``loss_repeat`` and ``accuracy_repeat`` of those whose
    predecessor has been seen with its successor: all of the later repeats but the first token of the second, since
    the step from the last token of the period to the first is new there. ``icl_score`` is loss late minus loss early,
    as Olsson's, with the last repeat for late and the first for early. Everything in nats, intervals over sequences.
    """
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and tokens_BT.shape[1] > longest:
        raise UserError(
            f"copying_period x copying_repeats makes {tokens_BT.shape[1]} tokens but the model has {longest} "
            "positions; lower one of them."
        )
    losses, firsts = [], []
    per_batch = max(1, tokens_at_a_time // tokens_BT.shape[1])
    for begin in range(0, len(tokens_BT), per_batch):
        part = tokens_BT[begin : begin + per_batch]
        loss_BN, first_BN = _losses(model, part.to(model.device), period * repeats)
        losses.append(loss_BN)
        firsts.append(first_BN)
        if progress:
            progress(min(begin + per_batch, len(tokens_BT)), len(tokens_BT))
    return _summary(np.concatenate(losses), np.concatenate(firsts), period, repeats, seed)


def _losses(
    model: PreTrainedModel, tokens_BT: Tensor, num_random: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nats and hits (0 or 1) of the random tokens, both (B, num_random), or one fewer where none opens the sequence."""
    num_scored = min(num_random, tokens_BT.shape[1] - 1)
    with evaluating(model):
        hidden_BTD = run_plain(model, tokens_BT)[:, -num_scored - 1 : -1]
        targets_BN = tokens_BT[:, -num_scored:]
        logprob_N, first_N = score_tokens(model, hidden_BTD.flatten(0, 1), targets_BN.flatten())
    shape = targets_BN.shape
    return -logprob_N.double().cpu().numpy().reshape(shape), first_N.double().cpu().numpy().reshape(shape)


def _summary(
    loss_BN: NDArray[np.float64], hit_BN: NDArray[np.float64], period: int, repeats: int, seed: int
) -> dict[str, Any]:
    unscored = period * repeats - loss_BN.shape[1]  # 1 where nothing precedes the first token
    early = slice(0, period - unscored)
    repeated = slice(period - unscored + 1, None)
    late_B = loss_BN[:, -period:].mean(axis=1) if repeats > 2 else loss_BN[:, repeated].mean(axis=1)
    early_B = loss_BN[:, early].mean(axis=1)
    return {
        "icl_score": mean(late_B - early_B, seed=seed).as_dict(),
        "loss_first": mean(early_B, seed=seed).as_dict(),
        "loss_repeat": mean(loss_BN[:, repeated].mean(axis=1), seed=seed).as_dict(),
        "accuracy_repeat": mean(hit_BN[:, repeated].mean(axis=1), seed=seed).as_dict(),
        "loss_by_position": [float(nats) for nats in loss_BN.mean(axis=0)],
        "period": period,
        "repeats": repeats,
    }
