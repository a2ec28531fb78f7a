"""A law as it is kept: coefficients, draws for its intervals, its errors, its reach and its points. One JSON file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.files import read_json_object, shaped, write_json
from stillroom.laws.coefficients import coefficient_intervals, distilled_told, drawn_told, supervised_told
from stillroom.laws.forms import DistillationLaw, Floats, SupervisedLaw
from stillroom.laws.points import Model, Points
from stillroom.laws.presets import BUSBRIDGE_2025, REACH, Reach, preset_draws
from stillroom.results.json_form import as_json
from stillroom.results.schema import MeasuredOn
from stillroom.types import Estimate, UserError

PRESET = "busbridge-2025"
_WANTED = "a law of stillroom forecast fit, or the name busbridge-2025"
_PRESET_NOISE = (-0.0078, -0.0051, -0.0034, -0.0011, 0.0002, 0.0013, 0.0023, 0.0032, 0.0045, 0.0052, 0.006, 0.0067,
                 0.0074, 0.0087, 0.0108, 0.0129, 0.0174, 0.0202, 0.0303, 0.0326, 0.0511)  # fmt: skip
"""Quantiles (1/42, 3/42, ..., 41/42) of log(measured / predicted) on the paper's 354 digitised students."""


@dataclass(frozen=True)
class Errors:
    """Mean relative errors of one form: on the points it was fitted on, and on those of sizes that were left out."""

    form: str
    fitted: float
    held_out: float


@dataclass(frozen=True)
class Profile:
    """The objective of a fit with one coefficient held at each of some values and the others fitted anew."""

    name: str
    values: tuple[float, ...]
    objective: tuple[float, ...]


@dataclass(frozen=True)
class Law:
    """A law ready for forecasts. R draws; ``noise`` are log(measured / predicted) of students that were left out."""

    name: str
    supervised: SupervisedLaw
    distilled: DistillationLaw | None
    supervised_draws: Floats
    """(R, 6), columns in the order of ``SupervisedLaw.names()``."""
    distilled_draws: Floats
    """(R, 10), or (R, 0) where there is no distillation law."""
    hard_noise: Floats
    distilled_noise: Floats
    reach: Reach
    model: Model
    bytes_per_label: float
    points: Points | None = None
    errors: tuple[Errors, ...] = ()
    """Of the forms that were compared."""
    sentences: tuple[str, ...] = ()
    """What the fit says of itself: form, errors, coefficients that it cannot tell apart."""
    profiles: tuple[Profile, ...] = ()
    measured_on: MeasuredOn | None = None
    """What its losses are of; None where nothing says it."""

    def drawn(self) -> tuple[SupervisedLaw, DistillationLaw | None]:
        """Both laws with arrays (R, 1) of draws as their coefficients."""
        hard = SupervisedLaw.of_draws(self.supervised_draws)
        return hard, None if self.distilled is None else DistillationLaw.of_draws(self.distilled_draws, hard)

    def taught(self) -> DistillationLaw:
        """The distillation law; ``UserError`` where the fit had no distilled students."""
        if self.distilled is None:
            raise UserError(f"{self.name}: says nothing of distilled students, expected pilots with some; fit it anew.")
        return self.distilled

    def intervals(self) -> dict[str, Estimate]:
        """Every coefficient with its 95 % interval; the distillation law's own have a prime.

        By the points that the law was fitted on (``coefficient_intervals``); by the draws where there are none.
        """
        found = self._by_draws()
        if self.points is None:
            return found
        hard = self.points.hard
        if len(self.hard_noise) == len(hard) > 1:  # it was fitted on these, and not taken from another law
            base = supervised_told(self.supervised, hard)
            found |= coefficient_intervals(self.supervised, base)
        else:
            base = drawn_told(self.supervised_draws)
        if self.distilled is not None:
            told = distilled_told(self.distilled, self.points.distilled, base)
            own = coefficient_intervals(self.distilled, told)
            found |= {name + ("'" if name in SupervisedLaw.names() else ""): one for name, one in own.items()}
        return found

    def _by_draws(self) -> dict[str, Estimate]:
        found = {}
        pairs = [(self.supervised, self.supervised_draws, "")]
        pairs += [(self.distilled, self.distilled_draws, "'")] if self.distilled is not None else []
        for law, draws_RK, mark in pairs:
            for column, (name, value) in zip(draws_RK.T, law.coefficients().items(), strict=True):
                low, high = np.quantile(column, [0.025, 0.975])
                prime = mark if name in SupervisedLaw.names() else ""
                found[name + prime] = Estimate(float(value), float(low), float(high), len(column))
        return found

    def save(self, path: Path) -> None:
        """Writes the file, which appears complete or not at all."""
        values: dict[str, Any] = {
            "kind": "law", "name": self.name, "supervised": _plain(self.supervised.coefficients()),
            "distilled": None if self.distilled is None else _plain(self.distilled.coefficients()),
            "reach": asdict(self.reach), "model": asdict(self.model), "bytes_per_label": self.bytes_per_label,
            "errors": [asdict(one) for one in self.errors], "sentences": self.sentences,
            "profiles": [asdict(one) for one in self.profiles],
            "points": None if self.points is None else _rows(self.points),
            "measured_on": None if self.measured_on is None else as_json(self.measured_on),
        }  # fmt: skip
        for name in ("supervised_draws", "distilled_draws", "hard_noise", "distilled_noise"):
            values[name] = _short(getattr(self, name))
        write_json(path, values)


