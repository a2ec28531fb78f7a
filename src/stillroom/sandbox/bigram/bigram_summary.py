"""Cells of a bigram sweep put together: means over seeds with intervals, and how far each lies from theory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stillroom.results.intervals import seeds_mean
from stillroom.sandbox.bigram.bigram_cells import CLASSES, arm_record, pass_references
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.theory import log_slope, uniform_leak_floor
from stillroom.worlds.bigram import BigramWorld

Cell = dict[str, Any]
MEASURABLE = 1e-3
"""Below this a relative deviation says nothing."""
ROUNDING = 1e-6
"""Part of theory's value that an interval may miss it by: without sampling error an interval has no width."""


def summarise(
    world: BigramWorld,
    sweep: BigramSweep,
    seeds: list[Cell],
    theory: Cell,
    ratios: list[Cell],
    gradient: list[Cell],
    transformer: dict[str, list[Cell]],
) -> Cell:
    """Everything that the report shows, as plain numbers."""
    drawn = {arm.name for arm in sweep.drawn_arms()}
    points = _ratio(sweep, ratios)
    arms = [arm_record(arm) | {"drawn": arm.name in drawn} | _arm(arm.name, seeds) for arm in sweep.arms()]
    for arm in arms:
        arm["uniform_floor"] = _uniform_floor(arm, world, sweep)
    return {
        "world": _world(world, sweep),
        "samples": list(sweep.samples),
        "seeds": sweep.seeds,
        "arms": arms,
        "theory": theory,
        "ratio": points,
        "pass": _passes(world, sweep, seeds),
        "gradient": _gradient(gradient),
        "transformer": _transformer(transformer),
        "deviation": _deviations(arms, theory, sweep, points),
    }


def _world(world: BigramWorld, sweep: BigramSweep) -> Cell:
    is_high = {"high": world.high_K, "low": ~world.high_K}
    return {
        "source": sweep.world,
        "states": world.num_states,
        "visits": sweep.visits,
        "rows": {name: int(found.sum()) for name, found in is_high.items()},
        "entropy_nats": {name: float(world.entropy_K[found].mean()) for name, found in is_high.items() if found.any()},
        "optimal_loss_nats": world.optimal_loss_nats(sweep.visits),
        "walk_loss_nats": world.optimal_loss_nats("stationary"),
    }


def _estimate(values: ArrayLike) -> Cell:
    return seeds_mean(np.ravel(values)).as_dict()


def _arm(name: str, seeds: list[Cell]) -> Cell:
    """Estimates of TV and KL by class over sizes; the prediction and the floor are means over seeds' teachers."""
    cells = [cell[name] for cell in seeds]
    classes = [kind for kind in CLASSES if kind in cells[0]["floor"]]
    found: Cell = {
        metric: {
            kind: [_estimate([cell[metric][place][kind] for cell in cells]) for place in range(len(cells[0][metric]))]
            for kind in classes
        }
        for metric in ("tv", "kl")
    }
    for field in ("predicted", "floor"):
        known = [cell[field] for cell in cells if field in cell]
        found[field] = {kind: float(np.mean([values[kind] for values in known])) for kind in classes}
    return found


def _uniform_floor(arm: Cell, world: BigramWorld, sweep: BigramSweep) -> float | None:
    """α·η·(K-1)/K times the part of the low rows that is not routed, for certain rows and teachers that leak evenly."""
    certain = (~world.high_K).any() and float(world.entropy_K[~world.high_K].max()) < 1e-9
    if arm["kind"] != "uniform" or arm["temperature"] != 1.0 or not certain or sweep.hard_weight != "restore":
        return None
    routed = arm["share"]
    if arm["routing"] == "low-entropy":
        routed = min(1.0, arm["share"] / float(world.visits_K(sweep.visits)[~world.high_K].sum()))
    return uniform_leak_floor(arm["alpha"], arm["leak"], world.num_states) * (1.0 - routed)


