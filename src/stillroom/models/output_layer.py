"""What lies between a model's hidden states and its logits: measured at the model's own forward pass, never guessed.

A causal model gives ``cap(scale · (x Wᵀ + b))`` of what its unembedding is given, x. Scale, cap and what is done to the
last hidden state before are found by running the code around the unembedding on known numbers in the place of the
blocks and of the product, so that no weight is read and no name of a field has to be known.

Letters: D width, V rows of the unembedding, W logits that the model gives.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from stillroom.types import UserError

_LARGE = 1e12
_SMALL = 2.0**-6
_NUM_READ = 256
"""Known numbers of a row that are compared with what the model made of them."""
_CLOSE = 1e-5
"""Relative difference up to which a measured form is what the model computes (its own code may round to float32)."""


@dataclass(frozen=True)
class Readout:
    """How logits are made of what the blocks give: ``cap(scale · (x Wᵀ + b))``, x being what the unembedding gets."""

    scale: float = 1.0
    """What x Wᵀ + b is multiplied by, and the last hidden state before the product, where that is scaled."""
    softcap: float | None = None
    """The c of logits capped to c·tanh(z / c)."""
    is_direct: bool = True
    """Whether x is the base model's last hidden state, up to ``scale``; else further layers lie between."""
    bias_scale: float = 1.0
    """What b is multiplied by."""
    num_logits: int | None = None
    """W, where the model drops rows of its unembedding (padding); None where it keeps all."""


_known: weakref.WeakKeyDictionary[PreTrainedModel, tuple[Any, Readout]] = weakref.WeakKeyDictionary()


def readout(model: PreTrainedModel) -> Readout:
    """The model's readout, measured once (in about a millisecond) and again when its configuration has changed.

    Refuses a model that has no unembedding, or that makes its logits in another way.
    """
    if not isinstance(model, PreTrainedModel):  # something that stands for one, whose logits are plain
        return Readout()
    stamp = _stamp(model)
    known = _known.get(model)
    if known is None or known[0] != stamp:
        known = _known[model] = (stamp, _measured(model))
    return known[1]


def _stamp(model: PreTrainedModel) -> tuple[Any, ...]:
    """Every plain number of the configuration, any of which may be a scale or a cap."""
    configs = {id(config): config for config in (model.config, model.config.get_text_config())}
    return tuple(
        value for config in configs.values() for value in vars(config).values() if isinstance(value, int | float)
    )


def output_layer(model: PreTrainedModel) -> nn.Module:
    """The unembedding as a module; refuses a model without one."""
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if head is None or not isinstance(weight, Tensor) or weight.ndim != 2:
        raise UserError(
            f"model: {type(model).__name__} has no single unembedding matrix, expected one that gives every token a "
            "logit; choose a causal language model of text."
        )
    return head


def _measured(model: PreTrainedModel) -> Readout:
    """Runs the code around the unembedding on known numbers: in the place of the base model's output, else of its
    decoder's, else (running the blocks once, on two tokens) in that of the product alone.
    """
    num, width = matrix(output_layer(model)).shape
    known_12V = torch.stack((_probes(num), -_probes(num)))[None]
    given_12D = torch.linspace(-1.0, 1.0, 2 * width).reshape(1, 2, width) + 0.25
    with _no_gradient():
        for stands, is_direct in ((model.base_model, True), (_decoder(model), False)):
            if not isinstance(stands, nn.Module) or stands is model:
                continue
            try:
                with _gives(stands, given_12D):
                    inputs, logits = _around(model, known_12V)
            except Exception:  # this code needs what the blocks really give
                continue
            before = _ratio(inputs, given_12D)
            if before is not None:
                return _fitted(model, known_12V, logits, before if is_direct else None)
        return _fitted(model, known_12V, _really_around(model, known_12V), None)


def _decoder(model: PreTrainedModel) -> Any:
    try:
        return model.get_decoder()
    except Exception:  # which classes have one differs between releases
        return None


def _around(model: PreTrainedModel, known_12V: Tensor) -> tuple[Tensor, Tensor]:
    """What the unembedding is given, and the logits that the model makes where the product is ``known_12V``."""
    seen: list[Tensor] = []
    with output_layer_gives(output_layer(model), known_12V, seen):
        logits = model(input_ids=_tokens(model), use_cache=False).logits
    return seen[-1], logits


def _really_around(model: PreTrainedModel, known_12V: Tensor) -> Tensor:
    """The logits of ``_around`` with the blocks at work; an error of theirs is one sentence."""
    try:
        return _around(model, known_12V)[1]
    except IndexError as error:
        raise _not_understood(model, "something that its unembedding has no part in") from error
    except Exception as error:
        raise does_not_run(model, error) from error


def does_not_run(model: PreTrainedModel, error: Exception) -> UserError:
    """What is said of a model whose own forward pass fails on token ids."""
    reason = f"{type(error).__name__}: {error}".split("\n", 1)[0].rstrip(".:")
    return UserError(
        f"model: {type(model).__name__} does not run on token ids alone ({reason}); choose a causal language model of "
        "text."
    )


def _probes(num: int) -> Tensor:
    """Known numbers (num,) in float64: a very large one, small ones and what lies between, of both signs."""
    values = torch.zeros(num, dtype=torch.float64)
    read = min(num, _NUM_READ)
    values[:read] = torch.linspace(-60.0, 60.0, read, dtype=torch.float64)
    for place, value in enumerate((_LARGE, _SMALL, -_LARGE, -_SMALL, 1.0, -1.0)):
        if 2 * place < num:
            values[2 * place] = value
    return values


