"""Worlds whose next-token distribution is known at every position, by name: exact teachers that need no model.

Letters: B sequences, T positions, V vocabulary. Imports numpy and types only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillroom.types import UserError


class ExactWorld(Protocol):
    """A process of which every next-token distribution is known."""

    def exact_probabilities(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Probability (B, T, V) of every token at the place after each position, given all tokens up to it."""
        ...


MakeExactWorld = Callable[[Mapping[str, Any]], ExactWorld]
_EXACT_WORLDS: dict[str, MakeExactWorld] = {}


def register_exact_world(name: str, make: MakeExactWorld) -> None:
    """Gives an exact world a name; ``make`` builds it from its options."""
    _EXACT_WORLDS[name] = make


def make_exact_world(name: str, options: Mapping[str, Any] | None = None) -> ExactWorld:
    """The exact world of this name; a ``UserError`` lists the names that there are."""
    if name not in _EXACT_WORLDS:
        known = ", ".join(sorted(_EXACT_WORLDS)) or "none is registered"
        raise UserError(f"world:{name}: there is no exact world of this name; expected one of: {known}.")
    return _EXACT_WORLDS[name](options or {})
