"""Next-token logits for continuations of prompts through any causal model, in the cache that transformers keeps, or
from the whole text at every step where a model's cache does not hold a batch of texts of different lengths.

Letters: P prompts, S positions of the longest prompt, R rows (live continuations), V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from stillroom.models.packing import MASKED, needs_rows, rotary_limits, straddles
from stillroom.models.readout import unembedding_inputs
from stillroom.models.score import logits


def pad(prompts: Sequence[Sequence[int]], device: torch.device, left: bool) -> tuple[Tensor, Tensor]:
    """Token ids (P, S), padded with 0 on the left or the right, and the lengths (P,)."""
    lengths = [len(prompt) for prompt in prompts]
    longest = max(lengths)
    tokens_PS = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        place = slice(longest - len(prompt), None) if left else slice(0, len(prompt))
        tokens_PS[row, place] = torch.tensor(list(prompt))
    return tokens_PS.to(device), torch.tensor(lengths, device=device)


@dataclass(frozen=True)
class CachePrefix:
    """Prompts through any causal model, padded on the left, in the cache that transformers keeps."""

    model: PreTrainedModel
    cache: DynamicCache
    mask_PS: Tensor
    logits_PV: Tensor

    @classmethod
    def of(cls, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> CachePrefix:
        """Encodes the prompts."""
        tokens_PS, lengths_P = pad(prompts, model.device, left=True)
        longest = tokens_PS.shape[1]
        mask_PS = (torch.arange(longest, device=model.device) >= longest - lengths_P[:, None]).long()
        cache = DynamicCache(config=model.config)
        output = model(
            input_ids=tokens_PS,
            attention_mask=mask_PS,
            position_ids=(mask_PS.cumsum(1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cls(model, cache, mask_PS, output.logits[:, -1].float())

    def rows(self, num_each: int, capacity: int) -> CacheRows:
        """Fresh continuations of every prompt."""
        del capacity  # the cache grows as it is filled
        return CacheRows(self, num_each)


class CacheRows:
    """Continuations in the cache that transformers keeps, one copy of the prompt's part for each row."""

    def __init__(self, prefix: CachePrefix, num_each: int) -> None:
        self._model = prefix.model
        self._cache = copy.deepcopy(prefix.cache)
        self._cache.batch_repeat_interleave(num_each)
        self._mask_RS = prefix.mask_PS.repeat_interleave(num_each, dim=0)

    def keep(self, rows: Tensor) -> None:
        """Drops every row but these."""
        self._cache.batch_select_indices(rows)
        self._mask_RS = self._mask_RS[rows]

    def step(self, tokens_R: Tensor) -> Tensor:
        """Appends one token to every row; the logits (R, V), fp32, of what comes next."""
        self._mask_RS = torch.cat([self._mask_RS, self._mask_RS.new_ones(len(tokens_R), 1)], dim=1)
        output = self._model(
            input_ids=tokens_R[:, None],
            attention_mask=self._mask_RS,
            position_ids=self._mask_RS.sum(dim=1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
        )
        return output.logits[:, -1].float()


def has_cache(model: PreTrainedModel, shortest: int, longest: int) -> bool:
    """Whether the model's cache is keys and values alone, which take padding on the left and a choice of rows, and are
    the same for texts of all these lengths.
    """
    return model.config.model_type in MASKED and not needs_rows(model) and not straddles(model, shortest, longest)


@dataclass(frozen=True)
class WholePrefix:
    """Prompts of a model that keeps more than keys and values: every step runs the whole text, which is always exact.

    Padding is on the right, where a causal model never looks.
    """

    model: PreTrainedModel
    prompts: tuple[tuple[int, ...], ...]
    logits_PV: Tensor

    @classmethod
    def of(cls, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> WholePrefix:
        """Encodes the prompts."""
        tokens_PS, lengths_P = pad(prompts, model.device, left=False)
        return cls(model, tuple(map(tuple, prompts)), _last_logits(model, tokens_PS, lengths_P))

    def rows(self, num_each: int, capacity: int) -> WholeRows:
        """Fresh continuations of every prompt."""
        return WholeRows(self, num_each, capacity)


class WholeRows:
    """Continuations as texts, padded on the right."""

    def __init__(self, prefix: WholePrefix, num_each: int, capacity: int) -> None:
        self._model = prefix.model
        texts = [prompt for prompt in prefix.prompts for _ in range(num_each)]
        tokens_RS, self._lengths_R = pad(texts, self._model.device, left=False)
        self._tokens_RS = torch.nn.functional.pad(tokens_RS, (0, capacity))

    def keep(self, rows: Tensor) -> None:
        """Drops every row but these."""
        self._tokens_RS, self._lengths_R = self._tokens_RS[rows], self._lengths_R[rows]

    def step(self, tokens_R: Tensor) -> Tensor:
        """Appends one token to every row; the logits (R, V), fp32, of what comes next."""
        self._tokens_RS[torch.arange(len(tokens_R), device=tokens_R.device), self._lengths_R] = tokens_R
        self._lengths_R = self._lengths_R + 1
        return _last_logits(self._model, self._tokens_RS, self._lengths_R)


def _last_logits(model: PreTrainedModel, tokens_RS: Tensor, lengths_R: Tensor) -> Tensor:
    """Logits (R, V), fp32, behind the last token of every row."""
    limits = torch.tensor(sorted(rotary_limits(model)), device=lengths_R.device)
    side_R = torch.bucketize(lengths_R, limits)
    rows = [(side_R == side).nonzero()[:, 0] for side in side_R.unique()]
    found = [_last_logits_of_one_side(model, tokens_RS[part], lengths_R[part]) for part in rows]
    return torch.cat(found)[torch.cat(rows).argsort()]


def _last_logits_of_one_side(model: PreTrainedModel, tokens_RS: Tensor, lengths_R: Tensor) -> Tensor:
    hidden_RSD = unembedding_inputs(model, input_ids=tokens_RS[:, : int(lengths_R.max())])
    return logits(model, hidden_RSD[torch.arange(len(tokens_RS), device=tokens_RS.device), lengths_R - 1])
