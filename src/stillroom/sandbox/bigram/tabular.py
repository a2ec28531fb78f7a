"""Learners that keep a table of rows: the exact optimum of the mixed target on a sample, and a softmax by gradient.

Letters: K states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stillroom.worlds.bigram import BigramWorld, Visits
from stillroom.worlds.bigram_rows import Floats, row_entropies, tempered
from stillroom.worlds.bigram_teachers import EXACT, TeacherSpec, teacher_rows

HardWeight = Literal["restore", "keep"]
_TIE_NATS = 1e-9


@dataclass(frozen=True)
class TabularRouting:
    """Which share of the samples loses the teacher's label, and by which rule."""

    rule: Literal["none", "low-entropy", "random"] = "none"
    share: float = 0.0

    def __str__(self) -> str:
        return {"none": "none", "low-entropy": f"{self.share:g}", "random": f"random:{self.share:g}"}[self.rule]


def parse_routing(text: str) -> TabularRouting:
    """``none``, a share of the lowest teacher entropy such as ``0.15``, or ``random:0.15``."""
    words = text.strip()
    if words == "none":
        return TabularRouting()
    rule, sign, number = words.rpartition(":")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if (sign and rule != "random") or not 0.0 <= share < 1.0:
        raise ValueError(
            f"routing {words!r} is not understood, expected none, a SHARE from 0 to below 1 or random:SHARE"
        )
    if share == 0.0:
        return TabularRouting()
    return TabularRouting("random" if sign else "low-entropy", share)


@dataclass(frozen=True)
class Arm:
    """One way to train: how much weight on which teacher at which temperature, and what is routed past it."""

    alpha: float = 0.0
    teacher: TeacherSpec = EXACT
    temperature: float = 1.0
    routing: TabularRouting = TabularRouting()
    hard_weight: HardWeight = "restore"

    @property
    def name(self) -> str:
        """SPT, or DPT with the weight in percent and whatever differs from the plainest."""
        if self.alpha == 0:
            return "SPT"
        parts = [f"DPT-{100 * self.alpha:g}", str(self.teacher)]
        if self.temperature != 1.0:
            parts.append(f"T = {self.temperature:g}")
        if self.routing.rule != "none":
            rule = "random " if self.routing.rule == "random" else ""
            kept = ", weight kept" if self.hard_weight == "keep" else ""
            parts.append(f"{rule}{100 * self.routing.share:g} % routed{kept}")
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Target:
    """What an arm's labels amount to, row by row."""

    teacher_KK: Floats
    """The teacher's rows at the arm's temperature."""
    routed_K: Floats
    """Share of each row's samples that are routed to the hard label."""
    alpha: float
    hard_weight: HardWeight

    @property
    def soft_share_K(self) -> Floats:
        """a: the part of each row's target that is the teacher's, so that the optimum is (1-a)π + a·s."""
        soft_K = self.alpha * (1.0 - self.routed_K)
        if self.hard_weight == "restore":
            return soft_K
        total_K = 1.0 - self.alpha * self.routed_K
        return np.where(total_K > 0, soft_K / np.maximum(total_K, 1e-300), 0.0)

    @property
    def efficiency_K(self) -> Floats:
        """How many evenly weighted samples one hard label of each row is worth: (E w)²/E w², at most 1.

        Where some of a row's hard labels weigh 1 (routed) and the others 1 - α, the heavy ones carry the row.
        """
        if self.hard_weight == "keep" or self.alpha == 0:
            return np.ones_like(self.routed_K)
        light, routed_K = 1.0 - self.alpha, self.routed_K
        square_K = routed_K + (1.0 - routed_K) * light**2
        return np.where(square_K > 0, (routed_K + (1.0 - routed_K) * light) ** 2 / np.maximum(square_K, 1e-300), 1.0)

    def optimum(self, truth_KK: Floats) -> Floats:
        """q* = (1-a)π + a·s, what unlimited data leads to."""
        soft_K1 = self.soft_share_K[:, None]
        return (1.0 - soft_K1) * truth_KK + soft_K1 * self.teacher_KK


def arm_target(world: BigramWorld, arm: Arm, seed: int = 0, visits: Visits = "uniform") -> Target:
    """The labels of an arm; ``seed`` is that of a teacher that was itself trained."""
    if arm.alpha == 0:
        return Target(world.matrix_KK, np.zeros(world.num_states), 0.0, arm.hard_weight)
    rows = tempered(teacher_rows(world, arm.teacher, seed, visits), arm.temperature)
    routed = routed_shares(row_entropies(rows), world.visits_K(visits), arm.routing)
    return Target(rows, routed, arm.alpha, arm.hard_weight)