def _tokens(model: PreTrainedModel) -> Tensor:
    device = next((part.device for part in model.parameters() if not part.is_meta), torch.device("cpu"))
    return torch.zeros(1, 2, dtype=torch.int64, device=device)


def _ratio(seen: Tensor, given: Tensor) -> float | None:
    """The number by which ``given`` was multiplied on its way, or None where that is not all that happened to it."""
    if seen.shape != given.shape or seen.is_meta:
        return None
    if seen is given or torch.equal(seen.to(given.dtype), given):
        return 1.0
    ratio = float((seen.double() * given.double()).sum() / given.double().square().sum())
    close = torch.allclose(seen.double(), given.double() * ratio, rtol=_CLOSE, atol=_CLOSE * abs(ratio))
    return _tidy(ratio) if close and ratio else None


def _fitted(model: PreTrainedModel, known: Tensor, logits: Tensor, before: float | None) -> Readout:
    """The readout whose logits are those that the model made of ``known``."""
    num = logits.shape[-1]
    if logits.shape[:-1] != known.shape[:-1] or not 0 < num <= known.shape[-1]:
        raise _not_understood(model, f"logits of shape {tuple(logits.shape)}")
    found, known = (values[..., : min(num, _NUM_READ)].double().cpu() for values in (logits, known))
    small = (known.abs() <= 1.0) & (known != 0)
    large = known.abs() >= _LARGE
    largest = float(found[large].abs().max()) if bool(large.any()) else math.inf
    is_capped = bool(large.any()) and largest < _LARGE * 1e-6
    softcap = _tidy(largest) if is_capped else None
    ratio = found[small] / known[small]
    if softcap is not None:
        ratio = softcap * torch.atanh((found[small] / softcap).clamp(-0.999, 0.999)) / known[small]
    scale = _tidy(float(ratio.median())) if ratio.numel() else 1.0
    expected = known * scale
    expected = expected if softcap is None else softcap * torch.tanh(expected / softcap)
    if not torch.allclose(found, expected, rtol=_CLOSE, atol=_CLOSE * max(1e-3, abs(scale))):
        raise _not_understood(model, "a function of x Wᵀ + b that is neither a scale nor a cap")
    return Readout(
        scale=scale * (before or 1.0),
        softcap=softcap,
        is_direct=before is not None,
        bias_scale=scale,
        num_logits=None if num == matrix(output_layer(model)).shape[0] else num,
    )


def _not_understood(model: PreTrainedModel, what: str) -> UserError:
    return UserError(
        f"model: {type(model).__name__} makes its logits as {what}, expected c·tanh(s·(x Wᵀ + b) / c) or less; choose "
        "another model."
    )


def unembedding(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """Weight (V, D) and bias (V,) or None such that the logits of ``hidden_states`` are hidden·weightᵀ + bias, capped
    where ``logit_softcap`` is not None.
    """
    head, form = output_layer(model), readout(model)
    weight = matrix(head)
    bias: Tensor | None = getattr(head, "bias", None)
    if form.num_logits is not None:
        weight, bias = weight[: form.num_logits], None if bias is None else bias[: form.num_logits]
    return weight, bias if bias is None or form.bias_scale == 1.0 else bias * form.bias_scale


def logit_softcap(model: PreTrainedModel) -> float | None:
    """The c of logits capped to c·tanh(z / c), as in Gemma 2; None where the model caps nothing."""
    return readout(model).softcap


def unembedding_inputs(model: PreTrainedModel, **arguments: Any) -> Tensor:
    """What the model's own forward pass multiplies by its unembedding, (B, T, D), times the scale of the logits.

    ``arguments`` are those of the forward pass; nothing is cached.
    """
    form = readout(model)
    if form.is_direct:
        hidden_BTD = model.base_model(**arguments, use_cache=False).last_hidden_state
    else:
        seen: list[Tensor] = []
        with output_layer_gives(output_layer(model), None, seen):
            model(**arguments, use_cache=False)
        hidden_BTD = seen[-1]
    return hidden_BTD if form.scale == 1.0 else hidden_BTD * form.scale


def matrix(head: nn.Module) -> Tensor:
    """The weight (V, D) of an unembedding."""
    weight: Any = head.weight
    return weight


def _tidy(number: float) -> float:
    """The number without what rounding to float32 added, where it is that close to one of few digits."""
    for candidate in (float(f"{number:.6g}"), 1.0 / float(f"{1.0 / number:.6g}") if number else 0.0):
        if candidate and abs(candidate - number) <= 3e-7 * abs(number):
            return candidate
    return number


class _Given(BaseModelOutputWithPast):
    """What stands for a base model's output; every field that it does not have is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


@contextlib.contextmanager
def _gives(module: nn.Module, hidden_BTD: Tensor) -> Iterator[None]:
    """The module answers every call with these last hidden states; as it was when the block ends."""
    with forward_is(module, lambda *_, **__: _Given(last_hidden_state=hidden_BTD)):  # pyright: ignore
        yield


@contextlib.contextmanager
def output_layer_gives(head: nn.Module, outputs: Tensor | None, seen: list[Tensor]) -> Iterator[None]:
    """The unembedding keeps what it is given in ``seen`` and answers with ``outputs``, or with one logit that costs
    nothing.
    """

    def forward(inputs: Tensor, *_: Any, **__: Any) -> Tensor:
        seen.append(inputs)
        return inputs[..., :1] if outputs is None else outputs

    with forward_is(head, forward):
        yield


@contextlib.contextmanager
def forward_is(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """``module`` computes ``forward``; what it had comes back when the block ends."""
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


@contextlib.contextmanager
def _no_gradient() -> Iterator[None]:
    """Without gradients and without autocast, whose rounding is not the model's."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield
