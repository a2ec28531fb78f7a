"""What is checked when a model is loaded: that this package's own way through it gives what the model itself gives.

On two short documents packed into one row, the logits that come of ``hidden_states``, ``unembedding`` and
``logit_softcap`` must be those of ``model(...)`` for each document alone, and the model must be causal. Layers that are
like one another are run once, so that a model of any depth costs little more than one layer of each kind.

Letters: T positions, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillroom.models.forward import hidden_states, layer_list, num_positions
from stillroom.models.output_layer import does_not_run, matrix, output_layer, output_layer_gives, readout
from stillroom.models.packing import REFUSED, needs_rows, shortest_window, use_rows
from stillroom.models.score import logits
from stillroom.types import Batch, UserError

_LENGTHS = (4, 2)
"""Tokens of the two documents; the first is longer where the model has a short window."""
_LONGEST_WINDOW = 64
"""Windows up to which the first document reaches beyond the window."""
_FEW = 1 << 20
"""Numbers in an unembedding that is small enough to be multiplied out."""
_TOLERANCE = 1e-4
"""Of the largest number, in float32, between two ways to the same logits."""
_DEPENDS = 1e-5
"""The same between two runs of the same shape that may differ only if one text sees the other."""
_LOW_PRECISION_TOLERANCE = 0.06
"""The same below float32."""


def checked(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """The model, once its logits through this package are found to be its own; else a sentence says what differs.

    ``name`` is what the user calls the model: its path. A model whose documents masks do not keep apart is given a row
    for every document; refused are models that are not causal, whose logits are no function of hidden states that is
    understood, that cannot run on token ids alone, or that give NaN or infinities.
    """
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.no_grad():
            _check_fast(model, name)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(name) else f"{name}: {message.removeprefix('model: ')}") from None
    finally:
        if was_training:
            model.train()
    return model


def _check_fast(model: PreTrainedModel, name: str) -> None:
    """On few layers where that goes well; what does not is said of the whole model."""
    with _shallow(model) as is_shallow:
        try:
            return _check(model, name)
        except Exception:
            if not is_shallow:
                raise
    return _check(model, name)


def _check(model: PreTrainedModel, name: str) -> None:
    """Two rows of two documents: they share the second document in one test, and the first in the other."""
    reason = REFUSED.get(model.config.model_type)
    if reason is not None:
        raise UserError(f"{name}: {type(model).__name__} {reason}, expected a causal model that takes texts of any "
                        "length; choose another.")  # fmt: skip
    readout(model)
    tokens_RT, length = _documents(model)
    own_first_RTD = _own(model, torch.stack((tokens_RT[0], torch.cat((tokens_RT[0, :length], tokens_RT[2, length:])))))
    if not bool(torch.isfinite(own_first_RTD).all()):
        raise UserError(
            f"{name}: gives NaN or infinite logits, expected numbers; its weights are damaged, or its numbers do not "
            "fit its precision: load a good copy."
        )
    if _differ(own_first_RTD[0, :length], own_first_RTD[1, :length], _DEPENDS, model.dtype):
        raise UserError(
            f"{name}: the logits of {type(model).__name__} change with the tokens that come later, expected a causal "
            "language model; choose another (an encoder needs is_decoder in its configuration)."
        )
    own_TD = torch.cat((own_first_RTD[0, :length], _own(model, tokens_RT[:1, length:])[0]))
    if _is_kept_apart(model, tokens_RT[:2], length, own_TD):
        return
    if not needs_rows(model):
        use_rows(model)
        if _is_kept_apart(model, tokens_RT[:2], length, own_TD):
            return
    raise UserError(
        f"{name}: two documents through stillroom have other logits than {type(model).__name__} gives each alone, "
        "expected the same; choose another model."
    )


def _is_kept_apart(model: PreTrainedModel, tokens_RT: Tensor, length: int, own_TD: Tensor) -> bool:
    """Whether documents packed in a row have through this package what they have alone (first row), and the second
    does not change with the first (both rows).
    """
    row = torch.tensor([0] * length + [1] * (tokens_RT.shape[1] - length), dtype=torch.int32, device=tokens_RT.device)
    try:
        hidden_RTD = hidden_states(model, Batch(tokens_RT, tokens_RT, row.expand_as(tokens_RT)))
        ours_RTD = logits(model, hidden_RTD) if _is_multiplied(model) else hidden_RTD.float()
    except UserError:
        raise
    except Exception:  # what a class raises when it does not take a mask or positions is its own affair
        return False
    if _differ(ours_RTD[0, length:], ours_RTD[1, length:], _DEPENDS, model.dtype):
        return False
    parts = (slice(0, length), slice(length, None))
    return not any(_differ(ours_RTD[0, part], own_TD[part], _TOLERANCE, model.dtype) for part in parts)


def _documents(model: PreTrainedModel) -> tuple[Tensor, int]:
    """Three rows of ordinary tokens (3, T), the first two alike from the second document on, and the length of the
    first document.
    """
    window = shortest_window(model)
    longer = 0 if window is None or window > _LONGEST_WINDOW else window + 3
    positions = num_positions(model.config)
    longer = longer if positions is None else min(longer, positions - _LENGTHS[1])
    length, width = max(_LENGTHS[0], longer), max(_LENGTHS[0], longer) + _LENGTHS[1]
    configs = (model.config, model.config.get_text_config())
    named = [value for config in configs for key, value in vars(config).items() if key.endswith("token_id")]
    special = {token for value in named for token in (value if isinstance(value, list) else [value])}
    size = min(matrix(output_layer(model)).shape[0], getattr(model.get_input_embeddings(), "num_embeddings", 1 << 30))
    drawn = torch.randint(0, size, (8 * width,), generator=torch.Generator().manual_seed(0)).tolist()
    ordinary = [token for token in drawn if token not in special]
    tokens_RT = torch.tensor((ordinary + drawn)[: 3 * width], device=model.device).view(3, width)
    tokens_RT[1, length:] = tokens_RT[0, length:]
    return tokens_RT, length


def _is_multiplied(model: PreTrainedModel) -> bool:
    """Whether logits are compared; else hidden states are, where the unembedding is a plain matrix product."""
    head = output_layer(model)
    return matrix(head).numel() <= _FEW or type(head) is not nn.Linear


def _own(model: PreTrainedModel, tokens_RT: Tensor) -> Tensor:
    """What the model's own forward pass gives for texts: logits (R, T, V) or, in their place, hidden states."""
    seen: list[Tensor] = []
    try:
        if _is_multiplied(model):
            return model(input_ids=tokens_RT, use_cache=False).logits.float()
        with output_layer_gives(output_layer(model), None, seen):
            model(input_ids=tokens_RT, use_cache=False)
    except Exception as error:
        raise does_not_run(model, error) from error
    return seen[-1].float() * readout(model).bias_scale


