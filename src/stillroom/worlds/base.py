"""What a text world gives: endless documents to train on, and items whose right answer is known.

Imports types only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

Split = Literal["train", "heldout"]


class TextWorld(Protocol):
    """A source of documents of which everything is known."""

    def documents(self, seed: int, split: Split) -> Iterator[str]:
        """Endless documents; the same seed and split give the same ones, and no item is in both splits."""
        ...


@dataclass(frozen=True)
class Problem:
    """A problem with a verifier.

    ``grade(completion)`` is the normalised answer when the completion solves the problem (so that different right
    answers can be counted), and None when it does not. A completion ends at the first newline or end of document.
    """

    family: str
    prompt: str
    grade: Callable[[str], str | None]


@dataclass(frozen=True)
class Counterfactual:
    """A question about a fact that training stated many times, after a context that states another value.

    ``closed_prompt`` asks without the context: the model's memory. Answers are short texts that follow a prompt
    directly (leading space included where the text has one).
    """

    prompt: str
    closed_prompt: str
    context_answer: str
    memory_answer: str
