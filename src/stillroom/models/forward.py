"""Runs a model on packed documents and reads from inside it; a tap is a value that comes back, never a patch.

Letters: B sequences, T positions, D width, V vocabulary, L layers, H heads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from stillroom.models.output_layer import unembedding_inputs
from stillroom.models.packing import Calls, calls, document_lengths
from stillroom.types import Batch, UserError

NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")
"""Names of the last norm in transformers."""


def hidden_states(model: PreTrainedModel, batch: Batch, isolate: bool = True) -> Tensor:
    """What the unembedding multiplies, (B, T, D): logits are hidden·weightᵀ + bias of ``unembedding``, capped where
    ``logit_softcap`` says so. A scale of the logits is in the hidden states already.

    With ``isolate`` every document has the states that it has alone, whatever its model is made of (see ``packing``).
    """
    plan = calls_of(model, batch, isolate)
    return plan.gathered([unembedding_inputs(model, **arguments) for arguments in plan.arguments])


def num_positions(config: Any) -> int | None:
    """The tokens of the longest text that a model was made for; None where its configuration sets no limit."""
    parts = config.get_text_config() if isinstance(config, PreTrainedConfig) else config
    longest = getattr(parts, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None


def _check_length(model: PreTrainedModel, batch: Batch, isolate: bool) -> None:
    """Refuses a text that is longer than the model's positions: it would be read from where the model never learnt."""
    longest, length = num_positions(getattr(model, "config", None)), batch.tokens_BT.shape[1]
    if longest is None or length <= longest:
        return
    length = max(document_lengths(batch.document_BT)) if isolate else length
    if length > longest:
        raise UserError(
            f"{type(model).__name__} has {longest} positions, found a text of {length} tokens; shorten the sequences, "
            "or choose a model of more positions."
        )


def calls_of(model: PreTrainedModel, batch: Batch, isolate: bool) -> Calls:
    """The forward passes that give a batch's hidden states."""
    _check_length(model, batch, isolate)
    if isolate:
        return calls(model, batch.tokens_BT, batch.document_BT)
    return Calls(({"input_ids": batch.tokens_BT},), (batch.tokens_BT.shape[0], batch.tokens_BT.shape[1]))


def attention_patterns(model: PreTrainedModel, tokens_BT: Tensor) -> Tensor:
    """Attention of every head, (L, B, H, T, T), over whole sequences (no document boundaries).

    L counts the layers that have attention (see ``patterns_by_layer``).
    """
    return torch.stack(list(patterns_by_layer(model, tokens_BT).values()))


def patterns_by_layer(model: PreTrainedModel, tokens_BT: Tensor) -> dict[int, Tensor]:
    """Attention (B, H, T, T) over whole sequences by the number of the layer, of the layers that have attention.

    The model is switched to its eager implementation meanwhile, since the fused ones return no pattern. Refuses a
    model none of whose layers has attention over all positions.
    """
    layers = layer_list(model)
    found: dict[int, Tensor] = {}
    with contextlib.ExitStack() as taps, torch.no_grad():
        for number, layer in enumerate(layers or ()):
            for part in layer.modules():
                handle = part.register_forward_hook(_keep_pattern(found, number, tokens_BT.shape))
                taps.callback(handle.remove)
        taps.enter_context(_eager(model))
        output = model.base_model(input_ids=tokens_BT, use_cache=False, output_attentions=True)
    returned = tuple(getattr(output, "attentions", None) or ())
    if not found and len(returned) == model.config.get_text_config().num_hidden_layers:
        found = dict(enumerate(returned))
    _check_patterns(type(model).__name__, found)
    return dict(sorted(found.items()))


def _check_patterns(kind: str, found: dict[int, Tensor]) -> None:
    """Refuses what is not one pattern for every head: shares of attention, none of it to what comes later."""
    reason = "no layer with attention over all positions" if not found else None
    if len({tuple(pattern.shape) for pattern in found.values()}) > 1:
        reason = "layers with different numbers of heads"
    for pattern_BHTT in found.values():
        first_HTT = pattern_BHTT[0].float()
        are_shares = bool((first_HTT >= 0).all()) and float(first_HTT.sum(-1).max()) <= 1.01
        if not are_shares or bool(first_HTT.triu(1).any()):
            reason = "attention that is given out as something else than shares"
    if reason is not None:
        raise UserError(
            f"{kind} has {reason}, expected heads whose patterns can be read; leave heads out of the suites, or choose "
            "another model."
        )


def _keep_pattern(found: dict[int, Tensor], number: int, shape: torch.Size) -> Callable[..., None]:
    """A hook that keeps the first attention pattern (B, H, T, T) that a layer's modules give."""

    def keep(_: Any, __: Any, output: Any) -> None:
        if isinstance(output, tuple) and number not in found:
            for value in output[1:]:
                is_pattern = isinstance(value, Tensor) and value.ndim == 4 and value.shape[0] == shape[0]
                if is_pattern and tuple(value.shape[2:]) == (shape[1], shape[1]):
                    found[number] = value
                    return

    return keep


@contextlib.contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """The model with its eager attention; the one that it had comes back when the block ends."""
    before = model.config._attn_implementation or "eager"
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def layer_list(model: PreTrainedModel) -> nn.ModuleList | None:
    """The model's layers: the one list of modules inside it that is as long as it has layers; None without one."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    return None


def last_norm(model: PreTrainedModel) -> nn.Module | None:
    """The norm between the last layer and the unembedding, by the names that it has in transformers."""
    found = (getattr(model.base_model, name, None) for name in NORMS)
    return next((module for module in found if isinstance(module, nn.Module)), None)


def precision_name(name: str, device: torch.device | str) -> str:
    """``auto`` resolved to ``bf16`` where the hardware multiplies it natively, else ``fp32``."""
    if name != "auto":
        return name
    return "bf16" if multiplies_bf16(device) else "fp32"


def multiplies_bf16(device: torch.device | str) -> bool:
    """Whether the hardware has instructions for bf16 products; a processor without is some 50 times faster in fp32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def precision(name: str, device: torch.device | str) -> contextlib.AbstractContextManager[Any]:
    """The autocast context of a precision: weights stay fp32, matrix products are in bf16 where asked for."""
    if precision_name(name, device) == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
