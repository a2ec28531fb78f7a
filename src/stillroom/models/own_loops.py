"""What a training loop of someone else's calls a model with, so that documents packed in one row do not see each other.

Restarting position ids alone do not do it: many classes of transformers take no notice of them, and none while it fills
a cache. Letters: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillroom.models.packing import MASKED, REFUSED, Calls, calls
from stillroom.types import Batch, UserError

_LENGTHS = (9, 4)
"""Tokens of the two documents on which a model is looked at."""
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
"""Of the largest logit; a twentieth in lower precision."""
_measured: weakref.WeakSet[PreTrainedModel] = weakref.WeakSet()


class PackedInputs(dict[str, Any]):
    """What a model is called with, as ``model(**inputs)``, and the way back from what it gives to the batch."""

    def __init__(self, plan: Calls):
        super().__init__(plan.arguments[0] | {"use_cache": False})
        self._plan = plan

    def unpacked(self, output: Tensor) -> Tensor:
        """The model's output at the positions of the batch, (B, T, ...): of its logits or of hidden states."""
        return self._plan.gathered([output])


def packed_inputs(batch: Batch, model: nn.Module) -> PackedInputs:
    """What a causal model of transformers needs so that no document of a batch sees another, for a loop of your own::

        inputs = packed_inputs(batch, model)
        logits_BTV = inputs.unpacked(model(**inputs).logits)

    It depends on the model's layers and its attention implementation (eager, sdpa, flash, flex): a mask in the form
    that it takes, one long row with positions that restart, or every document in a row of its own, padded at its end,
    where layers keep more than attention does (convolutions, states). ``model`` may be wrapped (DDP, ``torch.compile``,
    PEFT). Raises ``UserError`` as ``kept_apart`` does.
    """
    plain = kept_apart(model)
    return PackedInputs(calls(plain, batch.tokens_BT, batch.document_BT, one_call=True))


def kept_apart(model: nn.Module) -> PreTrainedModel:
    """The model of transformers inside what training puts around it, whose packed documents can be kept apart.

    Raises ``UserError`` where they cannot; of a kind that is not known this is measured once, on a few tokens.
    """
    plain = unwrapped(model)
    reason = REFUSED.get(plain.config.model_type)
    if plain.config.is_encoder_decoder:
        reason = "reads a text by an encoder, which sees all of it"
    if reason is None and plain.config.model_type not in MASKED and plain not in _measured:
        reason = _leaks(getattr(model, "_orig_mod", model), plain)
    if reason is not None:
        raise UserError(f"{type(plain).__name__} {reason}, so packed documents cannot be kept apart; choose another.")
    _measured.add(plain)
    return plain


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The model of transformers inside what training puts around it."""
    inner: Any = model
    while not isinstance(inner, PreTrainedModel):
        base = getattr(inner, "get_base_model", None)
        inner = base() if base is not None else getattr(inner, "module", None) or getattr(inner, "_orig_mod", None)
        if inner is None:
            raise UserError(f"model: found a {type(model).__name__}, expected a causal model of transformers.")
    return inner


def _leaks(model: nn.Module, plain: PreTrainedModel) -> str | None:
    """What is wrong where two packed documents have other logits than each has alone; None where nothing is.

    A model that does not run at all is left to whoever calls it.
    """
    size = getattr(plain.config.get_text_config(), "vocab_size", None) or 2
    tokens_1T = torch.randint(0, size, (1, sum(_LENGTHS)), generator=torch.Generator().manual_seed(0)).to(plain.device)
    document_1T = torch.tensor([[0] * _LENGTHS[0] + [1] * _LENGTHS[1]], device=plain.device)
    was_training = model.training
    with torch.no_grad(), contextlib.suppress(RuntimeError, ValueError, TypeError, AttributeError, ImportError):
        try:
            inputs = PackedInputs(calls(plain.eval(), tokens_1T, document_1T, one_call=True))
            packed_TV = inputs.unpacked(model.eval()(**inputs).logits)[0].float()
            parts = tokens_1T.split(_LENGTHS, dim=1)
            own_1TV = [model(input_ids=one, use_cache=False).logits.float() for one in (*parts, tokens_1T)]
        finally:
            model.train(was_training)
        alone_TV = torch.cat(own_1TV[:2], dim=1)[0]
        later_TV = own_1TV[2][0, : _LENGTHS[0]] - alone_TV[: _LENGTHS[0]]
        error = max(float((packed_TV - alone_TV).abs().max()), float(later_TV.abs().max()))
        if not error <= _TOLERANCE.get(plain.dtype, 0.05) * max(float(alone_TV.abs().max()), 1e-30):
            return "gives a text other logits where another lies behind it"
    return None
