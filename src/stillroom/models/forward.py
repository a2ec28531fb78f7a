"""Runs a model on packed documents and reads from inside it; a tap is a value that comes back, never a patch.

Letters: B sequences, T positions, D width, V vocabulary, L layers, H heads.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PreTrainedModel

from stillroom.models.attention import SHORT, additive_mask, autocasts_to_bf16
from stillroom.types import Batch


def position_ids(document_BT: Tensor) -> Tensor:
    """Positions (B, T) that restart at every document."""
    length = document_BT.shape[1]
    places = torch.arange(length, device=document_BT.device).expand_as(document_BT)
    is_first = torch.ones_like(document_BT, dtype=torch.bool)
    is_first[:, 1:] = document_BT[:, 1:] != document_BT[:, :-1]
    return places - torch.where(is_first, places, 0).cummax(dim=1).values


def attention_mask(document_BT: Tensor) -> Tensor:
    """Which position sees which, (B, 1, T, T), True = sees: causal and inside the same document."""
    length = document_BT.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=document_BT.device).tril()
    return ((document_BT[:, :, None] == document_BT[:, None, :]) & causal)[:, None]


def hidden_states(model: PreTrainedModel, batch: Batch, isolate: bool = True) -> Tensor:
    """The input of the unembedding, (B, T, D): the last block's output after the final norm.

    With ``isolate``, positions restart at every document and attention does not cross from one to another; this is the
    same with every attention implementation, flash-attention installed or not.
    """
    if isolate and "flash" in (model.config._attn_implementation or ""):
        return hidden_states_in_one_row(model, batch)
    arguments: dict[str, Any] = {"input_ids": batch.tokens_BT, "use_cache": False}
    if isolate:
        arguments["attention_mask"] = _mask_for(model, batch.document_BT)
        arguments["position_ids"] = position_ids(batch.document_BT)
    return model.base_model(**arguments).last_hidden_state


def hidden_states_in_one_row(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The isolated hidden states (B, T, D) by way of one long sequence, which flash-attention needs.

    It takes no mask; transformers finds the documents where the positions of a single row restart, and every sequence
    restarts them.
    """
    positions = position_ids(batch.document_BT).reshape(1, -1)
    output = model.base_model(input_ids=batch.tokens_BT.reshape(1, -1), position_ids=positions, use_cache=False)
    return output.last_hidden_state.view(*batch.tokens_BT.shape, -1)


def _mask_for(model: PreTrainedModel, document_BT: Tensor) -> Tensor | BlockMask:
    """``attention_mask`` in the form that the model's attention implementation takes."""
    kind = model.config._attn_implementation
    if kind == "flex_attention":
        return _block_mask(document_BT)
    mask = attention_mask(document_BT)
    if kind == "eager":
        zero = torch.zeros((), dtype=model.dtype, device=mask.device)
        return torch.where(mask, zero, torch.finfo(model.dtype).min)
    if kind == SHORT and autocasts_to_bf16(mask.device):
        return additive_mask(mask, mask.shape[-1], torch.empty(0, dtype=torch.bfloat16, device=mask.device))
    return mask


def _block_mask(document_BT: Tensor) -> BlockMask:
    def sees(sequence: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (document_BT[sequence, query] == document_BT[sequence, key])

    sequences, length = document_BT.shape
    return create_block_mask(sees, sequences, None, length, length, device=str(document_BT.device))


def unembedding(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """Weight (V, D) and bias (V,) or None of the output head."""
    head = model.get_output_embeddings()
    return head.weight, getattr(head, "bias", None)  # type: ignore[return-value]


def logit_softcap(model: PreTrainedModel) -> float | None:
    """The c of logits capped to c·tanh(z / c), as in Gemma 2; None where the model caps nothing."""
    return getattr(model.config, "final_logit_softcapping", None) or None


def attention_patterns(model: PreTrainedModel, tokens_BT: Tensor) -> Tensor:
    """Attention of every head, (L, B, H, T, T), over whole sequences (no document boundaries).

    The model is switched to its eager implementation meanwhile, since the fused ones return no pattern.
    """
    before = model.config._attn_implementation or "eager"
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            output = model.base_model(input_ids=tokens_BT, use_cache=False, output_attentions=True)
    finally:
        model.set_attn_implementation(before)
    return torch.stack(output.attentions)


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
