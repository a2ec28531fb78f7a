"""Which heads look at the previous token, which find an earlier copy, and which write what they look at.

An induction head is high on prefix matching and copying (Olsson et al. 2022). Pure functions of taps and weights.

Letters: L layers, B sequences, H query heads, K key heads, T positions, D width, E width of a head, U tokens read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from stillroom.models import unembedding
from stillroom.models.forward import patterns_by_layer
from stillroom.results.schema import HeadsResult
from stillroom.types import OnProgress

_PATTERNS_AT_A_TIME = 1 << 25
_SEQUENCES_AT_A_TIME = 16


_NO_COPYING = "the model is not in the Llama layout, whose value and output matrices are read"


@dataclass(frozen=True)
class HeadScores:
    """One score per head, each (L, H), fp64 on the processor's memory."""

    previous_token: Tensor
    """Mean attention to the token before, 0 to 1."""
    prefix_matching: Tensor
    """Mean attention to the tokens that followed the same token earlier, 0 to 1."""
    copying: Tensor | None
    """How far the head raises the logit of the token it reads, -1 to 1; None where the layout is not known."""
    layers: tuple[int, ...] | None = None
    """Numbers of the L layers where not all of the model's have attention (hybrids); None where all have."""

    def layer(self, place: int) -> int:
        """The number in the model of the layer in this place."""
        return place if self.layers is None else self.layers[place]

    def result(self) -> HeadsResult:
        """The scores as a file of results has them."""
        num_layers, num_heads = self.previous_token.shape
        rows = {name: None if scores is None else tuple(map(tuple, scores.tolist())) for name, scores in self.by_name()}
        return HeadsResult(
            num_layers=num_layers,
            num_heads=num_heads,
            layers=self.layers,
            missing={"copying": _NO_COPYING} if self.copying is None else {},
            **rows,  # type: ignore[arg-type]
        )

    def by_name(self) -> list[tuple[str, Tensor | None]]:
        """Every score with its name."""
        return [(name, getattr(self, name)) for name in ("previous_token", "prefix_matching", "copying")]


