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

from stillroom.models.output_layer import unembedding_inputs
from stillroom.models.packing import MASKED, needs_rows, rotary_limits, straddles
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
    prompts: tuple[tuple[int, ...], ...]

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
        return cls(model, cache, mask_PS, output.logits[:, -1].float(), tuple(map(tuple, prompts)))

    def rows(self, num_each: int, capacity: int) -> CacheRows | WholeRows:
        """Fresh continuations of every prompt; from the whole text where they may grow past a change of frequencies,
        which what is in the cache would miss.
        """
        lengths = [len(prompt) for prompt in self.prompts]
        if straddles(self.model, min(lengths), max(lengths) + capacity):
            return WholeRows(self.model, self.prompts, num_each, capacity)
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


def has_cache(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> bool:
    """Whether the model's cache is keys and values alone, which take padding on the left and a choice of rows, and the
    prompts are on one side of every length at which its rotary frequencies change.
    """
    lengths = [len(prompt) for prompt in prompts]
    is_plain = model.config.model_type in MASKED and not needs_rows(model)
    return is_plain and not straddles(model, min(lengths), max(lengths))


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
        return WholeRows(self.model, self.prompts, num_each, capacity)


class WholeRows:
    """Continuations as texts, padded on the right."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], num_each: int, capacity: int) -> None:
        self._model = model
        texts = [prompt for prompt in prompts for _ in range(num_each)]
        tokens_RS, self._lengths_R = pad(texts, model.device, left=False)
        self._tokens_RS = torch.nn.functional.pad(tokens_RS, (0, capacity))

    def keep(self, rows: Tensor) -> None:
        """Drops every row but these."""
        self._tokens_RS, self._lengths_R = self._tokens_RS[rows], self._lengths_R[rows]

    def step(self, tokens_R: Tensor) -> Tensor:
        """Appends one token to every row; the logits (R, V), fp32, of what comes next."""
        self._tokens_RS[torch.arange(len(tokens_R), device=tokens_R.device), self._lengths_R] = tokens_R
        self._lengths_R = self._lengths_R + 1
        return _last_logits(self._model, self._tokens_RS[:, : int(self._lengths_R.max())], self._lengths_R)


def _last_logits(model: PreTrainedModel, tokens_RS: Tensor, lengths_R: Tensor) -> Tensor:
    """Logits (R, V), fp32, behind the last token of every row; rows on either side of a change of the rotary
    frequencies, of which a call has one set, go through the model apart.
    """
    limits = torch.tensor(sorted(rotary_limits(model)), device=lengths_R.device)
    side_R = (lengths_R[:, None] > limits).sum(dim=1)
    found: list[tuple[Tensor, Tensor]] = []
    for side in side_R.unique():
        rows = (side_R == side).nonzero()[:, 0]
        lengths = lengths_R[rows]
        hidden_RSD = unembedding_inputs(model, input_ids=tokens_RS[rows, : int(lengths.max())])
        found.append((rows, logits(model, hidden_RSD[torch.arange(len(rows), device=rows.device), lengths - 1])))
    return torch.cat([part for _, part in found])[torch.cat([rows for rows, _ in found]).argsort()]
