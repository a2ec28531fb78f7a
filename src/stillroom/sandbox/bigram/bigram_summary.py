"""Cells of a bigram sweep put together: means over seeds with intervals, and how far each lies from theory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stillroom.results.bigram_file import (
    KIND,
    ArmCell,
    BigramArm,
    BigramPasses,
    BigramResults,
    BigramTheory,
    BigramWorldFacts,
    ByClass,
    Deviation,
    Deviations,
    Distances,
    GradientCell,
    LearntArms,
    LearntCurve,
    RatioCell,
    RatioPoint,
    RatioSlope,
    TransformerCell,
)
from stillroom.results.intervals import held_within, seeds_mean
from stillroom.sandbox.bigram.bigram_cells import CLASSES, pass_references
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.tabular import Arm
from stillroom.sandbox.bigram.theory import log_slope, uniform_leak_floor
from stillroom.types import Estimate
from stillroom.worlds.bigram import BigramWorld

MEASURABLE = 1e-3
"""Below this a relative deviation says nothing."""
ROUNDING = 1e-6
"""Part of theory's value that an interval may miss it by: without sampling error an interval has no width."""


@dataclass(frozen=True, kw_only=True)
class SweepCells:
    """All that was measured: by seed, by support of the ratio, and by arm and seed of the transformer."""

    seeds: Sequence[Mapping[str, ArmCell]]
    theory: BigramTheory
    ratios: Sequence[RatioCell]
    gradient: Sequence[GradientCell]
    transformer: Mapping[str, Sequence[TransformerCell]]


def summarise(world: BigramWorld, sweep: BigramSweep, cells: SweepCells) -> BigramResults:
    """Everything that the report shows, but for the stages and how long they took."""
    drawn = {arm.name for arm in sweep.drawn_arms()}
    points = _ratio(sweep, cells.ratios)
    arms = tuple(_arm(arm, arm.name in drawn, cells.seeds, world, sweep) for arm in sweep.arms())
    return BigramResults(
        kind=KIND,
        fingerprint=sweep.fingerprint(),
        world=_world(world, sweep),
        samples=sweep.samples,
        seeds=sweep.seeds,
        arms=arms,
        theory=cells.theory,
        ratio=points,
        pass_=_passes(world, sweep, cells.seeds),
        gradient=_gradient(cells.gradient),
        transformer=_transformer(cells.transformer),
        deviation=_deviations(arms, cells.theory, sweep, points),
    )


def _world(world: BigramWorld, sweep: BigramSweep) -> BigramWorldFacts:
    is_high = {"high": world.high_K, "low": ~world.high_K}
    return BigramWorldFacts(
        source=sweep.world,
        states=world.num_states,
        visits=sweep.visits,
        rows={name: int(found.sum()) for name, found in is_high.items()},
        entropy_nats={name: float(world.entropy_K[found].mean()) for name, found in is_high.items() if found.any()},
        optimal_loss_nats=world.optimal_loss_nats(sweep.visits),
        walk_loss_nats=world.optimal_loss_nats("stationary"),
    )


_MOST = {"tv": 1.0, "kl": np.inf}


def _estimate(values: ArrayLike, most: float = np.inf) -> Estimate:
    """Mean over seeds, its interval held to what the measure can be: 0 to ``most``."""
    return held_within(seeds_mean(np.ravel(values)), 0.0, most)


def _arm(
    arm: Arm, drawn: bool, seeds: Sequence[Mapping[str, ArmCell]], world: BigramWorld, sweep: BigramSweep
) -> BigramArm:
    """Estimates of TV and KL by class over sizes; the prediction and the floor are means over seeds' teachers."""
    cells = [cell[arm.name] for cell in seeds]
    classes = [kind for kind in CLASSES if kind in cells[0].floor]
    return BigramArm(
        name=arm.name,
        alpha=arm.alpha,
        teacher=str(arm.teacher),
        kind=arm.teacher.kind,
        leak=arm.teacher.leak,
        temperature=arm.temperature,
        routing=arm.routing.rule,
        share=arm.routing.share,
        drawn=drawn,
        **_curves(cells, classes),
        predicted=_class_means([cell.predicted for cell in cells if cell.predicted is not None], classes),
        floor=_class_means([cell.floor for cell in cells], classes),
        uniform_floor=_uniform_floor(arm, world, sweep),
    )


def _class_means(found: Sequence[Distances], classes: Iterable[str]) -> Distances:
    return {kind: float(np.mean([values[kind] for values in found])) for kind in classes}


def _curves(runs: Sequence[LearntCurve], classes: Iterable[str]) -> dict[str, ByClass]:
    """Estimates over runs of TV and KL by class at every size or checkpoint."""
    curves = {"tv": [run.tv for run in runs], "kl": [run.kl for run in runs]}
    return {
        metric: {
            kind: tuple(_estimate([values[kind] for values in at], _MOST[metric]) for at in zip(*found, strict=True))
            for kind in classes
        }
        for metric, found in curves.items()
    }


