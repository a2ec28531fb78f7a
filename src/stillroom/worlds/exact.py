"""Worlds whose next-token distribution is known at every position, by name: exact teachers that need no model.

Letters: B sequences, T positions, V vocabulary. Imports numpy, types and the worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillroom.types import UserError
from stillroom.worlds.bigram import BigramOptions, BigramWorld, bigram_world
from stillroom.worlds.options import read_options
from stillroom.worlds.recall import RecallOptions, RecallWorld
from stillroom.worlds.recall_teachers import exact_probabilities


class ExactWorld(Protocol):
    """A process of which every next-token distribution is known."""

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    def exact_probabilities(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Probability (B, T, V) of every token at the place after each position, given all tokens up to it."""
        ...


@dataclass(frozen=True)
class ExactBigram:
    """A bigram world: the row of the current token."""

    world: BigramWorld

    @property
    def vocab_size(self) -> int:
        """The states."""
        return self.world.num_states

    def exact_probabilities(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """See ``ExactWorld``."""
        return self.world.matrix_KK[tokens_BT]


@dataclass(frozen=True)
class ExactRecall:
    """A recall world whose triggers are the same in every sequence, so that tokens alone say what comes next."""

    world: RecallWorld

    @property
    def vocab_size(self) -> int:
        """The characters."""
        return self.world.vocab_size

    def exact_probabilities(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """See ``ExactWorld``."""
        fixed_K = self.world.fixed_K
        return exact_probabilities(self.world, tokens_BT, np.broadcast_to(fixed_K, (len(tokens_BT), len(fixed_K))))


MakeExactWorld = Callable[[Mapping[str, Any]], ExactWorld]


def _bigram(options: Mapping[str, Any]) -> ExactWorld:
    return ExactBigram(bigram_world(read_options(BigramOptions, "bigram", options)))


def _recall(options: Mapping[str, Any]) -> ExactWorld:
    read = read_options(RecallOptions, "recall", options)
    if read.draw != "fixed":
        raise UserError(
            f"options of the recall world: draw is {read.draw!r}, but tokens do not say which triggers a sequence has, "
            "so nobody knows what follows; expected 'fixed'."
        )
    return ExactRecall(RecallWorld(read))


_EXACT_WORLDS: dict[str, MakeExactWorld] = {"bigram": _bigram, "recall": _recall}


def register_exact_world(name: str, make: MakeExactWorld) -> None:
    """Gives an exact world a name; ``make`` builds it from its options."""
    _EXACT_WORLDS[name] = make


def make_exact_world(name: str, options: Mapping[str, Any] | None = None) -> ExactWorld:
    """The exact world of this name; a ``UserError`` lists the names that there are."""
    if name not in _EXACT_WORLDS:
        known = ", ".join(sorted(_EXACT_WORLDS))
        raise UserError(f"world:{name}: there is no exact world of this name; expected one of: {known}.")
    return _EXACT_WORLDS[name](options or {})
