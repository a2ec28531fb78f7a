"""Next-token logits for many continuations of a few prompts, each prompt encoded once.

The Llama layout has an engine of its own: a prompt's keys and values are kept once for all of its continuations, and
only what a continuation adds is kept per row. Other causal models run through their own forward pass, with its cache
where that holds keys and values alone, else over the whole text at every step.

Letters: P prompts, S positions of the longest prompt, R rows (live continuations), C capacity (new tokens),
G = query heads per key head, K key heads, H = K·G query heads, E width of a head, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel

from stillroom.evaluation.sampling.transformers_cache import CachePrefix, WholePrefix, has_cache, pad

_BLOCK = 16
"""Tokens in a block of a row's own cache: a whole block goes into a matrix product as it lies, a part of one is copied
first, which costs more than the product."""
_LOW_PRECISION_BLOCK = 64
"""The same below fp32, where a product costs nearly as much for few tokens as for many."""
_FUSED_UP_TO = 1 << 21
"""Numbers in the matrices of a layer that are laid together for one product; larger ones gain nothing from it and would
be held twice."""
_STATIC_ROTARY = {"default", "linear", "llama3", "yarn"}


class CacheRows(Protocol):
    """Live continuations, each at the end of what it has written."""

    def step(self, tokens_R: Tensor) -> Tensor:
        """Appends one token to every row; the logits (R, V), fp32, of what comes next."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drops every row but these, in this order (ascending)."""
        ...


class Prefix(Protocol):
    """Encoded prompts."""

    @property
    def logits_PV(self) -> Tensor:
        """Logits of the first token after each prompt, fp32."""
        ...

    def rows(self, num_each: int, capacity: int) -> CacheRows:
        """``num_each`` continuations of every prompt, prompt by prompt, of at most ``capacity`` tokens."""
        ...


def encode_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Prefix:
    """Runs the prompts through the model once, with the fastest engine that the model's layout allows."""
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt must hold at least one token; give the tokenizer a bos token")
    if has_own_engine(model):
        return LlamaPrefix.of(model, prompts)  # pyright: ignore[reportArgumentType]
    return (CachePrefix if has_cache(model, prompts) else WholePrefix).of(model, prompts)


def has_own_engine(model: PreTrainedModel) -> bool:
    """Whether the model has the Llama layout, with positions that do not depend on the length of the text."""
    rotary = getattr(model.config, "rope_parameters", None) or {}
    return type(model) is LlamaForCausalLM and rotary.get("rope_type", "default") in _STATIC_ROTARY


@dataclass(frozen=True)
class LlamaPrefix:
    """Prompts through a model in the Llama layout: keys and values (P, K, S, E) of every layer, padded on the right."""

    model: LlamaForCausalLM
    blocks: tuple[_Block, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    lengths_P: Tensor
    logits_PV: Tensor

    @classmethod
    def of(cls, model: LlamaForCausalLM, prompts: Sequence[Sequence[int]]) -> LlamaPrefix:
        """Encodes the prompts. Padding is on the right, where causal attention never looks."""
        tokens_PS, lengths_P = pad(prompts, model.device, left=False)
        num_prompts, longest = tokens_PS.shape
        cos, sin = _rotary(model, longest)
        hidden = model.model.embed_tokens(tokens_PS)
        keys, values = [], []
        blocks = tuple(_Block.of(layer) for layer in model.model.layers)
        for block in blocks:
            layer = block.layer
            parts = block.project(_norm(layer.input_layernorm, hidden), cos[:, None], sin[:, None])
            query, key, value = (part.transpose(1, 2) for part in parts)  # (P, heads, S, E)
            keys.append(key.contiguous())  # read again at every step, as one matrix for each prompt and head
            values.append(value.contiguous())
            seen = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=True, scale=layer.self_attn.scaling
            )
            hidden = block.finish(hidden, seen.transpose(1, 2).reshape(num_prompts, longest, -1))
        last_PD = hidden[torch.arange(num_prompts, device=hidden.device), lengths_P - 1]
        return cls(model, blocks, tuple(keys), tuple(values), lengths_P, _logits(model, last_PD))

    def rows(self, num_each: int, capacity: int) -> LlamaRows:
        """Fresh continuations of every prompt."""
        return LlamaRows(self, num_each, capacity)