def _ratio(sweep: BigramSweep, cells: list[Cell]) -> list[Cell]:
    """One point for every support and tolerance, by p/ε²."""
    points = []
    for support, cell in zip(sweep.ratio_supports, cells, strict=True):
        distilled = float(np.mean(cell["distilled"]))
        for place, epsilon in enumerate(sweep.ratio_tolerances):
            standard = [row[place] for row in cell["standard"]]
            points.append(
                {
                    "support": support,
                    "tolerance": epsilon,
                    "expected": support / epsilon**2,
                    "standard": _estimate(standard),
                    "distilled": _estimate(cell["distilled"]),
                    "ratio": _estimate(np.array(standard) / distilled),
                    "theory": cell["standard_theory"][place] / cell["distilled_theory"],
                }
            )
    return sorted(points, key=lambda point: point["expected"])


def _passes(world: BigramWorld, sweep: BigramSweep, seeds: list[Cell]) -> Cell:
    """pass@k over k for the drawn arms at every size, with what the best policies reach."""
    arms = {
        arm.name: {
            kind: [
                [
                    _estimate([cell[arm.name]["pass"][size][kind][place] for cell in seeds])
                    for place in range(len(sweep.ks))
                ]
                for size in range(len(sweep.samples))
            ]
            for kind in seeds[0][arm.name]["floor"]
        }
        for arm in sweep.drawn_arms()
    }
    return {"ks": list(sweep.ks), "arms": arms, "references": pass_references(world, sweep.ks)}


def _gradient(cells: list[Cell]) -> Cell | None:
    if not cells:
        return None
    arms = {name: _dynamics([cell["arms"][name] for cell in cells]) for name in cells[0]["arms"]}
    return {"samples": cells[0]["samples"], "arms": arms, "seeds": len(cells)}


def _transformer(cells: dict[str, list[Cell]]) -> Cell | None:
    if not cells:
        return None
    first = next(iter(cells.values()))
    arms = {name: _dynamics(found) for name, found in cells.items()}
    return {"samples": first[0]["samples"], "arms": arms, "seeds": len(first)}


def _dynamics(runs: list[Cell]) -> Cell:
    """Estimates over runs of TV and KL by class at every checkpoint."""
    return {
        metric: {
            kind: [_estimate([run[metric][place][kind] for run in runs]) for place in range(len(runs[0][metric]))]
            for kind in runs[0][metric][0]
        }
        for metric in ("tv", "kl")
    }


def _deviations(arms: list[Cell], theory: Cell, sweep: BigramSweep, points: list[Cell]) -> Cell:
    """How far measurements lie from theory (see ``_compared``), figure by figure."""
    at = [theory["samples"].index(size) for size in sweep.samples]
    found: Cell = {}
    for metric in ("tv", "kl"):
        found[metric] = _compared(
            (point, theory["arms"][arm["name"]][metric][kind][place])
            for arm in arms
            if arm["drawn"]
            for kind, curve in arm[metric].items()
            for place, point in zip(at, curve, strict=True)
        )
    found["all_arms"] = _compared(
        (arm["tv"][kind][-1], arm["predicted"][kind]) for arm in arms for kind in arm["floor"]
    )
    leaks = [arm for arm in arms if arm["uniform_floor"] is not None]
    found["floor"] = _compared((arm["tv"]["low"][-1], arm["uniform_floor"]) for arm in leaks)
    found["ratio"] = _compared((point["ratio"], point["theory"]) for point in points)
    expected = [point["expected"] for point in points]
    slopes = {
        "measured": log_slope(expected, [point["ratio"]["value"] for point in points]),
        "theory": log_slope(expected, [point["theory"] for point in points]),
    }
    found["ratio_slope"] = {name: None if math.isnan(value) else value for name, value in slopes.items()}
    return found


def _compared(pairs: Iterable[tuple[Cell, float]]) -> Cell | None:
    """Median and largest |measured / theory - 1|, and the share of 95 % intervals that hold theory's value.

    Points where theory is too small to divide by are left out; None where that leaves none.
    """
    kept = [(point, expected) for point, expected in pairs if expected >= MEASURABLE]
    if not kept:
        return None
    parts = [abs(point["value"] / expected - 1.0) for point, expected in kept]
    held = [
        point["low"] - ROUNDING * expected <= expected <= point["high"] + ROUNDING * expected
        for point, expected in kept
    ]
    return {
        "median": float(np.median(parts)),
        "largest": float(np.max(parts)),
        "covered": float(np.mean(held)),
        "num": len(parts),
    }