def head_scores(
    model: PreTrainedModel,
    tokens_BT: Tensor,
    *,
    period: int,
    start: int = 1,
    progress: OnProgress | None = None,
) -> HeadScores:
    """All three scores from sequences whose tokens after the first ``start`` repeat every ``period``.

    Of the layers that have attention; a model without any is refused. The model, its mode and the tokens are left as
    they were.
    """
    config = model.config.get_text_config()
    num_heads = getattr(config, "num_attention_heads", 1)  # a state space model names none, and is refused below
    per_batch = max(1, _PATTERNS_AT_A_TIME // (config.num_hidden_layers * num_heads * tokens_BT.shape[1] ** 2))
    sums: list[Tensor] = []
    layers: tuple[int, ...] = ()
    was_training = model.training
    model.eval()
    try:
        for begin in range(0, len(tokens_BT), per_batch):
            part_BT = tokens_BT[begin : begin + per_batch]
            patterns = patterns_by_layer(model, part_BT.to(model.device))
            layers, patterns_LBHTT = tuple(patterns), torch.stack(list(patterns.values()))
            found = [
                previous_token_scores(patterns_LBHTT) * len(part_BT),
                prefix_matching_scores(patterns_LBHTT, period=period, start=start) * len(part_BT),
            ]
            sums = [total + part for total, part in zip(sums, found, strict=True)] if sums else found
            if progress:
                progress(begin + len(part_BT), len(tokens_BT))
        copying = copying_scores(model, tokens_BT[:, : start + period], start=start)
    finally:
        model.train(was_training)
    all_layers = layers == tuple(range(config.num_hidden_layers))
    return HeadScores(
        sums[0] / len(tokens_BT), sums[1] / len(tokens_BT), copying, layers=None if all_layers else layers
    )


def check_heads(model: PreTrainedModel) -> None:
    """Refuses a model whose heads' patterns cannot be read."""
    was_training = model.training
    model.eval()
    try:
        patterns_by_layer(model, torch.zeros(1, 4, dtype=torch.int64, device=model.device))
    finally:
        model.train(was_training)


def previous_token_scores(patterns_LBHTT: Tensor) -> Tensor:
    """Mean attention (L, H), fp64, from a token to the one before it, over all tokens that have one."""
    to_previous = patterns_LBHTT.diagonal(offset=-1, dim1=-2, dim2=-1)
    return to_previous.double().mean(dim=(1, 3)).cpu()


def prefix_matching_scores(patterns_LBHTT: Tensor, *, period: int, start: int = 1) -> Tensor:
    """Mean attention (L, H), fp64, from a token to those that followed its earlier copies.

    The tokens after the first ``start`` repeat every ``period``. The attention to the followers of all earlier copies
    is summed, so that a head that splits it among them scores 1; the mean is over tokens that have an earlier copy.
    """
    length = patterns_LBHTT.shape[-1]
    if length < start + period + 1:
        raise ValueError(f"{length} positions hold no repeat of {period} tokens after the first {start}")
    queries = torch.arange(start + period, length, device=patterns_LBHTT.device)
    followers = torch.zeros(length, length, dtype=torch.bool, device=patterns_LBHTT.device)
    for copies_back in range(1, (length - start - 1) // period + 1):
        with_copy = queries[queries - copies_back * period >= start]
        followers[with_copy, with_copy - copies_back * period + 1] = True
    matched = (patterns_LBHTT[..., queries, :].double() * followers[queries]).sum(dim=-1)
    return matched.mean(dim=(1, 3)).cpu()


def copying_scores(model: PreTrainedModel, tokens_BT: Tensor, *, start: int = 1) -> Tensor | None:
    """How far every head raises the logit of the token that it reads, (L, H), fp64, in [-1, 1].

    After Olsson et al. 2022: on sequences of random tokens, all different after the first ``start``, the residual
    stream at each token goes through the head's value and output matrices, the final norm's gain and the unembedding.
    That is the head's change of the logits of the sequence's own tokens, were it to attend there alone; its mean over
    them is subtracted. The score is the change of the read token's logit over the sum of all rises, averaged over
    tokens: 1 for a head that raises it alone, 0 for one that does not tell it from the others, -1 for one that lowers
    it alone. The scale of the final norm cancels. None for a model that is not in the Llama layout.
    """
    layers, norm = (getattr(model.base_model, name, None) for name in ("layers", "norm"))
    if layers is None or norm is None or not all(_has_llama_layout(layer) for layer in layers):
        return None
    if tokens_BT.shape[1] < start + 2:
        return None
    totals = torch.zeros(len(layers), model.config.num_attention_heads, dtype=torch.float64)
    gain_D = _gain(norm, unembedding(model)[0])
    with torch.no_grad():
        for part_BT in tokens_BT.to(model.device).split(_SEQUENCES_AT_A_TIME):
            streams = model.base_model(input_ids=part_BT, use_cache=False, output_hidden_states=True).hidden_states
            if any(stream.ndim != 3 for stream in streams):  # several streams side by side (Gemma 3n)
                return None
            readout_BUD = (unembedding(model)[0][part_BT[:, start:]] * gain_D).double()
            scores = [
                _layer_copying(layer, stream_BTD[:, start:], readout_BUD)
                for layer, stream_BTD in zip(layers, streams, strict=False)  # the last stream is the output
            ]
            totals += torch.stack(scores).cpu() * len(part_BT)
    return totals / len(tokens_BT)


def _gain(norm: Any, like: Tensor) -> Tensor:
    """What a norm multiplies its input by, (D,): its weight, or 1 more than that (Gemma), which it says of itself."""
    weight_D = getattr(norm, "weight", None)
    if weight_D is None:
        return torch.ones((), device=like.device)
    with torch.no_grad():
        of_ones_D = norm(torch.ones_like(weight_D))
    is_one_more = torch.allclose(of_ones_D.float(), weight_D.float() + 1.0, rtol=1e-3, atol=1e-3)
    return weight_D + 1.0 if is_one_more else weight_D


def _has_llama_layout(layer: Any) -> bool:
    attention = getattr(layer, "self_attn", None)
    is_plain = hasattr(attention, "v_proj") and not hasattr(attention, "gate_proj")  # such as AFMoE's
    return is_plain and writes_by_head(attention) and hasattr(layer, "input_layernorm")


def writes_by_head(attention: Any) -> bool:
    """Whether a head has columns of the output matrix of its own, as in the Llama layout; DiffLlama's work in pairs."""
    return hasattr(attention, "o_proj") and hasattr(attention, "head_dim") and not hasattr(attention, "lambda_q1")


def _layer_copying(layer: Any, stream_BUD: Tensor, readout_BUD: Tensor) -> Tensor:
    """Copying scores (H,) of a layer's heads, from what enters the layer."""
    width = layer.self_attn.head_dim
    read_BUD = layer.input_layernorm(stream_BUD).double()
    values_BUKE = functional.linear(read_BUD, layer.self_attn.v_proj.weight.double()).unflatten(-1, (-1, width))
    outputs_HDE = layer.self_attn.o_proj.weight.double().unflatten(1, (-1, width)).transpose(0, 1)
    group = len(outputs_HDE) // values_BUKE.shape[2]
    values_BHUE = values_BUKE.transpose(1, 2).repeat_interleave(group, dim=1)
    written_BHUD = values_BHUE @ outputs_HDE.transpose(1, 2)
    changes_BHUU = written_BHUD @ readout_BUD.transpose(1, 2)[:, None]  # (sequence, head, token read, logit)
    changes_BHUU = changes_BHUU - changes_BHUU.mean(dim=-1, keepdim=True)
    own_BHU = changes_BHUU.diagonal(dim1=-2, dim2=-1)
    rises_BHU = changes_BHUU.clamp(min=0).sum(dim=-1)
    return (own_BHU / rises_BHU.clamp(min=torch.finfo(torch.float64).tiny)).mean(dim=(0, 2))
