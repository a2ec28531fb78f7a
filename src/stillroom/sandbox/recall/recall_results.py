"""What the cells of a recall study amount to: crossings, and means over seeds with intervals.

Pure functions of plain numbers; no torch. S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from stillroom.results.intervals import held_within, paired_interval
from stillroom.results.recall_file import HeadScore, OverSeeds, RecallCrossings, RecallProbe, SteepestRise, ends_of

HALF = 0.5
KINDS = ("previous_token", "prefix_matching")


def crossing(tokens: Sequence[float], values: Sequence[float | None], level: float = HALF) -> float | None:
    """Tokens at which a curve first reaches ``level`` from below; None where it never does.

    Interpolated between probes, linearly in the value and in the logarithm of tokens.
    """
    before: tuple[float, float] | None = None
    for token, value in zip(tokens, values, strict=True):
        if value is None:
            continue
        if value >= level:
            if before is None:
                return float(token)
            share = (level - before[1]) / (value - before[1])
            return float(before[0] * (token / before[0]) ** share)
        before = float(token), value
    return None


def steepest(tokens: Sequence[float], values: Sequence[float | None]) -> SteepestRise | None:
    """Where a curve rises most; None without two values."""
    pairs = [(float(token), value) for token, value in zip(tokens, values, strict=True) if value is not None]
    steps = [
        ((after - value) / math.log2(later / token), token, later, after - value)
        for (token, value), (later, after) in pairwise(pairs)
    ]
    if not steps:
        return None
    _, low, high, rise = max(steps)
    return SteepestRise(low=low, high=high, rise=rise)


def best_head(scores: Sequence[Sequence[float]]) -> HeadScore:
    """The head with the largest score."""
    heads = ((layer, head) for layer, row in enumerate(scores) for head in range(len(row)))
    layer, head = max(heads, key=lambda place: scores[place[0]][place[1]])
    return HeadScore(layer=layer, head=head, score=scores[layer][head])


def cell_crossings(probes: Sequence[RecallProbe]) -> RecallCrossings:
    """When copy accuracy and the best head of each kind cross one half, and where the phase transition lies.

    The transition is where the best prefix-matching score rises most: accuracy rises before it too, by guessing.
    """
    tokens = [float(probe.tokens) for probe in probes]
    accuracy = [probe.copy_accuracy for probe in probes]
    best = {kind: [max(map(max, probe.heads(kind))) for probe in probes] for kind in KINDS}
    return RecallCrossings(
        copy_accuracy=crossing(tokens, accuracy),
        copy_accuracy_80=crossing(tokens, accuracy, 0.8),
        transition=steepest(tokens, best["prefix_matching"]),
        heads={kind: _head_crossings(tokens, [probe.heads(kind) for probe in probes]) for kind in KINDS},
        previous_token=crossing(tokens, best["previous_token"]),
        best_previous_token=best_head(probes[-1].previous_token),
        prefix_matching=crossing(tokens, best["prefix_matching"]),
        best_prefix_matching=best_head(probes[-1].prefix_matching),
    )


def _head_crossings(
    tokens: Sequence[float], scores: Sequence[Sequence[Sequence[float]]]
) -> tuple[tuple[float | None, ...], ...]:
    """When each head of (probes, L, H) crosses one half."""
    return tuple(
        tuple(crossing(tokens, [probe[layer][head] for probe in scores]) for head in range(len(row)))
        for layer, row in enumerate(scores[-1])
    )


def mean_where_found(measure: str, values: Mapping[int, float | None]) -> OverSeeds | None:
    """Mean over the seeds that have the value, with its interval, held to what it can be; None where none has."""
    found = [value for value in values.values() if value is not None]
    if not found:
        return None
    return held_within(OverSeeds(**vars(paired_interval(found)), of=len(values)), *ends_of(measure))


def tokens_over_seeds(values: Mapping[int, float | None]) -> OverSeeds | None:
    """Geometric mean of token counts with its interval (taken on logarithms); None where no seed has one."""
    logs = [math.log(value) for value in values.values() if value]
    if not logs:
        return None
    found = paired_interval(logs)
    return OverSeeds(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.num, len(values))
