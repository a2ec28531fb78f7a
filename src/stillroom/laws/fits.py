"""Fits of the laws: Huber on log loss, L-BFGS-B from a grid of starts, bootstrap, profile, held-out error.

The optimizer does not see log A and log B but what A/N^α and B/D^β are at the middle of the points, so that
coefficients move alone; everything else is ``free`` of the law.

Letters: P points, K coefficients, R resamples. Imports no torch.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from stillroom.cores import num_cores, one_thread_for_children
from stillroom.laws.forms import DistillationLaw, Floats, SupervisedLaw
from stillroom.laws.points import Points
from stillroom.laws.presets import BUSBRIDGE_2025
from stillroom.types import UserError

Form = Literal["published", "recovery"]
FORMS: tuple[Form, ...] = ("published", "recovery")
DELTA = 1e-4
"""Huber's: beyond it an error of log loss counts by its size, as in the published fit."""
_COARSE = (1e-2, 1e-3, DELTA)
_AGAIN = 80
"""Steps of L-BFGS-B from a law that is nearly right: the objective is then within 0.3 % of its end."""
_TETHER = 1e-4
"""Weight of the squared distance from the start's grid: nothing beside data, and an end to valleys without a floor."""
LIMITS = {
    "E": (np.log(0.05), np.log(10.0)), "alpha": (np.log(0.03), np.log(2.0)), "beta": (np.log(0.03), np.log(2.0)),
    "gamma": (np.log(0.05), np.log(3.0)), "A": (-15.0, 15.0), "B": (-15.0, 15.0), "c0": (-6.0, 8.0),
    "c1": (np.log(0.1), np.log(1e5)), "f1": (np.log(0.01), np.log(1.0)), "d1": (np.log(0.7), np.log(4.0)),
    "recovery": (np.log(1e-4), np.log(0.9)),
}  # fmt: skip
"""Least and most of what a fit moves: logarithms, c0 itself; of A and B at the middle of the points."""
_STARTS = tuple(itertools.product((-1.0, 1.0), (0.25, 0.5), (0.4, 0.8)))
"""Both terms at the middle of the points (logarithm), α and β, γ."""

Objective = Callable[[Floats], tuple[float, Floats]]


@dataclass(frozen=True)
class Fit:
    """A law with what a fit knows of it."""

    law: SupervisedLaw | DistillationLaw
    names: tuple[str, ...]
    """The coefficients that were free."""
    objective: float
    """Mean Huber loss over δ: about the mean absolute error of log loss over 1e-4."""


