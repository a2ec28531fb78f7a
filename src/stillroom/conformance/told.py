"""How a property tells what it found: one sentence, or nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Broken(AssertionError):
    """A property that does not hold: one sentence with what was expected, what was found and the tolerance."""


class NotDeclared(Exception):
    """What a property needs, and the adapter does not declare."""


def needs(declared: object, what: str) -> None:
    """Leaves a property untold where an adapter does not declare ``what``."""
    if not declared:
        raise NotDeclared(what)


def same(what: str, found: Iterable[tuple[str, Tensor]], expected: Iterable[Tensor], tolerance: float) -> None:
    """Raises ``Broken`` for the first named tensor that differs by more than ``tolerance`` of the largest number."""
    for (name, is_), due in zip(found, expected, strict=True):
        is_, due = is_.detach().double(), due.detach().double()
        largest, off = due.abs().max(), (is_ - due).abs()
        limit = tolerance * (float(largest) if largest > 1e-6 else 1.0)
        if bool((off <= limit).all()):  # false for what is not a number
            continue
        at = int(off.nan_to_num(torch.inf).argmax())
        raise Broken(
            f"{what}: expected {name} {due.flatten()[at]:.6g}, found {is_.flatten()[at]:.6g}"
            f"{_times(is_, due)} (tolerance {limit:.2g})"
        )


def _times(found: Tensor, expected: Tensor) -> str:
    """That what was found is a multiple of what was expected, where it is one."""
    size = (expected * expected).sum()
    ratio = (found * expected).sum() / size
    if not (found - ratio * expected).abs().max() < 1e-3 * expected.abs().max():
        return ""
    return f", which is {ratio:.4g} times what is expected{' everywhere' if found.numel() > 1 else ''}"
