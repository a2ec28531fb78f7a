"""Next-token logits for continuations of prompts through any causal model, in the cache that transformers keeps.

Letters: P prompts, S positions of the longest prompt, R rows (live continuations), V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


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
