"""Files of the sandboxes and of rankings are called on disk what they always were, and come back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillroom.results.bigram_file import ArmCell, BigramPasses, BigramTheory, GradientCell, RatioCell, TransformerCell
from stillroom.results.json_form import as_json, from_json
from stillroom.results.ranking_file import Capacity
from stillroom.results.recall_file import RecallProbe, Spread
from stillroom.types import UserError

HIGH = {"high": 0.25, "low": 0.5}
POINT = {"value": 0.5, "low": 0.25, "high": 0.75, "num": 3}
FILES = {
    "an arm's cell": (
        ArmCell,
        {"tv": [HIGH], "kl": [HIGH], "pass": [{"high": [0.1, 0.2], "low": [0.5, 0.5]}], "floor": HIGH,
         "predicted": HIGH},
    ),
    "an arm's cell of another seed": (ArmCell, {"tv": [HIGH], "kl": [HIGH], "pass": [], "floor": {"high": 0.0}}),
    "theory": (BigramTheory, {"samples": [10, 100], "arms": {"SPT": {"tv": {"high": [0.5, 0.1]}}}}),
    "the ratio's cell": (
        RatioCell,
        {"standard": [[100.5, 50.0]], "distilled": [70, 81], "standard_theory": [99.0, 51.0], "distilled_theory": 75.2},
    ),
    "arms learnt by gradient": (GradientCell, {"samples": [256, 512], "arms": {"SPT": {"tv": [HIGH], "kl": [HIGH]}}}),
    "pass@k": (
        BigramPasses,
        {"ks": [1], "arms": {"SPT": {"high": [[POINT]]}}, "references": {"best": {"high": [0.4]}}},
    ),
    "a mean of which one seed is known": (Spread, {"value": 0.5, "low": None, "high": None, "num": 1, "of": 3}),
    "where a law breaks": (Capacity, POINT | {"break": 1.315, "side": "below"}),
    "a probe": (
        RecallProbe,
        {"step": 1, "tokens": 64, "copy_accuracy": None, "copy_loss": 2.5, "loss": 2.5, "kl": 0.5, "kl_high": 0.5,
         "kl_low": None, "kl_first": None, "over_copying": -0.1, "calibration_error": 0.25,
         "previous_token": [[0.5, 0.1]], "prefix_matching": [[0.25, 0.5]]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), FILES.values(), ids=FILES)
def test_what_is_read_is_written_as_it_was(kind: type, value: dict) -> None:
    assert json.dumps(as_json(from_json(kind, value, Path("x.json")))) == json.dumps(value)


def test_what_a_cell_of_a_transformer_holds_besides_is_passed_over() -> None:
    value = {"samples": [64], "tv": [HIGH], "kl": [HIGH], "validation_ce": 2.0, "seconds": 3.0}
    assert from_json(TransformerCell, value, Path("x.json")) == TransformerCell(samples=(64,), tv=(HIGH,), kl=(HIGH,))


def test_a_part_that_is_missing_is_named_as_the_file_calls_it() -> None:
    with pytest.raises(UserError, match=r"x\.json: pass does not fit \(field required\)"):
        from_json(ArmCell, {"tv": [], "kl": [], "floor": {}}, Path("x.json"))
