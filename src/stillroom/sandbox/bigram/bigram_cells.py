"""The parts of a bigram sweep that are measured one by one, each a pure function of its arguments.

Letters: K states, S seeds.
"""

from __future__ import annotations

import numpy as np

from stillroom.results.bigram_file import ArmCell, BigramTheory, GradientCell, LearntCurve, RatioCell
from stillroom.results.schema import Numbers
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.tabular import (
    Target,
    arm_target,
    by_class,
    by_gradient,
    divergence,
    maximum_likelihood,
    total_variation,
)
from stillroom.sandbox.bigram.theory import (
    Rows,
    best_policy,
    coupon_samples,
    coverage,
    divergence_curve,
    samples_for,
    variation_curve,
)
from stillroom.worlds.bigram import BigramOptions, BigramWorld, bigram_world
from stillroom.worlds.bigram_rows import Floats

CLASSES = ("high", "low")
_Curves = tuple[list[dict[str, float]], list[dict[str, float]], list[dict[str, Numbers]]]
"""TV, KL and pass@k, by class, at every size."""
_COLLECTIONS = 20
"""Repetitions per seed of the count until every row was visited, which varies much and costs nothing."""
_GROWTH = 1.15
"""Ratio of successive sample sizes in the search for the size that is enough."""


def seed_cell(world: BigramWorld, sweep: BigramSweep, seed: int) -> dict[str, ArmCell]:
    """Every arm on one seed's samples: TV and KL by class for every size, pass@k of the drawn arms, the prediction.

    All arms see the same samples, so that their differences are paired.
    """
    arms, drawn = sweep.arms(), {arm.name for arm in sweep.drawn_arms()}
    targets = {arm.name: arm_target(world, arm, seed, sweep.visits) for arm in arms}
    curves: dict[str, _Curves] = {arm.name: ([], [], []) for arm in arms}
    for place, size in enumerate(sweep.samples):
        counts = world.counts(size, np.random.default_rng([0xCE11, seed, place]), sweep.visits)
        for arm in arms:
            random = np.random.default_rng([0x2007, seed, place])
            learnt = maximum_likelihood(counts, targets[arm.name], random)
            rows, (tv, kl, passes) = learnt.rows(), curves[arm.name]
            tv.append(by_class(total_variation(rows, world.matrix_KK), world))
            kl.append(by_class(divergence(learnt.smoothed_rows(), world.matrix_KK), world))
            if arm.name in drawn:
                passes.append(pass_curve(world, rows, sweep.ks))
    cell = {}
    for arm in arms:
        (tv, kl, passes), target = curves[arm.name], targets[arm.name]
        is_asked = seed == 0 or arm.teacher.kind in ("samples", "rank")  # others are the same for every seed
        expected = predicted(world, target, sweep, sweep.samples[-1]) if is_asked else None
        cell[arm.name] = ArmCell(
            tv=tuple(tv), kl=tuple(kl), pass_=tuple(passes), floor=floor(world, target), predicted=expected
        )
    return cell


def class_rows(world: BigramWorld, target: Target, sweep: BigramSweep) -> dict[str, Rows]:
    """What theory needs to know of each class that has rows."""
    parts = {"high": np.flatnonzero(world.high_K), "low": np.flatnonzero(~world.high_K)}
    share_K = world.visits_K(sweep.visits)
    whole = Rows(world.matrix_KK, target.teacher_KK, target.soft_share_K, share_K, target.efficiency_K)
    return {name: whole.take(rows) for name, rows in parts.items() if len(rows)}


def predicted(world: BigramWorld, target: Target, sweep: BigramSweep, size: int) -> dict[str, float]:
    """Total variation that theory expects at one sample size, by class."""
    return {name: variation_curve([size], rows)[0] for name, rows in class_rows(world, target, sweep).items()}


def floor(world: BigramWorld, target: Target) -> dict[str, float]:
    """Total variation that unlimited data leaves, by class: the mean of a·TV(s, π)."""
    return by_class(total_variation(target.optimum(world.matrix_KK), world.matrix_KK), world)


def pass_curve(world: BigramWorld, rows: Floats, ks: tuple[int, ...]) -> dict[str, Numbers]:
    """pass@k by class where the right answer is drawn from the true row and the k guesses from the learnt one."""
    curves = [by_class(coverage(world.matrix_KK, rows, k), world) for k in ks]
    return {name: tuple(curve[name] for curve in curves) for name in curves[0]}


