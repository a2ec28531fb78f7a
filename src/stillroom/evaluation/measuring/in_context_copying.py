"""In-context copying: random tokens that repeat, which only a model that looks back can predict.

Letters: B sequences, T positions, P period, R repeats, V ids that may be drawn. After Olsson et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, evaluating, run_plain, score_tokens
from stillroom.models import num_positions, unembedding
from stillroom.results.schema import CopyingResult
from stillroom.results.statistics import mean, require_finite
from stillroom.types import OnProgress, Sequences, UserError


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
    Each sequence is a function of the seed and its number. Raises ``UserError`` where ``vocabulary`` is too small.
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
    progress: OnProgress | None = None,
) -> CopyingResult:
    """The ``copying`` part of an evaluation, from the sequences of ``repeated_tokens``.

    ``loss_first`` is of the tokens met for the first time, ``loss_repeat`` and ``accuracy_repeat`` of those whose
    predecessor has been seen with its successor: all of the later repeats but the first token of the second, since
    the step from the last token of the period to the first is new there. ``icl_score`` is loss late minus loss early,
    as Olsson's, with the last repeat for late and the first for early. Losses in nats, intervals over sequences.

    A model that only prefers whatever stands in its context gains on these without knowing what comes next.
    ``order_repeat`` tells the two apart: over the same positions, the share of the period's other tokens that the
    model finds less likely than the right one (the area under the ROC curve). 1/2 for such a model, 1 for a copier.

    Raises ``UserError`` where the sequences are longer than the model's positions.
    """
    longest = num_positions(model.config)
    if longest is not None and tokens_BT.shape[1] > longest:
        raise UserError(
            f"copying_period x copying_repeats makes {tokens_BT.shape[1]} tokens but the model has {longest} "
            "positions; lower one of them."
        )
    parts = []
    per_batch = max(1, tokens_at_a_time // tokens_BT.shape[1])
    for begin in range(0, len(tokens_BT), per_batch):
        part = tokens_BT[begin : begin + per_batch]
        parts.append(_scores(model, part.to(model.device), period, repeats))
        if progress:
            progress(min(begin + per_batch, len(tokens_BT)), len(tokens_BT))
    loss_BN, hit_BN, order_BN = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _summary(loss_BN, hit_BN, order_BN, period, repeats, seed)


def _scores(model: PreTrainedModel, tokens_BT: Tensor, period: int, repeats: int) -> list[NDArray[np.float64]]:
    """Nats, hits (0 or 1) and order (0 to 1) of the random tokens.

    Each (B, period x repeats), or one fewer where nothing opens the sequence.
    """
    num_scored = min(period * repeats, tokens_BT.shape[1] - 1)
    with evaluating(model):
        hidden_BND = run_plain(model, tokens_BT)[:, -num_scored - 1 : -1]
        targets_BN = tokens_BT[:, -num_scored:]
        logprob_N, first_N = score_tokens(model, hidden_BND.flatten(0, 1), targets_BN.flatten())
        require_finite(logprob_N.cpu())
        order_BN = _above_others(model, hidden_BND, targets_BN, tokens_BT[:, -period:])
    scores = (-logprob_N, first_N, order_BN)
    return [score.double().cpu().numpy().reshape(targets_BN.shape) for score in scores]


def _above_others(model: PreTrainedModel, hidden_BND: Tensor, targets_BN: Tensor, period_BP: Tensor) -> Tensor:
    """The share (B, N) of a period's other tokens whose logit is below the target's; equal ones count half.

    A cap on the logits would not change their order.
    """
    weight_VD, bias_V = unembedding(model)
    logits_BNP = torch.einsum("bnd,bpd->bnp", hidden_BND, weight_VD[period_BP].to(hidden_BND.dtype)).float()
    if bias_V is not None:
        logits_BNP = logits_BNP + bias_V[period_BP][:, None]
    right_BNP = targets_BN[:, :, None] == period_BP[:, None]
    target_BN1 = (logits_BNP * right_BNP).sum(-1, keepdim=True)
    above_BNP = (target_BN1 > logits_BNP).float() + 0.5 * (target_BN1 == logits_BNP).float()
    return (above_BNP * ~right_BNP).sum(-1) / (period_BP.shape[1] - 1)


def _summary(
    loss_BN: NDArray[np.float64],
    hit_BN: NDArray[np.float64],
    order_BN: NDArray[np.float64],
    period: int,
    repeats: int,
    seed: int,
) -> CopyingResult:
    unscored = period * repeats - loss_BN.shape[1]  # 1 where nothing precedes the first token
    early = slice(0, period - unscored)
    repeated = slice(period - unscored + 1, None)
    late_B = loss_BN[:, -period:].mean(axis=1) if repeats > 2 else loss_BN[:, repeated].mean(axis=1)
    early_B, repeat_B = loss_BN[:, early].mean(axis=1), loss_BN[:, repeated].mean(axis=1)
    order_B = order_BN[:, repeated].mean(axis=1)
    return CopyingResult(
        icl_score=mean(late_B - early_B, seed=seed),
        loss_first=mean(early_B, seed=seed),
        loss_repeat=mean(repeat_B, seed=seed),
        accuracy_repeat=mean(hit_BN[:, repeated].mean(axis=1), seed=seed),
        order_repeat=mean(order_B, seed=seed),
        loss_by_position=tuple(loss_BN.mean(axis=0).tolist()),
        period=period,
        repeats=repeats,
        per_item={
            "icl_score": tuple((late_B - early_B).tolist()),
            "loss_repeat": tuple(repeat_B.tolist()),
            "order_repeat": tuple(order_B.tolist()),
        },
    )
