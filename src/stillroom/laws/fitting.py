"""From pilots to a law: both forms fitted, the one kept that errs less on sizes left out, and its draws.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from stillroom.laws.fits import (
    FORMS,
    Fit,
    Form,
    bootstrap,
    check_enough,
    fit_distilled,
    fit_supervised,
    free_names,
    held_out_errors,
    log_errors,
    profile,
    relative_error,
)
from stillroom.laws.forms import DistillationLaw, Floats, SupervisedLaw
from stillroom.laws.law_file import PRESET, Errors, Law, Profile, published_law
from stillroom.laws.points import Pilots, Points, what_differs
from stillroom.laws.presets import Reach
from stillroom.types import UserError


def fit_law(
    name: str,
    pilots: Pilots,
    supervised: Law | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
) -> Law:
    """The law of some pilots: both forms fitted, the one kept that errs less on sizes left out, and its bootstrap.

    ``supervised`` is where the supervised law is from, where the pilots have no students of hard labels.
    """
    points = pilots.points
    if supervised is not None and (apart := what_differs(pilots.measured_on, supervised.measured_on)) != "":
        raise UserError(
            f"--supervised {supervised.name}: is a law of another {apart} than the pilots', so that losses cannot be "
            "compared; fit it on runs of their corpus."
        )
    check_enough(points, needs_hard=supervised is None)
    hard, taught = points.hard, points.distilled
    base = fit_supervised(hard).law if supervised is None else supervised.supervised
    assert isinstance(base, SupervisedLaw)
    hard_noise = (
        np.zeros(1) if supervised is not None else held_out_errors(hard, lambda some: fit_supervised(some, base).law)
    )
    law, noise_P, errors, form = None, np.zeros(0), [], FORMS[0]
    if len(taught):
        law, noise_P, errors, form = _better_form(taught, base)
    mine = points if supervised is None else taught
    draws = bootstrap(mine, base, law, form, resamples=resamples, seed=seed, jobs=jobs)
    if supervised is not None:
        draws = (supervised.supervised_draws[np.arange(resamples) % len(supervised.supervised_draws)], draws[1])
    if supervised is not None and supervised.name == PRESET:
        draws = (np.tile(list(base.coefficients().values()), (resamples, 1)), draws[1])
    fitted = Law(
        name, base, law, *draws, hard_noise, noise_P, _reach(points), pilots.model or published_law().model,
        pilots.bytes_per_label or published_law().bytes_per_label, points, tuple(errors),
        measured_on=pilots.measured_on,
    )  # fmt: skip
    profiles = tuple(_profiles(fitted, form, own_hard=supervised is None))
    return replace(fitted, sentences=tuple(_sentences(fitted, form, supervised)), profiles=profiles)


def _profiles(law: Law, form: Form, *, own_hard: bool) -> Iterator[Profile]:
    """The profile of every coefficient that was fitted, over the quantiles of its draws."""
    assert law.points is not None
    hard = (law.supervised, law.points.hard, law.supervised_draws, SupervisedLaw.names(), "")
    taught = (law.distilled, law.points.distilled, law.distilled_draws, free_names(form), "'")
    groups = ([hard] if own_hard else []) + ([taught] if law.distilled is not None else [])
    for one, points, draws_RK, names, mark in groups:
        assert one is not None
        for name in names:
            column = draws_RK[:, one.names().index(name)]
            values = [*np.quantile(column, [0.025, 0.25, 0.75, 0.975]).tolist(), getattr(one, name)]
            found = profile(Fit(one, names, 0.0), points, name, sorted(values))
            prime = mark if name in SupervisedLaw.names() else ""
            yield Profile(name + prime, tuple(sorted(values)), tuple(found.tolist()))


def _better_form(taught: Points, base: SupervisedLaw) -> tuple[DistillationLaw, Floats, list[Errors], Form]:
    found = []
    for form in FORMS:
        law = fit_distilled(taught, base, form).law
        assert isinstance(law, DistillationLaw)
        noise_P = held_out_errors(taught, lambda some, law=law, form=form: fit_distilled(some, base, form, law).law)
        held = float(np.mean(np.abs(np.expm1(-noise_P))))
        found.append((law, noise_P, Errors(form, relative_error(law, taught), held), form))
    law, noise_P, _, form = min(found, key=lambda one: one[2].held_out)
    return law, noise_P, [one[2] for one in found], form


def _reach(points: Points) -> Reach:
    taught = points.distilled.teacher_P
    ends = [(float(values.min()), float(values.max())) for values in (points.N_P, points.D_P, taught) if len(values)]
    return Reach(ends[0], ends[1], ends[2] if len(ends) > 2 else (0.0, 0.0))


def _sentences(law: Law, form: Form, supervised: Law | None) -> list[str]:
    found = []
    if law.errors:
        kept = next(one for one in law.errors if one.form == form)
        other = next(one for one in law.errors if one.form != form)
        below = float(np.mean(law.points.distilled.loss_P < law.points.distilled.teacher_P)) if law.points else 0.0
        found.append(
            f"The {form} form is kept: on sizes left out it errs by {kept.held_out:.2%}, the {other.form} form by "
            f"{other.held_out:.2%}; {below:.1%} of the students are below their teacher's loss."
        )
    if supervised is not None:
        found.append(f"The supervised law is that of {supervised.name}; no hard-label student was fitted.")
    elif law.points is not None:
        error = float(np.mean(np.abs(log_errors(law.supervised, law.points.hard))))
        found.append(f"The supervised law errs by {error:.2%} on its {len(law.points.hard)} students.")
    found += identifiability(law)
    return found


def identifiability(law: Law) -> list[str]:
    """Which coefficients the points do not tell from each other, and which not at all, in sentences."""
    found = []
    groups = [("", law.supervised_draws, SupervisedLaw.names())]
    groups += [("'", law.distilled_draws, DistillationLaw.names())] if law.distilled is not None else []
    for mark, draws_RK, names in groups:
        titles = [name + (mark if name in SupervisedLaw.names() else "") for name in names]
        told = [k for k in range(len(names)) if np.ptp(draws_RK[:, k]) > 0]
        logs = {k: draws_RK[:, k] if names[k] == "c0" else np.log(np.maximum(draws_RK[:, k], 1e-300)) for k in told}
        loose = [titles[k] for k in told if np.ptp(np.quantile(logs[k], [0.025, 0.975])) > np.log(10.0)]
        tied = [
            f"{titles[a]} from {titles[b]}"
            for place, a in enumerate(told)
            for b in told[place + 1 :]
            if abs(np.corrcoef(logs[a], logs[b])[0, 1]) > 0.95
        ]
        if tied:
            found.append(f"These runs do not tell {', '.join(tied)} (their draws move together).")
        if loose:
            found.append(f"These runs leave {', '.join(loose)} open by more than a factor of ten.")
    return found
