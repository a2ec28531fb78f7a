"""What is measured of a student while it learns the recall world, against the truth of every position.

Letters: B sequences, T positions, N scored positions, V characters, L layers, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.analysis import previous_token_scores
from stillroom.models import attention_patterns, hidden_states, precision, unembedding
from stillroom.types import Batch
from stillroom.worlds.recall import RecallWorld
from stillroom.worlds.recall_sequences import recall_batch
from stillroom.worlds.recall_teachers import entropies, exact_probabilities

HIGH_NATS, LOW_NATS = 2.0, 1.0
"""Rows of an entropy above the first are called high, below the second low."""
_BINS = 15
_TINY = 1e-30


@dataclass(frozen=True)
class RecallTruth:
    """Held-out sequences and everything that is true of them. Positions are those with a next token, T' = T - 1."""

    batch: Batch
    rows_BTV: Tensor
    """True distribution of the next token, float32."""
    entropy_BT: Tensor
    """Its entropy, nats."""
    is_scored_BT: Tensor
    """The next token answers a trigger for the second time or later."""
    is_ordinary_BT: Tensor
    """The current token is no trigger."""
    followed_BT: Tensor
    """What followed the last earlier occurrence of the current token; -1 where there is none."""

    @property
    def optimal_loss(self) -> float:
        """Mean nats per token of one who knows the truth."""
        return float(self.entropy_BT.mean())


def recall_truth(world: RecallWorld, num: int, length: int, seed: int) -> RecallTruth:
    """``num`` held-out sequences with their truth."""
    sample = world.sample(np.arange(num), length, seed)
    rows = exact_probabilities(world, sample.tokens_BT, sample.triggers_BK)[:, :-1]
    asks_BT = torch.from_numpy(sample.asks_BT[:, :-1])
    batch = recall_batch(sample)
    return RecallTruth(
        batch,
        torch.from_numpy(rows),
        torch.from_numpy(entropies(rows)),
        asks_BT >= 2,
        asks_BT == 0,
        last_follower(batch.tokens_BT)[:, :-1],
    )


def last_follower(tokens_BT: Tensor) -> Tensor:
    """The token after the last earlier occurrence of the current one, (B, T); -1 where it did not occur before."""
    length = tokens_BT.shape[1]
    same_BTT = (tokens_BT[:, :, None] == tokens_BT[:, None, :]) & earlier(length, tokens_BT.device)
    places = torch.arange(length, device=tokens_BT.device)
    last_BT = torch.where(same_BTT, places, -1).amax(-1)
    follower_BT = tokens_BT.gather(1, (last_BT + 1).clamp(max=length - 1))
    return torch.where(last_BT >= 0, follower_BT, -1)


