"""What is not finite in a run ends it in a sentence that names the step and the cause; nothing of it is saved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import engine
import pytest
import torch

from stillroom.config import ObjectiveConfig
from stillroom.models import build_model, unembedding
from stillroom.teachers import LiveTeacher
from stillroom.training import DivergedError, TrainingData, train
from stillroom.training import loop as loop_module
from stillroom.training.checkpoint import found, load_tensors
from stillroom.training.finite import all_finite, teacher_is_finite
from stillroom.training.metrics import MetricsLog
from stillroom.types import Batch, UserError

NAN, INF = float("nan"), float("inf")


def trained(folder: Path, *, labels: object = None, damage: float | None = None, **changes: Any) -> torch.nn.Module:
    """A tiny model after training; ``damage`` is put into one of its weights before."""
    model = build_model(engine.MODEL, engine.VOCAB, 0)
    if damage is not None:
        with torch.no_grad():
            model.base_model.layers[0].mlp.up_proj.weight[3, 5] = damage  # type: ignore[union-attr,index,operator]
    data = TrainingData(engine.sequence_set(96, 1), engine.sequence_set(16, 2), labels)  # type: ignore[arg-type]
    objective = ObjectiveConfig(alpha=0.5 if labels is not None else 0.0)
    train(model, data, engine.training_config(**changes), objective, folder, precision_name="fp32")
    return model


def records(folder: Path) -> list[dict[str, Any]]:
    """The metrics, read by a reader that knows no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def checkpoints_are_finite(folder: Path) -> bool:
    return all(all_finite(load_tensors(path, "").values()) for path in found(folder / "checkpoints"))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_rate_that_no_weight_can_hold_is_refused(tmp_path, optimizer):
    rates = {"learning_rate": 1e300, "muon_learning_rate": 1e300}
    with pytest.raises(UserError, match=r"training\.learning_rate: a rate of 1e\+300"):
        trained(tmp_path, steps=1, optimizer=optimizer, warmup=0.0, **rates)
    assert found(tmp_path / "checkpoints") == [] and records(tmp_path) == []


@pytest.mark.parametrize("steps", [1, 4])
def test_the_update_of_the_last_step_is_looked_at(tmp_path, monkeypatch, steps):
    break_update(monkeypatch, steps)
    with pytest.raises(DivergedError, match=rf"step {steps}: the weights .* not finite.*lower training\.learning_rate"):
        trained(tmp_path, steps=steps)
    assert found(tmp_path / "checkpoints") == []
    assert all(record["ce"] is None for record in records(tmp_path) if record["kind"] == "validation")


