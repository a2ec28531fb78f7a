"""What is no study's folder, loaded as a run all the same: one training, a tuned teacher, evaluations side by side.

What such a folder does not tell, such as the parameters of a model that was only evaluated, is 0 or missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillroom.files import fingerprint, read_json_object, read_text, shaped
from stillroom.results.json_form import read, read_lines
from stillroom.results.runs import ModelRun, Run, loaded_model
from stillroom.results.schema import (
    Comparison,
    Environment,
    Evaluation,
    MetricsLine,
    ModelRecord,
    RoutingRecord,
    StudyRecord,
)
from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml

_EVALUATION_KEY = re.compile(r"-[0-9a-f]{8}$")
PAGES_OF_THEIR_OWN = {
    "sandbox.json": "a run of a sandbox",
    "ranking.json": "a ranking of teachers",
    "law.json": "a law",
}


def load_other(folder: Path) -> Run:
    """A folder that holds no ``study.json`` as a run.

    Raises:
        UserError: it is of a kind that has other pages, is under way, or is none.
    """
    for name, what in PAGES_OF_THEIR_OWN.items():
        if (folder / name).is_file():
            raise UserError(f"{folder}: is {what}, whose page is its own; name it alone.")
    kinds: dict[str, Callable[[Path], Run]] = {"result.json": _training, "evaluation.json": _evaluation}
    found = next((make for name, make in kinds.items() if (folder / name).is_file()), None)
    if found is not None:
        return found(folder)
    measured = sorted(file.parent for file in folder.glob("*/evaluation.json"))
    if measured := [one for one in measured if _EVALUATION_KEY.search(one.name)]:
        return _run(folder, [_measured(one) for one in measured])
    if (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder}: holds no study.json: it is under way and has no results yet; run its command again."
        )
    raise UserError(
        f"{folder}: is no run, for it holds none of study.json, result.json (one training), evaluation.json, "
        f"{', '.join(PAGES_OF_THEIR_OWN)}; give such a folder."
    )


def _run(folder: Path, models: list[ModelRun], config: str = "") -> Run:
    name = _EVALUATION_KEY.sub("", folder.resolve().name)
    mark = fingerprint([one.record.name for one in models], 8)
    study = StudyRecord(name=name, fingerprint=mark, models=tuple(one.record for one in models))
    compared = folder / "comparison.json"
    comparison = read(Comparison, compared) if compared.is_file() else None
    return Run(folder, study, tuple(models), config, Environment(), comparison=comparison)


def _evaluation(folder: Path) -> Run:
    return _run(folder, [_measured(folder)])


def _measured(folder: Path) -> ModelRun:
    """A model of which no more is known than what ``stillroom evaluate`` measured."""
    name = _EVALUATION_KEY.sub("", folder.resolve().name)
    record = ModelRecord(name=name, role="student", label=name, folder=".", parameters=0)
    return loaded_model(folder, record, read(Evaluation, folder / "evaluation.json"))


def _training(folder: Path) -> Run:
    """The folder of one training, or of a teacher that was tuned: metrics and what it took, nothing evaluated."""
    file = folder / "result.json"
    result: dict[str, Any] = read_json_object(file, "that of a finished training")
    path = folder / "config.yaml"
    values = read_yaml(path, "the configuration of a run") if path.is_file() else {}
    config: dict[str, Any] = values if isinstance(values, dict) else {}
    objective, name = config.get("objective") or {}, str(config.get("name", folder.resolve().name))
    alpha, routing = objective.get("alpha", 0.0), objective.get("routing")
    with shaped(file, "that of a finished training"):
        record = ModelRecord(
            name=name, role="student", label=name, folder=".",
            alpha=float(alpha) if isinstance(alpha, int | float) else 0.0,
            routing=None if not routing else RoutingRecord(rule=str(routing["rule"]), share=routing.get("share")),
            parameters=int(result.get("parameters", 0)), distinct_tokens=int(result.get("distinct_tokens", 0)),
            tokens=int(result.get("tokens", 0)), seconds=float(result.get("seconds", 0.0)),
        )  # fmt: skip
    text = read_text(path, "the configuration of a run") if path.is_file() else ""
    metrics = read_lines(MetricsLine, folder / "metrics.jsonl")
    return _run(folder, [loaded_model(folder, record, Evaluation(), metrics)], text)
