"""One use of the head: the pass over the positions that have weight, and its gradient for any upstream gradient.

Letters: N positions, V vocabulary, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.objectives.head._chunks import Gradients, Needs, Settings, Values, one_pass, spread
from stillroom.objectives.head._shards import Shard
from stillroom.objectives.targets import Target


def active_rows(target: Target) -> Tensor | None:
    """Numbers of the positions that have weight; None where all have, or where counting them would stall a GPU."""
    active = target.active_N
    if active.device.type != "cpu" or bool(active.all()):
        return None
    return active.nonzero().squeeze(1)


def needs_of(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Needs:
    """Which gradients to take: none under ``no_grad``, where autograd's own flags still say what was asked for."""
    wanted = [part is not None and part.requires_grad for part in (hidden, weight, bias)]
    return (wanted[0], wanted[1], wanted[2]) if torch.is_grad_enabled() else (False, False, False)


@dataclass(frozen=True)
class Call:
    """A target with the settings of the head. ``index`` holds the positions that the target's rows belong to."""

    target: Target
    settings: Settings
    shard: Shard
    index: Tensor | None

    @classmethod
    def of(cls, target: Target, settings: Settings, shard: Shard) -> Call:
        """Leaves out positions without weight."""
        index = active_rows(target)
        return cls(target if index is None else target.rows(index), settings, shard, index)

    def run(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, needs: Needs, scale_N: Tensor | None = None
    ) -> tuple[Values, Gradients]:
        """The pass, with its results in the places of all positions."""
        num, index = hidden.shape[0], self.index
        if index is not None:
            hidden = hidden[index]
            scale_N = None if scale_N is None else scale_N[index]
        with torch.autocast(hidden.device.type, enabled=False), torch.no_grad():
            values, gradients = one_pass(hidden, weight, bias, self.target, self.settings, self.shard, needs, scale_N)
        if index is not None and gradients.hidden_ND is not None:
            gradients.hidden_ND = spread(gradients.hidden_ND, index, num)
        return values.spread(index, num), gradients

    def repeated(self, gradient_N: Tensor | None) -> Tensor | None:
        """The number that an upstream gradient repeats at every position with weight; None where it varies.

        On a GPU this is judged from the strides alone, because looking at the values would stall it.
        """
        if gradient_N is None:
            return None
        if gradient_N.numel() and gradient_N.stride(0) == 0:
            return gradient_N[0]
        if gradient_N.device.type != "cpu":
            return None
        used = gradient_N if self.index is None else gradient_N[self.index]
        if not used.numel():
            return gradient_N.new_zeros(())
        return used[0] if bool((used == used[0]).all()) else None


def backward(
    call: Call,
    taken: list[Tensor | None] | None,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    needs: Needs,
    of_loss: Tensor | None,
    of_total: Tensor | None,
    in_place: bool = False,
) -> list[Tensor | None]:
    """Gradients for (hidden, weight, bias) from those taken in the forward pass, or from a second pass.

    ``taken`` is the gradient of the sum of all losses, scaled ``in_place`` where its memory is not needed again. The
    upstream gradients are of the loss per position and of the
    sum. The second pass is needed where the first one differs from position to position, or ``taken`` is gone.
    """
    factor = call.repeated(of_loss) if of_loss is not None else torch.zeros((), device=inputs[0].device)
    if taken is not None and factor is not None:
        factor = factor if of_total is None else factor + of_total
        scale = Tensor.mul_ if in_place else Tensor.mul
        parts = [None if part is None else scale(part, factor) for part in taken]
    else:
        scale_N = torch.zeros(inputs[0].shape[0], dtype=call.settings.precise, device=inputs[0].device)
        for part in (of_total, of_loss):
            scale_N += 0.0 if part is None else part
        parts = call.run(*inputs, needs, scale_N)[1].tensors()
    return [
        None if part is None or like is None else part.to(like.dtype) for part, like in zip(parts, inputs, strict=True)
    ]