def break_update(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The update of a step leaves infinities in the weights."""
    real, steps = loop_module.set_learning_rate, iter(range(1, 1000))

    def breaking(optimizers: Any, factor: float) -> None:
        real(optimizers, factor)
        if next(steps) == step:
            for group in optimizers[0].param_groups:
                group["lr"] = 1e300

    monkeypatch.setattr(loop_module, "set_learning_rate", breaking)


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
@pytest.mark.parametrize("every", [1, 3, 100])
def test_checkpoints_hold_finite_states_alone(tmp_path, monkeypatch, every, non_finite):
    """The update of step 5 breaks the weights, whenever checkpoints are written and whatever is left out."""
    break_update(monkeypatch, 5)
    with pytest.raises(DivergedError, match=r"step 5: the weights .*not finite"):
        trained(tmp_path, checkpoint_steps=every, non_finite=non_finite)
    assert checkpoints_are_finite(tmp_path)
    names = [path.name for path in found(tmp_path / "checkpoints")]
    assert names == {1: ["step-00000003", "step-00000004"], 3: ["step-00000003"], 100: []}[every]
    records(tmp_path)
    monkeypatch.undo()
    trained(tmp_path, checkpoint_steps=every)  # from the newest checkpoint on
    assert [record["step"] for record in records(tmp_path) if record["kind"] == "train"] == list(range(1, 13))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("non_finite", ["stop", "skip"])
def test_a_model_that_is_not_finite_is_not_trained(tmp_path, value, non_finite):
    with pytest.raises(DivergedError, match=r"step 0: the weights that training starts from are not finite"):
        trained(tmp_path, damage=value, non_finite=non_finite)
    assert found(tmp_path / "checkpoints") == []


def broken_teacher(value: float) -> LiveTeacher:
    teacher = build_model(engine.MODEL, engine.VOCAB, 7)
    with torch.no_grad():
        unembedding(teacher)[0][11, 2] = value
    return LiveTeacher(teacher)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_live_teacher_that_is_not_finite_is_named_at_the_step(tmp_path, value):
    wanted = r"step 1: .*as the scores of the teacher are not finite.*check the teacher's weights"
    with pytest.raises(DivergedError, match=wanted) as error:
        trained(tmp_path, labels=broken_teacher(value))
    assert "learning_rate" not in str(error.value)
    assert checkpoints_are_finite(tmp_path)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_run_that_leaves_every_step_out_is_not_finished(tmp_path, value):
    with pytest.raises(DivergedError, match=r"every step from 1 on was left out"):
        trained(tmp_path, labels=broken_teacher(value), non_finite="skip")
    skipped = [record for record in records(tmp_path) if record["kind"] == "skipped"]
    assert len(skipped) == 12
    for record in skipped:
        assert record["loss"] is None and "loss" in record["reason"] and record["teacher"] == "not finite"


def test_stored_labels_that_are_not_finite_are_named(tmp_path):
    class Labels:
        def labels(self, batch: Batch) -> object:
            labels = engine.PairLabels().labels(batch)
            labels.weights[0, 0] = NAN
            return labels

    with pytest.raises(DivergedError, match=r"step 1: .*the scores of the teacher are not finite"):
        trained(tmp_path, labels=Labels())


def test_a_student_that_is_not_finite_does_not_blame_the_teacher(tmp_path):
    with pytest.raises(DivergedError) as error:
        trained(tmp_path, labels=engine.training_data(live=True).labels, learning_rate=1e25, warmup=0.0)
    assert "teacher" not in str(error.value) and "learning_rate" in str(error.value)


def test_a_validation_that_is_not_finite_is_null_with_a_reason_and_the_last_one_ends_the_run(tmp_path, monkeypatch):
    answers = iter([1.5, NAN, 2.5, INF])
    monkeypatch.setattr(loop_module, "validate", lambda *_: next(answers))
    with pytest.raises(DivergedError, match=r"step 12: the cross-entropy of the held-out sequences is inf"):
        trained(tmp_path, validate_every=3)
    shown = [(one["ce"], one.get("reason")) for one in records(tmp_path) if one["kind"] == "validation"]
    assert shown == [(1.5, None), (None, "not finite: ce"), (2.5, None), (None, "not finite: ce")]


def test_a_tracker_hears_finite_numbers_alone(tmp_path):
    class Tracker:
        heard: list[dict[str, float]] = []

        def log(self, kind: str, step: int, values: dict[str, float]) -> None:
            self.heard.append(values)

        def close(self) -> None:
            """Nothing to be done."""

    log = MetricsLog(tmp_path / "metrics.jsonl", Tracker())
    log.write("skipped", 3, {"loss": NAN, "gradient_norm": INF, "alpha": 0.5, "sequences": [1]})
    log.close()
    assert Tracker.heard == [{"alpha": 0.5}]
    (record,) = records(tmp_path)
    assert record["loss"] is None and record["reason"] == "not finite: loss, gradient_norm"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_means_no_nan_and_no_infinity_in_any_tensor(dtype):
    good = [torch.zeros(3, dtype=dtype), torch.full((2, 2), float(torch.finfo(dtype).max), dtype=dtype)]
    assert all_finite([*good, torch.tensor([1, 2])]) and all_finite([])
    for value in (NAN, INF, -INF):
        assert not all_finite([*good, torch.tensor([0.0, value], dtype=dtype)])


def test_a_teacher_may_hold_single_tokens_for_impossible():
    live = engine.training_data(live=True).labels
    assert isinstance(live, LiveTeacher)
    logits = live.labels(engine.sequence_set(4, 1).batch([0, 1]))
    assert teacher_is_finite(logits) and teacher_is_finite(None)
    bias_V = torch.zeros(engine.VOCAB)
    bias_V[3] = -math.inf
    from dataclasses import replace

    assert teacher_is_finite(replace(logits, bias_V=bias_V))
    assert not teacher_is_finite(replace(logits, bias_V=bias_V - math.inf))
    assert not teacher_is_finite(replace(logits, bias_V=-bias_V))
