"""What was seen inside a model: plain numbers, from where they are measured to the page that draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stillroom.results.schema import HeadsResult, Numbers


@dataclass(frozen=True)
class AttentionPattern:
    """Where one head looks: a row of shares for each token, and the tokens' text where it is known."""

    title: str
    rows: tuple[Numbers, ...]
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passage:
    """A stretch of text and how much lower one model's loss is than another's on each of its tokens, in nats."""

    tokens: tuple[str, ...]
    gains: Numbers
    """Loss of the first model minus loss of the second: above 0 the second does better."""

    @property
    def total(self) -> float:
        """Nats over the whole passage."""
        return sum(self.gains)


@dataclass(frozen=True)
class InspectedModel:
    """A model's heads, and what more was asked: attention, ablation, another model's differences."""

    name: str
    heads: HeadsResult
    ablation: tuple[Numbers, ...] | None = None
    """Rise of the loss on repeated tokens without each head, nats, as rows of layers; NaN where not measured."""
    attention: tuple[AttentionPattern, ...] = ()
    against: str = ""
    passages: tuple[Passage, ...] = ()
    """Where the other model differs most."""


@dataclass(frozen=True)
class InspectedCheckpoints:
    """The strongest head of each kind, and the loss on repeated tokens (nats), at the checkpoints of a run."""

    name: str
    steps: tuple[int, ...]
    strongest: Mapping[str, Numbers]
    loss: Numbers