class LlamaRows:
    """Continuations in the Llama layout; ``slots_R`` places each row in the grid (prompt, number of the sample)."""

    def __init__(self, prefix: LlamaPrefix, num_each: int, capacity: int) -> None:
        model = prefix.model
        self._model, self._blocks = model, prefix.blocks
        self._keys, self._values = list(prefix.keys), list(prefix.values)
        self._lengths_P = prefix.lengths_P
        num_prompts, _, longest, _ = prefix.keys[0].shape
        device = prefix.lengths_P.device
        self._prompts_R = torch.arange(num_prompts, device=device).repeat_interleave(num_each)
        self._cos, self._sin = _rotary(model, longest + capacity)
        self._size = min(capacity, _BLOCK if model.dtype == torch.float32 else _LOW_PRECISION_BLOCK)
        self._new_keys: list[list[Tensor]] = [[] for _ in prefix.keys]  # layer → blocks (R, K, size, E)
        self._new_values: list[list[Tensor]] = [[] for _ in prefix.keys]
        self._num_new = 0
        self._place()

    def _place(self) -> None:
        """Numbers the rows of every prompt from 0, so that the prompt's keys meet all of its rows in one product."""
        num_prompts = len(self._lengths_P)
        counts_P = torch.bincount(self._prompts_R, minlength=num_prompts)
        self._num_slots = int(counts_P.max())
        firsts_P = counts_P.cumsum(0) - counts_P
        ranks_R = torch.arange(len(self._prompts_R), device=counts_P.device) - firsts_P[self._prompts_R]
        self._slots_R = self._prompts_R * self._num_slots + ranks_R
        self._is_full = len(self._prompts_R) == num_prompts * self._num_slots
        longest = self._keys[0].shape[2]
        beyond_PS = torch.arange(longest, device=counts_P.device) >= self._lengths_P[:, None]
        self._padding_RS = beyond_PS[self._prompts_R] if bool(beyond_PS.any()) else None
        self._lay_out_scores()

    def _lay_out_scores(self) -> None:
        """A place for a layer's scores (R, K, G, S + room for tokens); those of tokens not yet written stay -inf."""
        _, heads, longest, _ = self._keys[0].shape
        group = self._model.config.num_attention_heads // heads
        shape = (len(self._prompts_R), heads, group, longest + self._size * len(self._new_keys[0]))
        self._scores = self._keys[0].new_full(shape, float("-inf"))

    def keep(self, rows: Tensor) -> None:
        """Drops every row but these, and the prompts that have none left."""
        used_P, self._prompts_R = torch.unique(self._prompts_R[rows], return_inverse=True)
        if len(used_P) < len(self._lengths_P):
            self._keys = [key[used_P] for key in self._keys]
            self._values = [value[used_P] for value in self._values]
            self._lengths_P = self._lengths_P[used_P]
        self._new_keys = [[block[rows] for block in blocks] for blocks in self._new_keys]
        self._new_values = [[block[rows] for block in blocks] for blocks in self._new_values]
        self._place()

    def _add_block(self) -> None:
        """Makes room for another block of tokens."""
        shape = (len(self._prompts_R), self._keys[0].shape[1], self._size, self._keys[0].shape[3])
        for index, key in enumerate(self._keys):
            # What lies beyond the written keys is not read; values there are multiplied by 0 and must be numbers.
            self._new_keys[index].append(key.new_empty(shape))
            self._new_values[index].append(key.new_zeros(shape))
        self._lay_out_scores()

    def step(self, tokens_R: Tensor) -> Tensor:
        """Appends one token to every row; the logits (R, V), fp32, of what comes next."""
        model = self._model
        places_R = self._lengths_P[self._prompts_R] + self._num_new
        cos, sin = self._cos[places_R, None], self._sin[places_R, None]
        hidden_RD = model.model.embed_tokens(tokens_R)
        place = self._num_new % self._size
        if place == 0:
            self._add_block()
        self._num_new += 1
        for index, block in enumerate(self._blocks):
            query, key, value = block.project(_norm(block.layer.input_layernorm, hidden_RD), cos, sin)
            self._new_keys[index][-1][:, :, place] = key
            self._new_values[index][-1][:, :, place] = value
            seen = self._attend(index, query, block.layer.self_attn.scaling)
            hidden_RD = block.finish(hidden_RD, seen.flatten(1))
        return _logits(model, hidden_RD)

    def _attend(self, index: int, query: Tensor, scaling: float) -> Tensor:
        """What every head of every row reads, (R, H, E), from the shared prompt and from its own tokens."""
        num_rows, num_heads, width = query.shape
        heads, longest = self._keys[index].shape[1:3]
        grouped = (query * scaling).view(num_rows, heads, num_heads // heads, width)  # (R, K, G, E)
        shared_scores = self._scores[..., :longest]
        shared_scores.copy_(self._per_prompt(grouped, self._keys[index].transpose(-1, -2)))
        if self._padding_RS is not None:
            shared_scores.masked_fill_(self._padding_RS[:, None, None], float("-inf"))
        rows = grouped.flatten(0, 1)  # (R·K, G, E)
        for block, scores in zip(self._new_keys[index], self._of_blocks(self._scores), strict=True):
            own = torch.bmm(rows, block.flatten(0, 1).transpose(1, 2)).view_as(scores)
            written = self._num_new - (self._scores.shape[-1] - longest - self._size)  # in the last block
            whole = block is not self._new_keys[index][-1]
            scores[..., : None if whole else written].copy_(own[..., : None if whole else written])
        pattern = self._scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
        seen = self._per_prompt(pattern[..., :longest], self._values[index]).reshape(rows.shape)
        for block, part in zip(self._new_values[index], self._of_blocks(pattern), strict=True):
            seen = torch.baddbmm(seen, part.flatten(0, 1), block.flatten(0, 1))
        return seen.view_as(query)

    def _of_blocks(self, scores: Tensor) -> tuple[Tensor, ...]:
        """The part of scores (R, K, G, S + room) that is of each block, (R, K, G, size)."""
        return scores[..., self._keys[0].shape[2] :].split(self._size, dim=-1)

    def _per_prompt(self, rows: Tensor, shared: Tensor) -> Tensor:
        """``rows`` (R, K, G, X) times the prompt's ``shared`` (P, K, X, Y): (R, K, G, Y), one product per prompt."""
        num_prompts, heads, inner, outer = shared.shape
        group, slots = rows.shape[2], self._num_slots
        if self._is_full:
            grid = rows
        else:
            grid = rows.new_zeros(num_prompts * slots, heads, group, inner)
            grid[self._slots_R] = rows
        grid = grid.view(num_prompts, slots, heads, group, inner).transpose(1, 2).reshape(num_prompts, heads, -1, inner)
        product = (grid @ shared).view(num_prompts, heads, slots, group, outer).transpose(1, 2)
        product = product.reshape(num_prompts * slots, heads, group, outer)
        return product if self._is_full else product[self._slots_R]


@dataclass(frozen=True)
class _Block:
    """A layer, and its matrices of one input laid together (weight, bias) where that is worth it."""

    layer: Any
    attention: tuple[Tensor, Tensor | None] | None
    """Query, key and value."""
    feed: tuple[Tensor, Tensor | None] | None
    """Gate and up."""

    @classmethod
    def of(cls, layer: Any) -> _Block:
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            layer,
            _together(attention.q_proj, attention.k_proj, attention.v_proj),
            _together(mlp.gate_proj, mlp.up_proj),
        )

    def project(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query (..., H, E), key and value (..., K, E), the first two rotated to their positions."""
        attention = self.layer.self_attn
        modules = (attention.q_proj, attention.k_proj, attention.v_proj)
        if self.attention is None:
            query, key, value = (module(hidden).unflatten(-1, (-1, attention.head_dim)) for module in modules)
            return _rotate(query, cos, sin), _rotate(key, cos, sin), value
        heads = functional.linear(hidden, *self.attention).unflatten(-1, (-1, attention.head_dim))
        num_queries, num_keys = (module.out_features // attention.head_dim for module in modules[:2])
        rotated = _rotate(heads[..., : num_queries + num_keys, :], cos, sin)
        return rotated[..., :num_queries, :], rotated[..., num_queries:, :], heads[..., num_queries + num_keys :, :]

    def finish(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """The residual stream after the attention's output and the feed-forward layer."""
        mlp = self.layer.mlp
        hidden = _add(hidden, self.layer.self_attn.o_proj, seen)
        normal = _norm(self.layer.post_attention_layernorm, hidden)
        if self.feed is None:
            return hidden + mlp(normal)
        gate, up = functional.linear(normal, *self.feed).chunk(2, dim=-1)
        return _add(hidden, mlp.down_proj, mlp.act_fn(gate) * up)


def _together(*modules: Any) -> tuple[Tensor, Tensor | None] | None:
    """One weight and bias for plain linear layers of one input; None where one is more than that, or they are large."""
    if not all(map(_is_plain, modules)) or sum(module.weight.numel() for module in modules) > _FUSED_UP_TO:
        return None
    biases = [module.bias for module in modules]
    if any((bias is None) != (biases[0] is None) for bias in biases):
        return None
    return torch.cat([module.weight for module in modules]), None if biases[0] is None else torch.cat(biases)


def _is_plain(module: Any) -> bool:
    """Whether a layer is its matrix product and nothing more."""
    return type(module) is nn.Linear and not module._forward_hooks and not module._forward_pre_hooks


def _add(hidden: Tensor, module: Any, inputs: Tensor) -> Tensor:
    """The residual stream with a layer's output added to it: in the product itself, for rows of plain layers."""
    if hidden.ndim == 2 and _is_plain(module) and module.bias is None:
        return torch.addmm(hidden, inputs, module.weight.t())
    return hidden + module(inputs)


def _norm(norm: Any, hidden: Tensor) -> Tensor:
    return functional.rms_norm(hidden, (hidden.shape[-1],), norm.weight, norm.variance_epsilon)


def _logits(model: LlamaForCausalLM, hidden_RD: Tensor) -> Tensor:
    return model.lm_head(_norm(model.model.norm, hidden_RD)).float()


def _rotary(model: LlamaForCausalLM, num_positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions, each (num_positions, E)."""
    like = torch.empty(0, dtype=model.dtype, device=model.device)
    cos, sin = model.model.rotary_emb(like, torch.arange(num_positions, device=model.device)[None])
    return cos[0], sin[0]


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The heads turned by their positions' angles, whose cosines and sines stand twice in the last dimension."""
    first, second = heads.chunk(2, dim=-1)
    turned = heads * cos
    sin = sin[..., : first.shape[-1]]
    turned[..., : first.shape[-1]].addcmul_(second, sin, value=-1)
    turned[..., first.shape[-1] :].addcmul_(first, sin)
    return turned
