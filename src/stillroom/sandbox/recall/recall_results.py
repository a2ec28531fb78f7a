"""What the cells of a recall study amount to: crossings, means over seeds and paired differences, with intervals.

Pure functions of plain numbers; no torch. S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from stillroom.results.statistics import paired_interval
from stillroom.types import Estimate

HALF = 0.5
Interval = dict[str, float | int | None]
"""An ``Estimate`` as plain numbers, in places with ``of``: the number of seeds that might have had the value."""


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


def steepest(tokens: Sequence[float], values: Sequence[float | None]) -> dict[str, float] | None:
    """The two neighbouring probes between which a curve rises most per doubling of tokens.

    Returns ``low`` and ``high`` (tokens) and ``rise`` (of the value, between them); None without two values.
    """
    pairs = [(float(token), value) for token, value in zip(tokens, values, strict=True) if value is not None]
    steps = [
        ((after - value) / math.log2(later / token), token, later, after - value)
        for (token, value), (later, after) in pairwise(pairs)
    ]
    if not steps:
        return None
    _, low, high, rise = max(steps)
    return {"low": low, "high": high, "rise": rise}


def best_head(scores: Sequence[Sequence[float]]) -> tuple[int, int]:
    """Layer and head of the largest score."""
    return max(
        ((layer, head) for layer, row in enumerate(scores) for head in range(len(row))),
        key=lambda place: scores[place[0]][place[1]],
    )


def cell_crossings(probes: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """When copy accuracy and the best head of each kind cross one half, and where the phase transition lies.

    The transition is where the best prefix-matching score rises most: accuracy rises before it too, by guessing.
    """
    tokens = [float(probe["tokens"]) for probe in probes]
    accuracy = [probe["copy_accuracy"] for probe in probes]
    heads: dict[str, list[list[float | None]]] = {}
    found: dict[str, object] = {
        "copy_accuracy": crossing(tokens, accuracy),
        "copy_accuracy_80": crossing(tokens, accuracy, 0.8),
        "transition": steepest(tokens, [max(map(max, probe["prefix_matching"])) for probe in probes]),
        "heads": heads,
    }
    for kind in ("previous_token", "prefix_matching"):
        heads[kind] = [
            [crossing(tokens, [probe[kind][layer][head] for probe in probes]) for head in range(len(scores))]
            for layer, scores in enumerate(probes[-1][kind])
        ]
        layer, head = best_head(probes[-1][kind])
        found[kind] = crossing(tokens, [max(map(max, probe[kind])) for probe in probes])
        found[f"best_{kind}"] = {"layer": layer, "head": head, "score": probes[-1][kind][layer][head]}
    return found


def mean_where_found(values: Mapping[int, float | None]) -> Interval | None:
    """Mean with its interval as plain numbers, and how many seeds have the value; None where none has."""
    found = [value for value in values.values() if value is not None]
    return paired_interval(found).as_dict() | {"of": len(values)} if found else None


def tokens_over_seeds(values: Mapping[int, float | None]) -> Interval | None:
    """Geometric mean of token counts with its interval (taken on logarithms); None where no seed has one."""
    logs = [math.log(value) for value in values.values() if value]
    if not logs:
        return None
    estimate = paired_interval(logs)
    ends = (math.exp(estimate.value), math.exp(estimate.low), math.exp(estimate.high))
    return Estimate(*ends, estimate.num).as_dict() | {"of": len(values)}


def paired(first: Mapping[int, float | None], second: Mapping[int, float | None]) -> Interval | None:
    """Mean of ``first - second`` over the seeds that both have, with its interval; None where they share none."""
    differences = [
        value - other for seed, value in first.items() if value is not None and (other := second.get(seed)) is not None
    ]
    return paired_interval(differences).as_dict() if differences else None
