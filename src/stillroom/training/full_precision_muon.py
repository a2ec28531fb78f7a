"""Muon for hardware that has no instructions for bf16, where torch's own spends most of a step emulating them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon
from torch.optim.optimizer import ParamsT


class FullPrecisionMuon(Muon):
    """torch's Muon (Jordan et al. 2024) with the Newton-Schulz iteration in fp32 instead of bf16.

    Parameters, state and defaults are those of ``torch.optim.Muon``, so checkpoints pass from one to the other; only
    torch's default adjustment of the rate to a matrix's shape is known, and another is refused.
    """

    def __init__(self, params: ParamsT, **options: Any) -> None:
        if options.get("adjust_lr_fn") not in (None, "original"):
            raise ValueError(f"adjust_lr_fn is {options['adjust_lr_fn']!r}, expected None or 'original'")
        super().__init__(params, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what ``closure`` does, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        step = gradient.lerp(average, group["momentum"]) if group["nesterov"] else average
        step = orthogonal(step.float(), group["ns_coefficients"], group["ns_steps"], group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        rows, columns = parameter.shape
        parameter.add_(step, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The matrix with singular values brought near 1 by Newton-Schulz iterations in its own precision."""
    a, b, c = coefficients
    wide = matrix.T if matrix.size(0) > matrix.size(1) else matrix
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.size(0) > matrix.size(1) else wide