def routed_shares(entropy_K: Floats, visits_K: Floats, routing: TabularRouting) -> Floats:
    """Share of each row's samples that are routed, so that they are ``share`` of all samples.

    The lowest entropies go first; rows whose entropies are equal share what is left evenly, as positions of a sequence
    do that tie.
    """
    if routing.rule == "none":
        return np.zeros_like(entropy_K)
    if routing.rule == "random":
        return np.full_like(entropy_K, routing.share)
    order = np.argsort(entropy_K, kind="stable")
    starts_group = np.diff(entropy_K[order], prepend=-np.inf) > _TIE_NATS
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(starts_group) - 1
    mass = np.bincount(group, weights=visits_K)
    before = np.cumsum(mass) - mass
    filled = np.clip((routing.share - before) / np.maximum(mass, 1e-300), 0.0, 1.0)
    return np.round(filled, 12)[group]  # a group that is filled but for rounding is filled


@dataclass(frozen=True, eq=False)
class Learnt:
    """Rows learnt from a sample, as hard frequencies and the teacher's rows."""

    hard_KK: Floats
    """Weighted relative frequencies of the sample; uniform where a row was never visited."""
    visits_K: NDArray[np.int64]
    target: Target

    def rows(self) -> Floats:
        """The maximum of the likelihood of the mixed target; an unvisited row is uniform."""
        return self._mixed(self.hard_KK)

    def smoothed_rows(self) -> Floats:
        """The same with one uniform sample added to every row's hard labels, so that no KL is infinite."""
        visits_K1 = self.visits_K[:, None]
        return self._mixed((visits_K1 * self.hard_KK + 1.0 / len(self.hard_KK)) / (visits_K1 + 1.0))

    def _mixed(self, hard_KK: Floats) -> Floats:
        if self.target.alpha == 0:
            return hard_KK
        soft_K1 = np.where(self.visits_K > 0, self.target.soft_share_K, 0.0)[:, None]
        return hard_KK + soft_K1 * (self.target.teacher_KK - hard_KK)


def maximum_likelihood(counts_KK: NDArray[np.int64], target: Target, random: np.random.Generator) -> Learnt:
    """The exact optimum of the mixed target on a sample of transitions.

    In a row with n samples, the loss Σ (1-α)·CE(y) + α·CE(s), with the hard label alone on routed samples, is least at
    (1-a)·(frequencies) + a·s. Where only some of a row's samples are routed, each is with the same chance.
    """
    visits_K = counts_KK.sum(1)
    weighted = counts_KK.astype(np.float64)
    partly = (target.routed_K > 0) & (target.routed_K < 1) & (target.alpha > 0) & (target.hard_weight == "restore")
    if partly.any():
        routed = random.binomial(counts_KK[partly], target.routed_K[partly, None])
        weighted[partly] = (1.0 - target.alpha) * counts_KK[partly] + target.alpha * routed
    total_K = weighted.sum(1)
    hard = np.where(total_K[:, None] > 0, weighted / np.maximum(total_K, 1e-300)[:, None], 1.0 / len(counts_KK))
    return Learnt(hard, visits_K, target)


def total_variation(rows_KK: Floats, truth_KK: Floats) -> Floats:
    """Half the L1 distance of every row from the true one (K,): 0 to 1."""
    return 0.5 * np.abs(rows_KK - truth_KK).sum(1)


def divergence(rows_KK: Floats, truth_KK: Floats) -> Floats:
    """KL(truth ‖ row) of every row (K,), nats; infinite where the row excludes what can happen."""
    possible = truth_KK > 0
    with np.errstate(divide="ignore"):
        logs = np.log(rows_KK, out=np.zeros_like(rows_KK), where=possible)
    return np.maximum(0.0, -row_entropies(truth_KK) - np.einsum("ij,ij->i", truth_KK, logs))


def by_class(values_K: Floats, world: BigramWorld) -> dict[str, float]:
    """Means over the high-entropy and the low-entropy rows; a class without rows is left out."""
    parts = {"high": values_K[world.high_K], "low": values_K[~world.high_K]}
    return {name: float(found.mean()) for name, found in parts.items() if len(found)}


def by_gradient(
    world: BigramWorld,
    target: Target,
    checkpoints: Sequence[int],
    *,
    seed: int,
    batch: int = 256,
    learning_rate: float = 0.1,
    visits: Visits = "uniform",
) -> list[Floats]:
    """Rows of a table of logits after so many samples, each seen once, in batches: softmax regression by Adam.

    The learning rate falls linearly to 0 over the run. The hard labels of routed samples weigh as the target says.
    """
    random = np.random.default_rng([0x6AD, seed])
    steps = -(-max(checkpoints) // batch)
    wanted = {-(-number // batch) for number in checkpoints}
    logits, first, second = (np.zeros_like(world.matrix_KK) for _ in range(3))
    found: list[Floats] = []
    for step in range(1, steps + 1):
        learnt = maximum_likelihood(world.counts(batch, random, visits), target, random)
        gradient = (_softmax(logits) - learnt.rows()) * (learnt.visits_K[:, None] / batch)
        first += 0.1 * (gradient - first)
        second += 0.01 * (gradient**2 - second)
        scale = learning_rate * (1 - (step - 1) / steps) / (1 - 0.9**step)
        logits -= scale * first / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
        if step in wanted:
            found.append(_softmax(logits))
    return found


def _softmax(logits_KK: Floats) -> Floats:
    shifted = np.exp(logits_KK - logits_KK.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
