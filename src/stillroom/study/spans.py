"""What stages of a study are likely to take, as ranges. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from stillroom.types import UserError

MOST_PARAMETERS = 50_000_000
"""Of a model that is made for a trial."""


@dataclass(frozen=True)
class Span:
    """Between which two numbers something will lie."""

    low: float
    high: float

    @classmethod
    def around(cls, value: float, below: float = 0.6, above: float = 1.7) -> Span:
        """About a value, which was measured on little or worked out."""
        return cls(below * value, above * value)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float | None = None) -> Span:
        """Multiplied by a number, or by one that lies between two."""
        return Span(self.low * low, self.high * (low if high is None else high))


@dataclass
class Trials:
    """What was found: seconds of stages by name, bytes of a token's labels, and why some are missing."""

    seconds: dict[str, Span] = field(default_factory=dict)
    label_bytes: Span | None = None
    missing: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    """Names of stages that were tried."""

    @contextlib.contextmanager
    def trying(self, stage: str) -> Iterator[None]:
        """A mistake in the block, which the study itself would tell, leaves its stage out."""
        try:
            yield
        except UserError as error:
            self.missing.append(f"{stage}: {error}")
