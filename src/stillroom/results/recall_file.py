"""``sandbox.json`` of a recall study and the files of its cells, typed.

Losses and divergences are in nats per token; L layers, H heads, T places of a picture. Fields stand in the order of the
file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator

from stillroom import types
from stillroom.results.json_form import sometimes, with_nan
from stillroom.results.schema import HeadsResult, Numbers


@dataclass(frozen=True)
class OverSeeds(types.Estimate):
    """A mean over the ``num`` of ``of`` seeds that have the value; the interval's ends are NaN where only one has."""

    of: int


def ends_of(measure: str) -> tuple[float, float]:
    """The least and the most that a measure can be: losses and divergences have no most."""
    ends = {"copy_accuracy": (0.0, 1.0), "over_copying": (-1.0, 1.0), "calibration_error": (0.0, 1.0)}
    return ends.get(measure, (0.0, math.inf))


Spread = Annotated[OverSeeds, BeforeValidator(with_nan)]


@dataclass(frozen=True, kw_only=True)
class RecallProbe:
    """A line of ``probes.jsonl``: what is measured after so many steps, None where there is no such position."""

    step: int
    tokens: int
    copy_accuracy: float | None
    copy_loss: float | None
    loss: float
    kl: float
    kl_high: float | None
    kl_low: float | None
    kl_first: float | None
    over_copying: float | None
    calibration_error: float | None
    previous_token: tuple[Numbers, ...]
    """(L, H), as is the next."""
    prefix_matching: tuple[Numbers, ...]

    def heads(self, kind: str) -> tuple[Numbers, ...]:
        """The scores of ``previous_token`` or ``prefix_matching`` heads."""
        return self.previous_token if kind == "previous_token" else self.prefix_matching


@dataclass(frozen=True, kw_only=True)
class AttentionPicture:
    """A line of ``attention.jsonl``: every head's attention over the first tokens of a sequence."""

    step: int
    tokens_seen: int
    tokens: tuple[int, ...]
    patterns: tuple[tuple[tuple[Numbers, ...], ...], ...]
    """(L, H, T, T)."""


@dataclass(frozen=True, kw_only=True)
class SteepestRise:
    """The two neighbouring probes (tokens) between which a curve rises most per doubling, and how far it rises."""

    low: float
    high: float
    rise: float


@dataclass(frozen=True, kw_only=True)
class HeadScore:
    """A head and its score."""

    layer: int
    head: int
    score: float


@dataclass(frozen=True, kw_only=True)
class RecallCrossings:
    """Tokens at which a cell's curves cross one half (``_80``: 0.8), None where they never do."""

    copy_accuracy: float | None
    copy_accuracy_80: float | None
    transition: SteepestRise | None
    """Of the best prefix-matching head."""
    heads: Mapping[str, tuple[tuple[float | None, ...], ...]]
    """Of every head, (L, H), by kind."""
    previous_token: float | None
    best_previous_token: HeadScore
    prefix_matching: float | None
    best_prefix_matching: HeadScore


@dataclass(frozen=True, kw_only=True)
class RecallCellResult:
    """``result.json`` of a cell, which names its arm as well."""

    seed: int
    seconds: float
    parameters: int
    random_tokens: HeadsResult
    """Scores on repeated random characters."""


@dataclass(frozen=True, kw_only=True)
class RecallSeed(RecallCellResult):
    """One arm at one seed."""

    probes: tuple[RecallProbe, ...]
    crossings: RecallCrossings
    attention: tuple[AttentionPicture, ...]
    """Of the first seed alone."""
    routed_share: float | None


@dataclass(frozen=True, kw_only=True)
class RoutingAsked:
    """The rule and the share of positions that it takes from the teacher."""

    rule: str
    share: float


@dataclass(frozen=True, kw_only=True)
class RecallArmResult:
    """An arm at every seed, at the end of training, and the tokens until its curves cross one half."""

    name: str
    label: str
    alpha: float
    teacher: str | None
    routing: RoutingAsked | None
    seeds: tuple[RecallSeed, ...]
    final: Mapping[str, Spread | None]
    half: Mapping[str, Spread | None]


@dataclass(frozen=True, kw_only=True)
class RecallTeacherResult:
    """A teacher's configuration, and what was measured of one that was trained."""

    kind: str
    leak: float
    towards: str
    temperature: float
    until: float
    measured: Mapping[str, Spread | None] | None = sometimes()


@dataclass(frozen=True, kw_only=True)
class RecallWorldFacts:
    """The world's configuration and what is true of it."""

    characters: int
    triggers: int
    draw: str
    skip: int
    outputs: str
    sequence_length: int
    symbols: tuple[str, ...]
    trigger_symbols: tuple[str, ...] | None
    """None where triggers are drawn for every sequence."""
    optimal_loss: float
    scored_per_sequence: float
    chance_loss: float
    high_nats: float
    low_nats: float
    """Rows of an entropy above the first are called high, below the second low."""


@dataclass(frozen=True, kw_only=True)
class RecallResults:
    """``sandbox.json``."""

    kind: str
    name: str
    fingerprint: str
    world: RecallWorldFacts
    teachers: Mapping[str, RecallTeacherResult]
    arms: tuple[RecallArmResult, ...]
    seeds: tuple[int, ...]
    steps: int
    tokens: int
    total_seconds: float
    places: Mapping[str, tuple[str, ...]] = sometimes(dict)