def _differ(found_TD: Tensor, expected_TD: Tensor, tolerance: float, dtype: torch.dtype) -> bool:
    """Whether a position differs by more than ``tolerance`` of the largest number; below float32 the last two must,
    and by much.
    """
    if found_TD.shape != expected_TD.shape:
        return True
    size = expected_TD.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    error_T = (found_TD - expected_TD).abs().amax(-1) / size
    if dtype in (torch.float32, torch.float64):
        return not bool((error_T <= tolerance).all())
    return not bool((error_T[-2:] <= _LOW_PRECISION_TOLERANCE).any())


@contextlib.contextmanager
def _shallow(model: PreTrainedModel) -> Iterator[bool]:
    """The model with its first layers alone, as many as hold one of every kind, and whether they are fewer than all;
    as it was when the block ends.
    """
    layers = layer_list(model)
    depth = 0 if layers is None else _depth(model, layers)
    places = [
        (module, name)
        for module in (model.base_model.modules() if layers is not None and depth < len(layers) else ())
        for name, part in module._modules.items()
        if part is layers
    ]
    if layers is None or not places:
        yield False
        return
    module, name = places[0]
    module._modules[name] = layers[:depth]
    try:
        yield True
    finally:
        module._modules[name] = layers


def _depth(model: PreTrainedModel, layers: nn.ModuleList) -> int:
    """How many layers from the first hold one of every kind: of modules inside, type and window."""
    types = list(getattr(model.config.get_text_config(), "layer_types", None) or ())
    kinds: list[Any] = []
    for number, layer in enumerate(layers):
        parts = tuple((type(part), getattr(part, "sliding_window", None)) for part in layer.modules())
        kinds.append((parts, types[number] if number < len(types) else None))
    return max(kinds.index(kind) for kind in kinds) + 1
