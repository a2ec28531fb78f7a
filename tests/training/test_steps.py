"""The step: what it reduces, what it does to a value that is not finite, and a curve that must not move."""

from __future__ import annotations

import json
import math
from pathlib import Path

import engine
import pytest
import torch
from torch import Tensor

from stillroom.config import ObjectiveConfig
from stillroom.costs import flops_per_token, size_of_model
from stillroom.files import read_json_lines
from stillroom.models import attention, build_model, use_short_attention
from stillroom.teachers import LiveTeacher, ModelScores
from stillroom.training import (
    DivergedError,
    StepSums,
    Student,
    build_optimizers,
    global_step,
    learning_rate_factor,
    num_steps,
)
from stillroom.training import loop as loop_module
from stillroom.training.checkpoint import found, load_tensors
from stillroom.training.mtp_heads import FurtherHeads
from stillroom.training.step import StepContext, split_batch
from stillroom.types import Batch, UserError

GOLDEN = Path(__file__).parent / "golden_50_steps.json"


def _gradient(size: int, objective: ObjectiveConfig, live: bool = False) -> tuple[dict[str, float], Tensor]:
    model = build_model(engine.MODEL, engine.VOCAB, 0)
    data = engine.training_data(live)
    micro_batches = split_batch(data.train.batch(range(8)), size)
    context = StepContext(objective, data.labels)
    student = Student(model, FurtherHeads(model, objective.heads - 1) if objective.heads > 1 else None)
    sums = global_step(student, micro_batches, context, objective, seed=0)
    gradients = [parameter.grad.flatten() for parameter in student.parameters() if parameter.grad is not None]
    return sums.means(), torch.cat(gradients)


@pytest.mark.parametrize("objective", list(engine.OBJECTIVES))
@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradient_does_not_depend_on_the_number_of_micro_batches(objective: str, size: int) -> None:
    live = objective == "reverse"
    means, gradient = _gradient(8, engine.OBJECTIVES[objective], live)
    split_means, split_gradient = _gradient(size, engine.OBJECTIVES[objective], live)
    torch.testing.assert_close(split_gradient, gradient, rtol=1e-4, atol=1e-7)
    assert split_means == pytest.approx(means, rel=1e-6)


def test_a_term_that_received_no_position_has_no_mean() -> None:
    sums = StepSums()
    sums.add("ce", torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    sums.add("ce", torch.tensor([5.0, 100.0]), torch.tensor([2.0, 0.0]))
    sums.add("forward_kl", torch.tensor([1.0]), torch.tensor([0.0]))
    assert sums.means() == {"ce": pytest.approx((1 + 3 + 10) / 4)}


def test_short_attention_equals_the_fused_one_within_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    real = attention.additive_mask
    data = engine.training_data()
    batch = data.train.batch(range(8))
    calls = []
    monkeypatch.setattr(attention, "additive_mask", lambda *arguments: calls.append(1) or real(*arguments))
    gradients = []
    for short in (False, True):
        model = build_model(engine.MODEL.model_copy(update={"num_kv_heads": 1}), engine.VOCAB, 0)
        if short:
            use_short_attention(model)
            assert model.config._attn_implementation == "stillroom-short"
        context = StepContext(ObjectiveConfig(), precision_name="bf16")
        loss = global_step(Student(model), [batch], context, ObjectiveConfig(), seed=0).means()["loss"]
        gradients.append((loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    assert len(calls) == engine.MODEL.num_layers  # it was used, in every block of the second model
    (fused_loss, fused), (short_loss, ours) = gradients
    assert short_loss == pytest.approx(fused_loss, rel=1e-4)
    assert float((ours - fused).norm() / fused.norm()) < 0.02  # bfloat16 keeps 8 bits


def test_a_teacher_read_with_short_attention_says_the_same_within_bf16() -> None:
    batch = engine.training_data().train.batch(range(8))
    logprobs = []
    for short in (False, True):
        model = build_model(engine.MODEL.model_copy(update={"num_kv_heads": 1}), engine.VOCAB, 0).eval()
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(20)  # a teacher that is sure of something
        if short:
            use_short_attention(model)
        scores = ModelScores(model, engine.VOCAB, isolate=True, precision="bf16")
        logprobs.append(torch.cat(list(scores.chunks(batch))).float().log_softmax(-1))
    fused, ours = logprobs
    assert float(fused.exp().amax(-1).mean()) > 0.3
    kl_N = (fused.exp() * (fused - ours)).sum(-1)
    assert float(kl_N.mean()) < 2e-3  # nats; both round scores to eight bits
    assert not torch.equal(fused, ours)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1 - 0.9 / 9, 1 - 0.9 * 4 / 9, 1 - 0.9 * 8 / 9, 0.1]),
        ("cosine", [0.5, 0.1 + 0.45 * (1 + math.cos(math.pi / 9)), 0.1 + 0.45 * (1 + math.cos(math.pi * 4 / 9)),
                    0.1 + 0.45 * (1 + math.cos(math.pi * 8 / 9)), 0.1]),
        ("wsd", [0.5, 1.0, 1.0, 0.55, 0.1]),
    ],
)  # fmt: skip
def test_learning_rate_at_steps_0_1_4_8_9_of_10(schedule: str, expected: list[float]) -> None:
    config = engine.training_config(schedule=schedule, warmup=0.1, decay=0.2, final_learning_rate=0.1)
    assert [learning_rate_factor(config, step, 10) for step in (0, 1, 4, 8, 9)] == pytest.approx(expected)


