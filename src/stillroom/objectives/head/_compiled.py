"""The fused head as two opaque operators for ``torch.compile``: one graph without a break, the same code inside.

The tracer sees shapes only; at run time the chunks are computed as in eager mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, cast

import torch
from torch import Tensor

from stillroom.objectives.head._call import Call, backward, needs_of
from stillroom.objectives.head._chunks import Gradients, Needs, Settings, Values
from stillroom.objectives.head._shards import Shard
from stillroom.objectives.targets import DenseTarget, Divergence, SparseTarget, Target, TeacherLogits


def pack(target: Target) -> tuple[list[Tensor], str, list[float]]:
    """A target as tensors (empty where there is none), the name of its divergence ("": no teacher) and numbers."""
    sparse = target.hard_or_none() if isinstance(target, DenseTarget) else target
    parts = [sparse.ids_NK, sparse.weights_NK, sparse.tail_N, sparse.listed_NK]
    divergence, numbers = "", []
    if isinstance(target, DenseTarget):
        teacher = target.teacher
        parts += [teacher.hidden_NE, teacher.weight_VE, teacher.bias_V, target.weight_N]
        divergence, numbers = target.divergence, [target.temperature, target.beta, teacher.softcap or 0.0]
    nothing = sparse.weights_NK.new_empty(0)
    return [nothing if part is None else part.detach() for part in parts], divergence, numbers


def unpack(parts: Sequence[Tensor], divergence: str, numbers: Sequence[float]) -> Target:
    """The target that was packed."""
    ids, weights, *optional = parts[:4]
    sparse = SparseTarget(ids, weights, *(part if part.numel() else None for part in optional))
    if not divergence:
        return sparse
    hidden, *optional, weight_N = parts[4:]
    weight, bias = (part if part.numel() else None for part in optional)
    temperature, beta, softcap = numbers
    teacher = TeacherLogits(hidden, weight, bias, softcap or None)
    return DenseTarget(teacher, weight_N, sparse, temperature, cast(Divergence, divergence), beta)


def _call(hidden: Tensor, weight: Tensor, parts: Sequence[Tensor], divergence: str, numbers: Sequence[float]) -> Call:
    dtype, teacher_dtype = _DTYPES[int(numbers[0])], _DTYPES[int(numbers[1])]
    softcap, temperature, z_loss, chunk_size = numbers[2:6]
    settings = Settings(dtype, teacher_dtype, softcap or None, temperature, z_loss, int(chunk_size) or None)
    return Call.of(unpack(parts, divergence, numbers[6:]), settings, Shard(weight.shape[0]))


_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


# An operator's name changes with its arguments: a cache of compiled graphs of earlier versions knows it by name alone.
@torch.library.custom_op("stillroom::head_2", mutates_args=())
def _head(
    hidden: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],  # noqa: UP045 (the operator's schema is read from this form)
    parts: Sequence[Tensor],
    divergence: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor]:
    call = _call(hidden, weight, parts, divergence, numbers)
    values, taken = call.run(hidden, weight, bias, cast(Needs, tuple(needs)))
    gradients = [weight.new_empty(0) if part is None else part for part in taken.tensors()]
    return [values.loss_N.sum(), *values.tensors(), *gradients]


@_head.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    parts: Sequence[Tensor],
    divergence: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor]:
    precise = torch.float64 if _DTYPES[int(numbers[0])] == torch.float64 else torch.float32
    values = Values.zeros(hidden.shape[0], unpack(parts, divergence, numbers[6:]), hidden, precise)
    taken = Gradients(hidden, weight, cast(Needs, tuple(needs)), precise)
    gradients = [weight.new_empty(0) if part is None else part for part in taken.tensors()]
    return [hidden.new_zeros((), dtype=precise), *values.tensors(), *gradients]


@torch.library.custom_op("stillroom::head_backward_2", mutates_args=())
def _head_backward(
    of_total: Optional[Tensor],  # noqa: UP045
    of_loss: Optional[Tensor],  # noqa: UP045
    taken: Sequence[Tensor],
    inputs: Sequence[Tensor],
    parts: Sequence[Tensor],
    divergence: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor]:
    hidden, weight, bias = _three(inputs)
    call = _call(hidden, weight, parts, divergence, numbers)
    held = [part if need else None for part, need in zip(taken, needs, strict=True)]
    result = backward(call, held, (hidden, weight, bias), cast(Needs, tuple(needs)), of_loss, of_total)
    return [weight.new_empty(0) if part is None else part for part in result]


@_head_backward.register_fake
def _(
    of_total: Tensor | None,
    of_loss: Tensor | None,
    taken: Sequence[Tensor],
    inputs: Sequence[Tensor],
    parts: Sequence[Tensor],
    divergence: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor]:
    return [
        torch.empty_like(like) if need and like is not None else inputs[1].new_empty(0)
        for need, like in zip(needs, _three(inputs), strict=True)
    ]


def _three(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hidden states, weight and the bias, where there is one."""
    hidden, weight, *bias = inputs
    return hidden, weight, bias[0] if bias else None


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    hidden, weight, bias, parts, *rest = inputs
    ctx.save_for_backward(hidden, weight, bias, *parts, *output[-3:])
    ctx.rest, ctx.count = rest, len(parts)


def _backward(ctx: Any, upstream: list[Tensor | None]) -> tuple[Any, ...]:
    hidden, weight, bias, *saved = ctx.saved_tensors
    parts, taken = saved[: ctx.count], saved[ctx.count :]
    needs = ctx.rest[-1]
    inputs = [hidden, weight] if bias is None else [hidden, weight, bias]
    result = _head_backward(upstream[0], upstream[1], taken, inputs, parts, *ctx.rest)
    kept = [part if need else None for part, need in zip(result, needs, strict=True)]
    return *kept, [None] * ctx.count, None, None, None


_head.register_autograd(_backward, setup_context=_setup)


def compiled_head(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Target, settings: Settings
) -> tuple[Tensor, ...]:
    """Loss per position, its sum and the other values, as the eager head gives them."""
    parts, divergence, of_target = pack(target)
    numbers = [
        float(_DTYPES.index(settings.dtype)),
        float(_DTYPES.index(settings.teacher_dtype)),
        settings.softcap or 0.0,
        settings.temperature,
        settings.z_loss,
        float(settings.chunk_size or 0),
        *of_target,
    ]
    needs = needs_of(hidden, weight, bias)
    total, loss, *rest = _head(hidden, weight, bias, parts, divergence, numbers, list(needs))[:-3]
    return loss, total, *(part.detach() for part in rest)