def _plain(coefficients: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in coefficients.items()}


def _short(values: Floats) -> list[Any]:
    return np.array([float(f"{value:.6g}") for value in values.ravel()]).reshape(values.shape).tolist()


def _rows(points: Points) -> list[list[float | str | None]]:
    columns = (points.N_P, points.D_P, points.teacher_P, points.loss_P, points.names_P)
    return [
        [float(n), float(d), None if math.isnan(t) else float(t), float(loss), name]
        for n, d, t, loss, name in zip(*columns, strict=True)
    ]


def published_law() -> Law:
    """The published law of Busbridge et al. 2025 with its intervals, its errors and its reach."""
    hard, taught = preset_draws()
    return Law(
        PRESET, BUSBRIDGE_2025.supervised, BUSBRIDGE_2025, hard, taught, np.zeros(1), np.array(_PRESET_NOISE), REACH,
        Model(vocabulary=32_168, context=4096, width_per_layer=128.0), bytes_per_label=36.0,
        sentences=("Published coefficients for C4 (Busbridge et al. 2025); not valid for other text or vocabularies.",),
    )  # fmt: skip


def load_law(name: str) -> Law:
    """The preset by its name, or the law of a file or of the folder that holds it.

    Raises:
        UserError: there is none, or the file does not hold a law.
    """
    if name == PRESET:
        return published_law()
    path = Path(name) / "law.json" if Path(name).is_dir() else Path(name)
    values: dict[str, Any] = read_json_object(path, _WANTED)
    if values.get("kind") != "law":
        raise UserError(f"{path}: is no law, expected {_WANTED}.")
    with shaped(path, _WANTED):
        supervised = SupervisedLaw(**values["supervised"])
        arrays = {
            key: np.array(values[key], dtype=np.float64)
            for key in ("supervised_draws", "distilled_draws", "hard_noise", "distilled_noise")
        }
        rows = values["points"]
        columns = np.array([[np.nan if cell is None else cell for cell in row[:4]] for row in rows or []], float).T
        reach = Reach(**{key: (float(ends[0]), float(ends[1])) for key, ends in values["reach"].items()})
        return Law(
            name=values["name"],
            supervised=supervised,
            distilled=None if values["distilled"] is None else DistillationLaw(supervised, **values["distilled"]),
            **arrays,
            reach=reach,
            model=Model(**values["model"]),
            bytes_per_label=float(values["bytes_per_label"]),
            points=None if not rows else Points(*columns, names_P=tuple(row[4] for row in rows)),
            errors=tuple(Errors(**one) for one in values["errors"]),
            sentences=tuple(values["sentences"]),
            measured_on=MeasuredOn(**values["measured_on"]) if values.get("measured_on") else None,
            profiles=tuple(
                Profile(one["name"], tuple(one["values"]), tuple(one["objective"])) for one in values["profiles"]
            ),
        )