class _Poisoned:
    """Labels that are not finite in the batch of one step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def labels(self, batch: Batch) -> object:
        labels = engine.PairLabels().labels(batch)
        self.left -= 1
        if self.left == 0:
            labels.weights[0, 0] = float("nan")
        return labels


def _train(folder: Path, labels: object, **changes: object) -> torch.nn.Module:
    model = build_model(engine.MODEL, engine.VOCAB, 0)
    data = loop_module.TrainingData(engine.sequence_set(96, 1), engine.sequence_set(16, 2), labels)  # type: ignore[arg-type]
    config = engine.training_config(**changes)
    loop_module.train(model, data, config, ObjectiveConfig(alpha=0.5), folder, precision_name="fp32")
    return model


def test_a_loss_that_is_not_finite_stops_with_its_sequences_and_keeps_the_state(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step 5: .*nan.*sequences are \d+, \d+"):
        _train(tmp_path, _Poisoned(5))
    assert [path.name for path in found(tmp_path / "checkpoints")] == ["step-00000004"]
    assert len(read_json_lines(tmp_path / "metrics.jsonl")) == 4
    assert issubclass(DivergedError, UserError)
    _train(tmp_path, engine.PairLabels())  # with the cause gone, the run goes on from there
    whole = _train(tmp_path / "whole", engine.PairLabels())
    assert read_json_lines(tmp_path / "metrics.jsonl")[-1] == read_json_lines(tmp_path / "whole/metrics.jsonl")[-1]
    assert all(bool(parameter.isfinite().all()) for parameter in whole.parameters())


def test_a_loss_that_is_not_finite_can_be_skipped(tmp_path: Path) -> None:
    model = _train(tmp_path, _Poisoned(5), non_finite="skip")
    records = read_json_lines(tmp_path / "metrics.jsonl")
    skipped = [record for record in records if record["kind"] == "skipped"]
    assert [record["step"] for record in skipped] == [5]
    assert len(skipped[0]["sequences"]) == 8
    assert sum(record["kind"] == "train" for record in records) == 11
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


@pytest.mark.parametrize(("steps", "rate"), [(1, 1e300), (12, 1e300), (12, 1e38)])
@pytest.mark.parametrize("non_finite", ["stop", "skip"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, steps: int, rate: float, non_finite: str, optimizer: str
) -> None:
    """A step whose loss is finite may leave such weights: the last one would be exported without a word."""
    changes = {"muon_learning_rate": rate} if optimizer == "muon" else {}
    with pytest.raises(UserError, match=r"(step \d+: |training\.learning_rate: ).*lower"):
        engine.run(
            tmp_path, steps=steps, learning_rate=rate, non_finite=non_finite, checkpoint_steps=4, optimizer=optimizer,
            weight_decay=0.1, warmup=0.0, **changes,
        )  # fmt: skip
    for path in found(tmp_path / "checkpoints"):
        assert all(value.isfinite().all() for value in load_tensors(path, "model.").values())


def test_training_has_a_pulse(tmp_path: Path) -> None:
    result, _ = engine.run(tmp_path, steps=60, objective="distilled")
    first = read_json_lines(tmp_path / "metrics.jsonl")[0]
    assert first["ce"] == pytest.approx(math.log(engine.VOCAB), abs=0.2)
    assert result.validation_ce < 0.6 * first["ce"]
    assert first["forward_kl"] == pytest.approx(first["teacher_ce"] - first["teacher_entropy"])


def test_golden_loss_curve_of_fifty_steps(tmp_path: Path) -> None:
    """Losses at full precision. A change of this file is a change of the mathematics and must be meant.

    Matrix kernels differ between processors, so five digits must agree rather than every bit.
    """
    engine.run(tmp_path, steps=50, objective="routed", micro_batch_sequences=4)
    losses = [record["loss"] for record in read_json_lines(tmp_path / "metrics.jsonl") if record["kind"] == "train"]
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-5)


def test_further_heads_leave_the_first_as_it_is_and_learn_of_their_own(tmp_path: Path) -> None:
    model = build_model(engine.MODEL, engine.VOCAB, 0)
    data = engine.training_data()
    batch = data.train.batch(range(4))
    objective = ObjectiveConfig(heads=3)
    student = Student(model, FurtherHeads(model, 2))
    context = StepContext(objective)
    means = global_step(student, [batch], context, objective, seed=0).means()
    alone = global_step(Student(model), [batch], context, ObjectiveConfig(), seed=0).means()
    assert means["ce"] == pytest.approx(alone["ce"], rel=1e-6)
    assert {"ce_2", "ce_3"} <= means.keys()
    assert all(parameter.grad is not None for parameter in student.further.parameters())  # type: ignore[union-attr]
    engine.run(tmp_path, objective="heads", steps=40)
    records = [record for record in read_json_lines(tmp_path / "metrics.jsonl") if record["kind"] == "train"]
    for name in ("ce", "ce_2", "ce_3"):
        assert records[-1][name] < records[0][name] - 0.2


def test_a_live_teacher_gets_no_gradient_and_moves_the_student() -> None:
    data = engine.training_data(live=True)
    assert isinstance(data.labels, LiveTeacher)
    model = build_model(engine.MODEL, engine.VOCAB, 0)
    objective = ObjectiveConfig(alpha=1.0)
    context = StepContext(objective, data.labels)
    means = global_step(Student(model), [data.train.batch(range(4))], context, objective, seed=0).means()
    assert means["forward_kl"] > 0
    assert all(parameter.grad is None for parameter in data.labels.parameters())
    own = StepContext(objective, LiveTeacher(build_model(engine.MODEL, engine.VOCAB, 0)))
    same = global_step(Student(model), [data.train.batch(range(4))], own, objective, seed=0).means()
    assert same["forward_kl"] == pytest.approx(0.0, abs=1e-6)  # a teacher equal to the student has nothing to say


def test_decay_spares_norms_and_embeddings() -> None:
    model = build_model(engine.MODEL, engine.VOCAB, 0)
    (optimizer,) = build_optimizers(Student(model), engine.training_config(weight_decay=0.1))
    decayed = {
        id(parameter) for group in optimizer.param_groups if group["weight_decay"] for parameter in group["params"]
    }
    spared = {name for name, parameter in model.named_parameters() if id(parameter) not in decayed}
    assert spared == {name for name, _ in model.named_parameters() if "norm" in name or "embed" in name}
    assert len(decayed) == 7 * engine.MODEL.num_layers


def test_budgets_in_steps_epochs_and_flops() -> None:
    model = build_model(engine.MODEL, engine.VOCAB, 0)
    per_token = size_of_model(model).flops_per_token(engine.LENGTH, backward=True)
    assert per_token == flops_per_token(engine.MODEL, engine.VOCAB, engine.LENGTH, backward=True)
    plain = engine.training_config(steps=None, epochs=2.5)
    assert num_steps(plain, 96) == 30
    assert num_steps(engine.training_config(steps=7), 96) == 7
    per_step = per_token * 8 * engine.LENGTH
    budget = engine.training_config(steps=None, flops=per_step * 5.9)
    assert num_steps(budget, 96, engine.LENGTH, per_token) == 5
    with pytest.raises(ValueError, match="give one budget"):
        engine.training_config(steps=3, flops=1e9)


def test_a_run_ends_with_its_budget_in_flops(tmp_path: Path) -> None:
    per_step = flops_per_token(engine.MODEL, engine.VOCAB, engine.LENGTH, backward=True) * 8 * engine.LENGTH
    result, _ = engine.run(tmp_path, steps=None, flops=7.5 * per_step)
    assert result.steps == 7
    assert result.tokens == 7 * 8 * engine.LENGTH


def test_metrics_tell_speed_memory_and_share_of_the_peak(tmp_path: Path) -> None:
    engine.run(tmp_path, steps=3, objective="routed")
    record = read_json_lines(tmp_path / "metrics.jsonl")[0]
    assert 0 < record["fraction_of_peak"] < 1
    assert record["memory_bytes"] > 50e6
    assert record["tokens_per_second"] > 0
    assert record["routed_share"] == pytest.approx(0.25, abs=0.05)
    assert {"alpha", "teacher_entropy", "learning_rate", "gradient_norm", "tokens"} <= record.keys()
