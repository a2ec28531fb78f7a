"""What labelling takes, by labelling a little of it: the teacher's passes, reading, drawing and coding all counted."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillroom.labels import Identity, Scores, label
from stillroom.labels.settings import SaysSettings
from stillroom.study.labelprogress import bytes_per_token
from stillroom.types import Batch, Sequences

_FEW = 4
"""Sequences of the first trial, which also warms up."""
_SECONDS = 2.0
_MOST_TOKENS = 8192


@dataclass(frozen=True)
class LabelTrial:
    """What was found on ``tokens`` tokens."""

    tokens: int
    start_seconds: float
    """Before the first token is labelled: fitting the code, measuring its fidelity."""
    seconds_per_token: float
    bytes_per_token: float

    def seconds(self, tokens: int) -> float:
        """Of labelling so many tokens."""
        return self.start_seconds + tokens * self.seconds_per_token


def try_labelling(scores: Scores, sequences: Sequences, settings: SaysSettings, owner: Identity) -> LabelTrial:
    """Labels a few sequences, then more, into folders that are gone afterwards: what the second took more is a rate."""
    few, length = min(_FEW, len(sequences)), sequences.sequence_length
    with tempfile.TemporaryDirectory(prefix="stillroom-trial-") as scratch:

        def took(count: int) -> float:
            begin = time.monotonic()
            label(scores, _First(sequences, count), settings, Path(scratch) / str(count), identity=owner)
            return time.monotonic() - begin

        first = took(few)
        more = min(int(few * _SECONDS / max(1e-3, first)), _MOST_TOKENS // length)
        many = min(len(sequences), few + max(1, more))
        second = took(many) if many > few else first
        size = bytes_per_token(Path(scratch) / str(many))
    rate = max(second - first, 0.3 * second) / max(1, many - few) if many > few else second / many
    return LabelTrial(many * length, max(0.0, first - few * rate), rate / length, size or 0.0)


@dataclass(frozen=True)
class _First:
    """The first sequences of others."""

    whole: Sequences
    count: int

    @property
    def sequence_length(self) -> int:
        return self.whole.sequence_length

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Batch:
        return self.whole.batch(indices)