def _uniform_floor(arm: Arm, world: BigramWorld, sweep: BigramSweep) -> float | None:
    """α·η·(K-1)/K times the part of the low rows that is not routed, for certain rows and teachers that leak evenly."""
    certain = (~world.high_K).any() and float(world.entropy_K[~world.high_K].max()) < 1e-9
    if arm.teacher.kind != "uniform" or arm.temperature != 1.0 or not certain or sweep.hard_weight != "restore":
        return None
    routed = arm.routing.share
    if arm.routing.rule == "low-entropy":
        routed = min(1.0, routed / float(world.visits_K(sweep.visits)[~world.high_K].sum()))
    return uniform_leak_floor(arm.alpha, arm.teacher.leak, world.num_states) * (1.0 - routed)


def _ratio(sweep: BigramSweep, cells: Sequence[RatioCell]) -> tuple[RatioPoint, ...]:
    """One point for every support and tolerance, by p/ε²."""
    points = []
    for support, cell in zip(sweep.ratio_supports, cells, strict=True):
        distilled = float(np.mean(cell.distilled))
        for place, epsilon in enumerate(sweep.ratio_tolerances):
            standard = [row[place] for row in cell.standard]
            points.append(
                RatioPoint(
                    support=support,
                    tolerance=epsilon,
                    expected=support / epsilon**2,
                    standard=_estimate(standard),
                    distilled=_estimate(cell.distilled),
                    ratio=_estimate(np.array(standard) / distilled),
                    theory=cell.standard_theory[place] / cell.distilled_theory,
                )
            )
    return tuple(sorted(points, key=lambda point: point.expected))


def _passes(world: BigramWorld, sweep: BigramSweep, seeds: Sequence[Mapping[str, ArmCell]]) -> BigramPasses:
    """pass@k over k for the drawn arms at every size, with what the best policies reach."""
    arms = {}
    for arm in sweep.drawn_arms():
        sizes = list(zip(*(cell[arm.name].pass_ for cell in seeds), strict=True))  # of every size, one for each seed
        arms[arm.name] = {
            kind: tuple(
                tuple(_estimate(values, 1.0) for values in zip(*(found[kind] for found in of_size), strict=True))
                for of_size in sizes
            )
            for kind in seeds[0][arm.name].floor
        }
    return BigramPasses(ks=sweep.ks, arms=arms, references=pass_references(world, sweep.ks))


def _gradient(cells: Sequence[GradientCell]) -> LearntArms | None:
    if not cells:
        return None
    arms = {name: [cell.arms[name] for cell in cells] for name in cells[0].arms}
    return _learnt(cells[0].samples, arms)


def _transformer(cells: Mapping[str, Sequence[TransformerCell]]) -> LearntArms | None:
    return _learnt(next(iter(cells.values()))[0].samples, cells) if cells else None


def _learnt(samples: tuple[int, ...], arms: Mapping[str, Sequence[LearntCurve]]) -> LearntArms:
    curves = {name: _curves(runs, runs[0].tv[0]) for name, runs in arms.items()}
    return LearntArms(samples=samples, arms=curves, seeds=len(next(iter(arms.values()))))


def _deviations(
    arms: Sequence[BigramArm], theory: BigramTheory, sweep: BigramSweep, points: Sequence[RatioPoint]
) -> Deviations:
    """How far measurements lie from theory (see ``_compared``), figure by figure."""
    at = [theory.samples.index(size) for size in sweep.samples]
    curves = {
        metric: _compared(
            (point, theory.arms[arm.name][metric][kind][place])
            for arm in arms
            if arm.drawn
            for kind, curve in arm.measured(metric).items()
            for place, point in zip(at, curve, strict=True)
        )
        for metric in ("tv", "kl")
    }
    expected = [point.expected for point in points]
    slopes = {
        "measured": log_slope(expected, [point.ratio.value for point in points]),
        "theory": log_slope(expected, [point.theory for point in points]),
    }
    return Deviations(
        **curves,
        all_arms=_compared((arm.tv[kind][-1], arm.predicted[kind]) for arm in arms for kind in arm.floor),
        floor=_compared((arm.tv["low"][-1], arm.uniform_floor) for arm in arms if arm.uniform_floor is not None),
        ratio=_compared((point.ratio, point.theory) for point in points),
        ratio_slope=RatioSlope(**{name: None if math.isnan(value) else value for name, value in slopes.items()}),
    )


def _compared(pairs: Iterable[tuple[Estimate, float]]) -> Deviation | None:
    """Median and largest |measured / theory - 1|, and the share of 95 % intervals that hold theory's value.

    Points where theory is too small to divide by are left out; None where that leaves none.
    """
    kept = [(point, expected) for point, expected in pairs if expected >= MEASURABLE]
    if not kept:
        return None
    parts = [abs(point.value / expected - 1.0) for point, expected in kept]
    held = [point.low - ROUNDING * expected <= expected <= point.high + ROUNDING * expected for point, expected in kept]
    return Deviation(
        median=float(np.median(parts)),
        largest=float(np.max(parts)),
        covered=float(np.mean(held)),
        num=len(parts),
    )