def pass_references(world: BigramWorld, ks: tuple[int, ...]) -> dict[str, dict[str, Numbers]]:
    """pass@k of the policy that is best for each k, of the truth itself, and of its likeliest token alone."""
    best = [by_class(coverage(world.matrix_KK, best_policy(world.matrix_KK, k), k), world) for k in ks]
    return {
        "best": {name: tuple(curve[name] for curve in best) for name in best[0]},
        "truth": pass_curve(world, world.matrix_KK, ks),
        "greedy": pass_curve(world, best_policy(world.matrix_KK, 1), ks),
    }


def theory_cell(world: BigramWorld, sweep: BigramSweep) -> BigramTheory:
    """Expected TV and KL of the drawn arms by class over a fine grid of sizes and at the measured ones."""
    first, last = sweep.samples[0], sweep.samples[-1]
    grid = np.unique(np.round(np.geomspace(first, last, 33)).astype(int)).tolist() if last > first else [first]
    sizes, curves = sorted({*grid, *sweep.samples}), {"tv": variation_curve, "kl": divergence_curve}
    arms = {}
    for arm in sweep.drawn_arms():
        parts = class_rows(world, arm_target(world, arm, 0, sweep.visits), sweep)
        arms[arm.name] = {
            metric: {name: tuple(curve(sizes, rows)) for name, rows in parts.items()}
            for metric, curve in curves.items()
        }
    return BigramTheory(samples=tuple(sizes), arms=arms)


def ratio_cell(sweep: BigramSweep, support: int) -> RatioCell:
    """Samples that hard labels need for each ε, and those until every row was visited once, per seed, with theory.

    The world has all rows high-entropy over ``support`` next tokens, met alike. One visit is enough for a learner of
    the exact teacher's labels alone (α = 1), so S_distill is the coupon collector's number.
    """
    options = BigramOptions(states=sweep.states, high_share=1.0, support=support, seed=sweep.world_seed)
    world = bigram_world(options)
    share_K = world.visits_K("uniform")
    collected = coupon_samples(share_K)
    needed = [samples_for(epsilon, world.matrix_KK, share_K) for epsilon in sweep.ratio_tolerances]
    hard, soft = [], []
    for seed in range(sweep.seeds):
        random = np.random.default_rng([0x4A7, support, seed])
        hard.append(_samples_to_reach(world, sweep.ratio_tolerances, 0.2 * min(needed), random))
        soft += [_samples_to_visit(sweep.states, random) for _ in range(_COLLECTIONS)]
    return RatioCell(
        standard=tuple(hard), distilled=tuple(soft), standard_theory=tuple(needed), distilled_theory=collected
    )


def _samples_to_reach(
    world: BigramWorld, tolerances: tuple[float, ...], start: float, random: np.random.Generator
) -> Numbers:
    """Samples at which mean total variation first falls below each tolerance, as one sample grows.

    Between two sizes the crossing is placed on a straight line in logarithms.
    """
    counts = world.counts(max(1, round(start)), random)
    sizes, errors = [], []
    while True:
        visits = np.maximum(counts.sum(1, keepdims=True), 1)
        sizes.append(int(counts.sum()))
        errors.append(float(total_variation(counts / visits, world.matrix_KK).mean()))
        if errors[-1] <= min(tolerances):
            break
        counts = counts + world.counts(max(1, round(sizes[-1] * (_GROWTH - 1))), random)
    logs = np.log(errors)[::-1], np.log(sizes)[::-1]
    return tuple(float(np.exp(np.interp(np.log(tolerance), *logs))) for tolerance in tolerances)


def _samples_to_visit(num_states: int, random: np.random.Generator) -> int:
    """Draws until each of ``num_states`` equally likely states was seen."""
    seen = random.integers(num_states, size=round(num_states * (np.log(num_states) + 30)))
    first = np.unique(seen, return_index=True)[1]
    return int(first.max()) + 1 if first.size == num_states else seen.size


def gradient_cell(world: BigramWorld, sweep: BigramSweep, seed: int) -> GradientCell:
    """TV and KL by class of a softmax table that learns the drawn arms by gradient, over the samples it has seen."""
    sizes, arms = gradient_sizes(sweep), {}
    for arm in sweep.drawn_arms():
        target = arm_target(world, arm, seed, sweep.visits)
        found = by_gradient(world, target, sizes, seed=seed, visits=sweep.visits)
        arms[arm.name] = LearntCurve(
            tv=tuple(by_class(total_variation(rows, world.matrix_KK), world) for rows in found),
            kl=tuple(by_class(divergence(rows, world.matrix_KK), world) for rows in found),
        )
    return GradientCell(samples=tuple(sizes), arms=arms)


def gradient_sizes(sweep: BigramSweep) -> list[int]:
    """Checkpoints on a logarithmic scale, whole batches of 256 samples."""
    steps = np.unique(np.round(np.geomspace(1, max(1, sweep.gradient_samples // 256), 14)).astype(int))
    return [256 * int(step) for step in steps]
