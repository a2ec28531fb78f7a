"""Suites one after the other, without files."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from stillroom.evaluation import EvaluationConfig, Material, find_suite, sample
from stillroom.results.json_form import Json, as_json


def measured(
    model: PreTrainedModel, config: EvaluationConfig, material: Material, progress: Any = None
) -> tuple[dict[str, Any], list[Json]]:
    """The parts of an evaluation and the samples, as their files hold them."""
    parts, samples = {}, []
    for suite in map(find_suite, config.suites):
        found = suite.measure(model, suite.config_in(config), material, sample, progress)
        parts |= as_json(found.parts)
        samples += as_json(list(found.samples))
    return parts, samples
