"""The recipes at scale: they resolve, build without memory, and say what they would take."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from stillroom.config import ArmConfig, ModelConfig, ParallelConfig, StudyConfig, TrainingConfig
from stillroom.costs import flops_per_token, num_parameters, size_of_model
from stillroom.labels import price
from stillroom.models.meta import llama_config
from stillroom.study.budgets import account, with_budgets
from stillroom.study.plan import Machine, print_plan, study_costs, this_machine
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.scale import gpu_plan
from stillroom.training import hardware
from stillroom.training.hardware import listed_flops
from stillroom.types import UserError


def _study(name: str) -> StudyConfig:
    config = resolve_recipe(name)
    assert isinstance(config, StudyConfig)
    return with_budgets(config)


@pytest.mark.parametrize(
    ("name", "student", "teacher"), [("sandbox-120m", 120e6, 250e6), ("llama-1b-from-8b", 1.24e9, 8.03e9)]
)
def test_models_build_on_the_meta_device_at_the_size_that_their_name_says(
    name: str, student: float, teacher: float
) -> None:
    study = _study(name)
    vocab, length = study.corpus.vocab_size, study.corpus.sequence_length
    for config, size in ((study.student, student), (study.teacher.model, teacher)):
        with torch.device("meta"):
            model = LlamaForCausalLM(llama_config(config.model_copy(update={"path": None}), vocab))
        built = sum(parameter.numel() for parameter in model.parameters())
        assert built == num_parameters(config, vocab)
        assert built == pytest.approx(size, rel=0.1)
        assert size_of_model(model).flops_per_token(length, backward=True) == pytest.approx(
            flops_per_token(config, vocab, length, backward=True)
        )


@pytest.mark.parametrize("name", ["sandbox-120m", "llama-1b-from-8b"])
def test_dry_run_tells_memory_time_and_label_store(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    print_plan(_study(name))
    text = " ".join(capsys.readouterr().out.split())
    for words in ("memory per GPU", "time per step", "40% of 989 TFLOP/s", "Label store", "GPU-hours"):
        assert words in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A1000 Laptop GPU", None),
    ],
)
def test_a_gpu_is_known_by_the_words_of_its_name(name: str, expected: float | None) -> None:
    assert listed_flops(name) == expected


def _pretend_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
    monkeypatch.setenv("COLUMNS", "150")


def test_times_are_those_of_the_gpu_that_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend_gpu(monkeypatch, "NVIDIA A100-SXM4-80GB")
    assert this_machine("auto") == Machine("NVIDIA A100-SXM4-80GB", 312e12, is_measured=False, is_gpu=True)
    study = _study("sandbox-120m")
    print_plan(study)
    text = " ".join(capsys.readouterr().out.split())
    assert "40% of the matrix rate of this NVIDIA A100-SXM4-80GB, 312 TFLOP/s by its data sheet" in text
    assert "On NVIDIA A100-SXM4-80GB GPUs, on paper" in text
    flops = sum(cost.flops for cost in study_costs(study))
    hours = flops / (0.4 * 312e12) / 3600
    assert f"{0.4 * hours:.3g} hours to {4 * hours / 24:.3g} days and what is unknown" in text


def test_a_gpu_that_is_not_listed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(dtype: torch.dtype, size: int, seconds: float, *, device: torch.device) -> float:
        asked.append((dtype, device))
        return 5e13

    _pretend_gpu(monkeypatch, "NVIDIA Something 1")
    monkeypatch.setattr(hardware, "measured_rate", measured)
    assert this_machine("auto").describe().endswith("NVIDIA Something 1, 50 TFLOP/s measured now")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H100 80GB HBM3")
    assert this_machine("fp32").flops == 5e13  # the sheet tells bf16 alone
    assert asked == [(torch.bfloat16, torch.device("cuda", 0)), (torch.float32, torch.device("cuda", 0))]


def test_a_processor_is_measured() -> None:
    machine = this_machine("fp32")
    assert not machine.is_gpu
    assert 1e9 < machine.flops < 1e14
    assert "25% of the matrix rate of this processor" in machine.describe()


def test_memory_falls_with_shards_and_time_with_gpus() -> None:
    study = _study("llama-1b-from-8b")
    arguments = (study.student, study.training, study.corpus.vocab_size, study.corpus.sequence_length)
    plans = [gpu_plan(*arguments, gpus) for gpus in (1, 8, 64)]
    assert all(plan is not None for plan in plans)
    one, eight, many = (plan for plan in plans if plan is not None)
    assert one.memory_bytes > eight.memory_bytes > many.memory_bytes
    assert one.step_seconds == pytest.approx(8 * eight.step_seconds) == pytest.approx(64 * many.step_seconds)
    state = 16 * num_parameters(study.student, study.corpus.vocab_size)
    assert one.memory_bytes > state > eight.memory_bytes
    assert gpu_plan(*arguments, 3) is None


def test_a_plan_whose_layout_does_not_divide_is_left_out() -> None:
    training = TrainingConfig(batch_sequences=64, parallel=ParallelConfig(replicas=4))
    assert gpu_plan(ModelConfig(), training, 1024, 128, 2) is None
    assert gpu_plan(ModelConfig(), training, 1024, 128, 8) is not None


def test_label_bytes_grow_with_the_vocabulary() -> None:
    labels = _study("llama-1b-from-8b").labels
    few, many = (price(1, 0.0, labels, vocab).bytes_per_token for vocab in (2048, 128_256))
    assert 10 < few < many < 60


def _with_arms(**arms: ArmConfig) -> StudyConfig:
    tiny = _study("tiny")
    return tiny.model_copy(update={"arms": {"dpt90": ArmConfig(alpha=0.9), **arms}})


def test_iso_compute_costs_what_the_other_arm_costs() -> None:
    study = with_budgets(_with_arms(same=ArmConfig(like="dpt90", budget="iso-compute")))
    target, ours = account(study, study.arms["dpt90"]), account(study, study.arms["same"])
    assert target.teacher > 0
    assert ours.teacher == 0
    assert ours.total == pytest.approx(target.total, rel=1e-5)
    assert study.arms["same"].data > 1
    assert with_budgets(study) == study


def test_iso_data_takes_tokens_and_epochs() -> None:
    study = _with_arms(two=ArmConfig(data=1.5, epochs=3), same=ArmConfig(alpha=0.5, like="two", budget="iso-data"))
    same = with_budgets(study).arms["same"]
    assert (same.data, same.epochs, same.alpha) == (1.5, 3, 0.5)


def test_an_arm_like_none_that_exists_is_named() -> None:
    with pytest.raises(UserError, match=r"arms\.same\.like: 'dpt9' is no arm; did you mean dpt90"):
        with_budgets(_with_arms(same=ArmConfig(like="dpt9")))
