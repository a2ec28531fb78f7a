"""Errors and times of the scaling laws on a table of finished students, beside plainer predictors.

    python benchmarks/laws.py POINTS.csv --largest 1.9e9 --resamples 1000

Laws are fitted on students below ``--largest`` parameters and asked for all others; the supervised law is published.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from stillroom.laws.fits import FORMS, bootstrap, fit_distilled, held_out_errors, relative_error
from stillroom.laws.forms import DistillationLaw, Floats
from stillroom.laws.points import Points, read_pilots
from stillroom.laws.presets import BUSBRIDGE_2025

HARD = BUSBRIDGE_2025.supervised


def features(points: Points) -> Floats:
    """Logarithms of size, tokens and teacher's loss, (P, 3)."""
    return np.log(np.stack([points.N_P, points.D_P, points.teacher_P], axis=1))


def power_law(known: Points, asked: Points) -> Floats:
    """A power law in tokens and teacher's loss for each size; of a size that is not known its nearest one's."""
    sizes = np.unique(known.N_P)
    found_P = np.zeros(len(asked))
    for place, (row, size) in enumerate(zip(features(asked), asked.N_P, strict=True)):
        near = known.where(sizes[np.argmin(np.abs(np.log(sizes / size)))] == known.N_P)
        table = np.column_stack([np.ones(len(near)), features(near)[:, 1:]])
        found_P[place] = np.array([1.0, *row[1:]]) @ np.linalg.lstsq(table, np.log(near.loss_P), rcond=None)[0]
    return np.exp(found_P)


def nearest(known: Points, asked: Points) -> Floats:
    """The loss of the nearest student in logarithms."""
    distance = ((features(asked)[:, None] - features(known)) ** 2).sum(axis=2)
    return known.loss_P[distance.argmin(axis=1)]


def errors(found_P: Floats, points: Points) -> dict[str, float]:
    """Mean relative error in percent by size, and over all."""
    error_P = 100 * np.abs(found_P - points.loss_P) / points.loss_P
    by_size = {f"{size:.3g}": round(float(error_P[size == points.N_P].mean()), 2) for size in np.unique(points.N_P)}
    return {"all": round(float(error_P.mean()), 2), **by_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", type=Path)
    parser.add_argument("--largest", type=float, default=1.9e9)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    points = read_pilots([options.points]).points.distilled
    known, asked = points.where(options.largest > points.N_P), points.where(options.largest <= points.N_P)
    law = None
    print(json.dumps({"published law": errors(BUSBRIDGE_2025.loss(points.N_P, points.D_P, points.teacher_P), points)}))
    for form in FORMS:
        start = time.perf_counter()
        whole, law = (fit_distilled(some, HARD, form).law for some in (points, known))
        assert isinstance(law, DistillationLaw)
        held = held_out_errors(known, lambda some, law=law, form=form: fit_distilled(some, HARD, form, law).law)
        report = {
            "form": form, "fitted on all": round(100 * relative_error(whole, points), 3),
            "sizes left out": round(100 * float(np.abs(held).mean()), 3),
            "larger": errors(law.loss(asked.N_P, asked.D_P, asked.teacher_P), asked),
            "seconds": round(time.perf_counter() - start, 1),
        }  # fmt: skip
        print(json.dumps(report))
    for predict in (power_law, nearest):
        print(json.dumps({predict.__name__: errors(predict(known, asked), asked)}))
    start = time.perf_counter()
    assert isinstance(law, DistillationLaw)
    bootstrap(points, HARD, law, FORMS[-1], resamples=options.resamples)
    print(json.dumps({"bootstrap": options.resamples, "seconds": round(time.perf_counter() - start, 1),
                      "processes": os.cpu_count()}))  # fmt: skip


if __name__ == "__main__":
    main()