def earlier(length: int, device: torch.device) -> Tensor:
    """Whether the second place is before the first, (T, T)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril(-1)


def prefix_matching_in(patterns_LBHTT: Tensor, tokens_BT: Tensor, queries_BT: Tensor) -> Tensor:
    """Mean attention (L, H), fp64, from some places to what followed the same token earlier in the sequence.

    The attention to the followers of all earlier occurrences is summed, so a head that splits it among them scores 1.
    A follower at the query itself (the token said twice in a row) counts. This is Bietti et al.'s probe (2306.00802,
    section 4) on the world's own sequences; on repeated random tokens it is ``analysis.prefix_matching_scores``.
    """
    length = tokens_BT.shape[1]
    same_BTT = (tokens_BT[:, :, None] == tokens_BT[:, None, :]) & earlier(length, tokens_BT.device)
    follows_BTT = torch.zeros_like(same_BTT)
    follows_BTT[:, :, 1:] = same_BTT[:, :, :-1]
    matched_LBHT = (patterns_LBHTT * follows_BTT[None, :, None]).sum(-1)
    weight_BT = queries_BT.to(torch.float64)
    total_LH = (matched_LBHT.double() * weight_BT[None, :, None]).sum((1, 3))
    return (total_LH / weight_BT.sum().clamp(min=1.0)).cpu()


@torch.no_grad()
def next_token_probabilities(model: PreTrainedModel, batch: Batch, precision_name: str) -> Tensor:
    """What the model says of every position that has a next token, (B, T - 1, V), float32, on the processor."""
    batch = batch.to(model.device)
    with precision(precision_name, batch.tokens_BT.device):
        hidden_BTD = hidden_states(model, batch, isolate=False)[:, :-1]
        weight_VD, _ = unembedding(model)
        return torch.softmax((hidden_BTD @ weight_VD.T).float(), dim=-1).cpu()


def measure(model: PreTrainedModel, truth: RecallTruth, precision_name: str) -> dict[str, float | None]:
    """Every number of a probe that needs no attention pattern; None where there is no such position.

    ``copy_accuracy``, ``copy_loss`` (nats) on scored positions; ``loss`` over all; ``kl_high``, ``kl_low`` from the
    true row on ordinary positions of high and low entropy, and ``kl_first`` on first answers; ``over_copying``;
    ``calibration_error``.
    """
    was_training = model.training
    model.eval()
    probabilities = next_token_probabilities(model, truth.batch, precision_name)
    model.train(was_training)
    return measures(probabilities, truth)


def measures(probabilities_BTV: Tensor, truth: RecallTruth) -> dict[str, float | None]:
    """See ``measure``; from what a model said."""
    logs_BTV = probabilities_BTV.clamp(min=_TINY).log()
    gold_BT = truth.batch.targets_BT[:, :-1]
    nats_BT = -logs_BTV.gather(-1, gold_BT[..., None])[..., 0]
    # Σ π log π - Σ π log p: exact, where the divergence from sampled tokens would be noise.
    kl_BT = -(truth.rows_BTV * logs_BTV).sum(-1) - truth.entropy_BT
    choice_BT = probabilities_BTV.argmax(-1)
    ordinary, scored = truth.is_ordinary_BT, truth.is_scored_BT
    return {
        "copy_accuracy": _mean((choice_BT == gold_BT).float(), scored),
        "copy_loss": _mean(nats_BT, scored),
        "loss": float(nats_BT.mean()),
        "kl": float(kl_BT.mean()),
        "kl_high": _mean(kl_BT, ordinary & (truth.entropy_BT > HIGH_NATS)),
        "kl_low": _mean(kl_BT, ordinary & (truth.entropy_BT < LOW_NATS)),
        "kl_first": _mean(kl_BT, ~ordinary & ~scored),
        "over_copying": over_copying(probabilities_BTV, truth),
        "calibration_error": calibration_error(probabilities_BTV, truth),
    }


def over_copying(probabilities_BTV: Tensor, truth: RecallTruth) -> float | None:
    """Probability beyond the true one of repeating, at ordinary positions, what followed the token last time.

    Mean over ordinary positions whose token occurred before of p(follower) - π(follower): 0 for one who copies no more
    than the bigrams do by themselves, 1 for one who always copies where nothing does.
    """
    place = truth.followed_BT.clamp(min=0)[..., None]
    beyond_BT = (probabilities_BTV - truth.rows_BTV).gather(-1, place)[..., 0]
    return _mean(beyond_BT, truth.is_ordinary_BT & (truth.followed_BT >= 0))


def calibration_error(probabilities_BTV: Tensor, truth: RecallTruth) -> float | None:
    """Expected calibration error on ordinary positions (Guo et al. 2017, eq. 3; 15 bins of equal width).

    The accuracy of a bin is the mean *true* probability of the model's choice there, so no sampling of labels blurs it.
    """
    counted = truth.is_ordinary_BT
    if not counted.any():
        return None
    confidence_N, choice_N = probabilities_BTV[counted].max(-1)
    right_N = truth.rows_BTV[counted].gather(-1, choice_N[:, None])[:, 0]
    bin_N = (confidence_N * _BINS).long().clamp(max=_BINS - 1)
    gaps = torch.zeros(_BINS).index_add_(0, bin_N, confidence_N - right_N)
    return float(gaps.abs().sum() / len(confidence_N))


def _mean(values_BT: Tensor, mask_BT: Tensor) -> float | None:
    return float(values_BT[mask_BT].double().mean()) if mask_BT.any() else None


Patterns = list[list[list[list[float]]]]


def head_measures(model: PreTrainedModel, truth: RecallTruth, num: int) -> dict[str, list[list[float]]]:
    """``previous_token`` and ``prefix_matching`` of every head, lists (L, H), on the first ``num`` sequences.

    Previous token: mean attention to the token before. Prefix matching: on scored positions, see
    ``prefix_matching_in``.
    """
    tokens_BT = truth.batch.tokens_BT[:num]
    queries_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
    queries_BT[:, :-1] = truth.is_scored_BT[:num]
    was_training = model.training
    model.eval()
    patterns_LBHTT = attention_patterns(model, tokens_BT.to(model.device)).cpu()
    model.train(was_training)
    matching = prefix_matching_in(patterns_LBHTT, tokens_BT, queries_BT)
    return {
        "previous_token": _rounded(previous_token_scores(patterns_LBHTT)),
        "prefix_matching": _rounded(matching),
    }


def attention_picture(model: PreTrainedModel, truth: RecallTruth, length: int) -> dict[str, list[int] | Patterns]:
    """The first ``length`` tokens of the first held-out sequence and every head's attention over them, (L, H, T, T)."""
    was_training = model.training
    model.eval()
    patterns = attention_patterns(model, truth.batch.tokens_BT[:1, :length].to(model.device))[:, 0]
    model.train(was_training)
    return {"tokens": truth.batch.tokens_BT[0, :length].tolist(), "patterns": _rounded(patterns, 3)}


def _rounded(values: Tensor, digits: int = 5) -> Any:
    return np.round(values.double().cpu().numpy(), digits).tolist()