@dataclass(frozen=True)
class _Problem:
    """A law's free coefficients, its points with their weights, and the middle about which they are told."""

    start: SupervisedLaw | DistillationLaw
    names: tuple[str, ...]
    points: Points
    weights_P: Floats | None = None
    """How often each point counts; None: once."""

    @property
    def _middle(self) -> tuple[float, float]:
        return float(np.log(self.points.N_P).mean()), float(np.log(self.points.D_P).mean())

    def vector(self, law: SupervisedLaw | DistillationLaw) -> Floats:
        """What the optimizer moves, of a law."""
        free = law.free(self.names)
        for power, scale, middle in zip(("alpha", "beta"), ("A", "B"), self._middle, strict=True):
            if scale in self.names:
                free[self.names.index(scale)] -= getattr(law, power) * middle
        return free

    def law(self, vector_K: Floats) -> SupervisedLaw | DistillationLaw:
        """The law of a vector."""
        return self.start.moved(self.names, self._free(vector_K))

    def _free(self, vector_K: Floats) -> Floats:
        free = np.array(vector_K)
        for power, scale, middle in zip(("alpha", "beta"), ("A", "B"), self._middle, strict=True):
            if scale in self.names:
                exponent = np.exp(free[self.names.index(power)]) if power in self.names else getattr(self.start, power)
                free[self.names.index(scale)] += exponent * middle
        return free

    def objective(self, delta: float, anchor_K: Floats) -> Objective:
        """Mean Huber loss of log loss over δ = 1e-4, and its gradient."""
        points, columns = self.points, [self.start.names().index(name) for name in self.names]
        log_P = np.log(points.loss_P)
        weights_P = np.ones(len(points)) if self.weights_P is None else self.weights_P
        weights_P = weights_P / weights_P.sum() / DELTA
        chained = [
            (self.names.index(power), self.names.index(scale), middle)
            for power, scale, middle in zip(("alpha", "beta"), ("A", "B"), self._middle, strict=True)
            if power in self.names and scale in self.names
        ]

        def value(vector_K: Floats) -> tuple[float, Floats]:
            law = self.law(vector_K)
            if isinstance(law, DistillationLaw):
                found_P, slopes_PK = law.with_gradient(points.N_P, points.D_P, points.teacher_P)
            else:
                found_P, slopes_PK = law.with_gradient(points.N_P, points.D_P)
            found_P = np.maximum(found_P, 1e-3)
            error_P = np.log(found_P) - log_P
            size_P = np.abs(error_P)
            cost = weights_P @ np.where(size_P < delta, error_P**2 / (2 * delta), size_P - delta / 2)
            slope_K = (weights_P * np.clip(error_P / delta, -1, 1) / found_P) @ slopes_PK[:, columns]
            for power, scale, middle in chained:
                slope_K[power] += slope_K[scale] * np.exp(vector_K[power]) * middle
            away_K = vector_K - anchor_K
            return float(cost + _TETHER * away_K @ away_K), slope_K + 2 * _TETHER * away_K

        return value

    def descend(self, law: SupervisedLaw | DistillationLaw, deltas: Sequence[float], most: int = 400) -> Fit:
        """The law that is reached from this one, Huber's δ becoming smaller as in ``deltas``; ``most`` steps each."""
        bounds = [LIMITS[name] for name in self.names]
        low_K, high_K = np.array(bounds).T
        anchor_K = vector_K = np.clip(self.vector(law), low_K, high_K)
        value = np.inf
        for delta in deltas:
            found = minimize(
                self.objective(delta, anchor_K), vector_K, jac=True, method="L-BFGS-B", bounds=bounds,
                options={"maxiter": most, "maxcor": 20, "ftol": 1e-9, "gtol": 1e-4},
            )  # fmt: skip
            vector_K, value = found.x, float(found.fun)
        return Fit(self.law(vector_K), self.names, value)

    def descend_held(self, name: str, value: float) -> Fit:
        """The law that is reached with one coefficient moved and held; its partner first makes up for it."""
        law = replace(self.start, **{name: value})
        for power, scale, middle in zip(("alpha", "beta"), ("A", "B"), self._middle, strict=True):
            if name == power:
                moved = getattr(law, scale) * np.exp((value - getattr(self.start, power)) * middle)
                law = replace(law, **{scale: float(moved)})
            elif name == scale:
                moved = getattr(law, power) + np.log(value / getattr(self.start, scale)) / middle
                law = replace(law, **{power: max(float(moved), 0.03)})
        return replace(self, start=law).descend(law, _COARSE[1:], 200)

    def best(self, deltas: Sequence[float] = _COARSE, starts: int = len(_STARTS)) -> Fit:
        """The best law over the grid of starts, the first one being the problem's own."""
        laws = [self.start, *(self._started(*start) for start in _STARTS[:starts])]
        coarse = sorted((self.descend(law, deltas[:1]) for law in laws), key=lambda fit: fit.objective)
        return min((self.descend(fit.law, deltas[1:]) for fit in coarse[:3]), key=lambda fit: fit.objective)

    def _started(self, term: float, power: float, gamma: float) -> SupervisedLaw | DistillationLaw:
        vector_K = self.vector(self.start)
        values = {"A": term, "B": term, "alpha": np.log(power), "beta": np.log(power), "gamma": np.log(gamma)}
        if "E" in self.names:
            values["E"] = np.log(0.6 * float(self.points.loss_P.min()))
        for name, number in values.items():
            if name in self.names:
                vector_K[self.names.index(name)] = number
        return self.law(vector_K)


def free_names(form: Form) -> tuple[str, ...]:
    """Coefficients that a fit of this form of the distillation law moves."""
    return tuple(name for name in DistillationLaw.names() if form == "recovery" or name != "recovery")


def fit_supervised(points: Points, start: SupervisedLaw | None = None, weights_P: Floats | None = None) -> Fit:
    """The supervised law of students of hard labels; from ``start`` alone where one is given."""
    return _fit(_Problem(start or BUSBRIDGE_2025.supervised, SupervisedLaw.names(), points, weights_P), start)


def fit_distilled(
    points: Points,
    supervised: SupervisedLaw,
    form: Form,
    start: DistillationLaw | None = None,
    weights_P: Floats | None = None,
) -> Fit:
    """The distillation law of students of teachers; from ``start`` alone where one is given."""
    kept = 0.05 if form == "recovery" else 0.0
    law = replace(start or replace(BUSBRIDGE_2025, recovery=kept), supervised=supervised)
    return _fit(_Problem(law, free_names(form), points, weights_P), None if start is None else law)


def _fit(problem: _Problem, start: SupervisedLaw | DistillationLaw | None) -> Fit:
    """From the grid without a start; from it in full, or, for resampled points, in few steps."""
    if start is None:
        return problem.best()
    is_resample = problem.weights_P is not None
    return problem.descend(start, _COARSE[1:], _AGAIN) if is_resample else problem.descend(start, _COARSE)


def law_losses(law: SupervisedLaw | DistillationLaw, points: Points) -> Floats:
    """The law's losses of the points, (P,): of the distillation law those of distilled students."""
    if isinstance(law, DistillationLaw):
        return law.loss(points.N_P, points.D_P, points.teacher_P)
    return law.loss(points.N_P, points.D_P)


def log_errors(law: SupervisedLaw | DistillationLaw, points: Points) -> Floats:
    """log(measured / predicted), (P,)."""
    return np.log(points.loss_P) - np.log(np.maximum(law_losses(law, points), 1e-3))


def relative_error(law: SupervisedLaw | DistillationLaw, points: Points) -> float:
    """Mean of |predicted - measured| / measured."""
    return float(np.mean(np.abs(law_losses(law, points) - points.loss_P) / points.loss_P))


def folds(points: Points) -> NDArray[np.intp]:
    """The fold of every point, (P,): one for each size where there are three or more, else five at random."""
    sizes, size_P = np.unique(points.N_P, return_inverse=True)
    if len(sizes) >= 3:
        return size_P
    return np.random.default_rng(0).permutation(np.arange(len(points)) % 5)


def held_out_errors(points: Points, fit: Callable[[Points], SupervisedLaw | DistillationLaw]) -> Floats:
    """log(measured / predicted) of every point by a law fitted without its fold, (P,)."""
    fold_P = folds(points)
    errors_P = np.zeros(len(points))
    for fold in np.unique(fold_P):
        law = fit(points.where(fold_P != fold))
        errors_P[fold_P == fold] = log_errors(law, points.where(fold_P == fold))
    return errors_P


@dataclass(frozen=True)
class _Resample:
    """A fit of resampled points, for a process of its own."""

    points: Points
    supervised: SupervisedLaw
    law: DistillationLaw | None
    form: Form
    seed: int

    def __call__(self, resample: int) -> tuple[list[float], list[float]]:
        rng = np.random.default_rng([self.seed, resample])
        supervised, hard = self.supervised, self.points.hard
        if len(hard):
            supervised = fit_supervised(hard, supervised, _counts(rng, hard)).law
            assert isinstance(supervised, SupervisedLaw)
        if self.law is None:
            return list(supervised.coefficients().values()), []
        taught = self.points.distilled
        law = fit_distilled(taught, supervised, self.form, self.law, _counts(rng, taught)).law
        return list(supervised.coefficients().values()), list(law.coefficients().values())


def _counts(rng: np.random.Generator, points: Points) -> Floats:
    return rng.multinomial(len(points), np.full(len(points), 1 / len(points))).astype(np.float64)


def bootstrap(
    points: Points,
    supervised: SupervisedLaw,
    law: DistillationLaw | None,
    form: Form,
    *,
    resamples: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
) -> tuple[Floats, Floats]:
    """Coefficients of both laws on resampled points: (R, 6), and (R, 10) or (R, 0) where there is no second law.

    A supervised law without points of its own stays what it is.
    """
    task, jobs = _Resample(points, supervised, law, form, seed), jobs or num_cores()
    if jobs == 1 or resamples < 100:
        found = [task(number) for number in range(resamples)]
    else:
        spawn = multiprocessing.get_context("spawn")
        with one_thread_for_children(), ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
            found = list(pool.map(task, range(resamples), chunksize=max(1, resamples // (8 * jobs))))
    return np.array([first for first, _ in found]), np.array([second for _, second in found])


def profile(fit: Fit, points: Points, name: str, values: Sequence[float]) -> Floats:
    """The objective with one coefficient held at each of ``values`` and the others fitted anew."""
    names = tuple(other for other in fit.names if other != name)
    problem, found = _Problem(fit.law, names, points), []
    for value in values:
        found.append(problem.descend_held(name, float(value)).objective)
    return np.array(found)


def check_enough(points: Points, *, needs_hard: bool) -> None:
    """Refuses points that no law can be fitted on, with what is missing."""
    hard, taught = points.hard, points.distilled
    if needs_hard and len(hard) < 8:
        raise UserError(
            f"points: {len(hard)} students of hard labels, expected at least 8 for the supervised law; "
            "add some, or take a supervised law that is known with --supervised busbridge-2025."
        )
    if 0 < len(taught) < 12 or not len(points):
        raise UserError(f"points: {len(taught)} distilled students, expected at least 12; train more pilots.")
    for group, part in (("hard-label", hard if needs_hard else None), ("distilled", taught)):
        for title, values in (("size", part and part.N_P), ("number of tokens", part and part.D_P)):
            if part is not None and len(part) and len(np.unique(np.asarray(values))) < 2:
                raise UserError(f"points: all {group} students have one {title}, expected two or more; vary it.")
    if len(taught) and len(np.unique(taught.teacher_P)) < 2:
        raise UserError(
            "points: all distilled students have one teacher's loss, expected two or more; vary the teacher."
        )
    if len(taught) and (taught.loss_P < 0.98 * taught.teacher_P).all():
        raise UserError(
            "points: every student is better than its teacher, expected most to be worse; are the columns exchanged, "
            "or is one in bits?"
        )
