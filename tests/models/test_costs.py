"""What a model costs: equal to its own parameters, and to the products that torch counts in a forward pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from architectures import VOCAB, tiny_model
from test_architectures import FAST
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from stillroom import costs
from stillroom.config import ArmConfig, MixtureConfig, ModelConfig, StudyConfig, TeacherConfig, parse
from stillroom.models import build_model, export_model
from stillroom.study.budgets import account, spent, with_budgets
from stillroom.study.plan import study_costs
from stillroom.types import UserError

SMALL = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2, max_positions=64)
LENGTH = 8
"""The window of the architectures that have one: torch counts every pair of positions."""
EXPERTS = ("mixtral", "qwen3_moe", "qwen2_moe", "deepseek_v3", "granitemoe")


def counted(model: PreTrainedModel, length: int = LENGTH) -> float:
    """FLOPs per token of the products in a forward pass, over all pairs of positions."""
    model.set_attn_implementation("eager")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # grouped products are not counted
    tokens_BT = torch.randint(3, VOCAB, (2, length), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=tokens_BT, use_cache=False)
    return counter.get_total_flops() / tokens_BT.numel()


def all_pairs(size: costs.Size, length: int = LENGTH) -> float:
    """Forward FLOPs per token, with the masked half of all pairs of positions."""
    later = sum(width for width, _ in size.pair_widths) * length
    return size.flops_per_token(length, backward=False) + later


@pytest.mark.parametrize("name", [*FAST, "qwen3", "opt", *EXPERTS])
def test_parameters_are_the_models_own_in_memory_and_on_disk(name: str, tmp_path: Path) -> None:
    model = tiny_model(name)
    size = costs.size_of_model(model)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    export_model(model, tmp_path)
    assert costs.size_of_path(tmp_path) == size


@pytest.mark.parametrize(
    "name", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "phi3", "cohere2"]
)
def test_flops_are_those_that_torch_counts(name: str) -> None:
    model = tiny_model(name)
    assert all_pairs(costs.size_of_model(model)) == counted(model)


@pytest.mark.parametrize("name", EXPERTS)
def test_of_experts_those_count_that_a_token_takes(name: str) -> None:
    """Within what a router's own few products are of the rest."""
    model = tiny_model(name)
    size = costs.size_of_model(model)
    assert all_pairs(size) == pytest.approx(counted(model), rel=1e-3)
    assert size.blocks + size.tables < size.parameters  # not all of them


@pytest.mark.parametrize(("name", "tolerance"), [("gpt_oss", 0.02), ("lfm2", 0.001), ("mamba", 0.01)])
def test_what_is_not_counted_is_little(name: str, tolerance: float) -> None:
    model = tiny_model(name)
    assert all_pairs(costs.size_of_model(model)) == pytest.approx(counted(model), rel=tolerance)


def test_a_window_bounds_what_a_position_sees() -> None:
    size = costs.size_of_model(tiny_model("gemma3_text"))
    windows = [window for _, window in size.pair_widths]
    width = size.pair_widths[0][0]
    assert set(windows) == {None, 8}
    grown = size.flops_per_token(1008, backward=False) - size.flops_per_token(1000, backward=False)
    assert grown == pytest.approx(2 * width * 4 * windows.count(None), rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False}, {"num_kv_heads": None}, {"num_layers": 3}])
def test_a_configuration_costs_what_its_model_does(changes: dict[str, object], tmp_path: Path) -> None:
    config = SMALL.model_copy(update=changes)
    model = build_model(config, VOCAB, seed=0)
    assert costs.size_of(config, VOCAB) == costs.size_of_model(model)
    assert costs.num_parameters(config, VOCAB) == sum(parameter.numel() for parameter in model.parameters())
    once = costs.flops_per_token(config, VOCAB, 16, backward=False)
    assert costs.flops_per_token(config, VOCAB, 16, backward=True) == 3 * once
    export_model(model, tmp_path)
    assert costs.num_parameters(ModelConfig(path=str(tmp_path)), VOCAB) == costs.num_parameters(config, VOCAB)


def test_a_model_on_disk_is_sized_without_torch(tmp_path: Path) -> None:
    export_model(tiny_model("llama"), tmp_path)
    code = (
        "import sys; from stillroom import costs; costs.size_of_path(sys.argv[1]);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_damaged_files_and_missing_models_end_in_a_sentence(tmp_path: Path) -> None:
    export_model(tiny_model("llama"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10" * 20)
    with pytest.raises(UserError, match=r"model\.safetensors.*expected a safetensors file"):
        costs.size_of_path(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        costs.size_of_path(tmp_path / "nothing")


def _study(teacher: TeacherConfig, **arms: ArmConfig) -> StudyConfig:
    values = {
        "name": "costs",
        "corpus": {"sources": {"code": {"kind": "python-library"}}, "vocab_size": 2048, "sequence_length": 64},
        "teacher": teacher.model_dump(),
        "student": SMALL.model_dump(),
        "training": {"tokens": 65_536},
        "arms": {name: arm.model_dump() for name, arm in arms.items()},
    }
    return parse(StudyConfig, values, "costs")


def _pretrained(folder: Path, layers: int) -> str:
    export_model(build_model(SMALL.model_copy(update={"num_layers": layers}), 2048, seed=0), folder)
    return str(folder)


def test_a_pretrained_teacher_is_charged_by_its_own_sizes(tmp_path: Path) -> None:
    path = _pretrained(tmp_path / "teacher", 6)
    study = _study(TeacherConfig(model=ModelConfig(path=path), training=None), dpt=ArmConfig(alpha=0.9))
    own = costs.flops_per_token(SMALL.model_copy(update={"num_layers": 6}), 2048, 64, backward=False)
    assert account(study, study.arms["dpt"]).teacher == own * 65_536
    assert own != costs.flops_per_token(ModelConfig(), 2048, 64, backward=False)
    labels = next(cost for cost in study_costs(study) if cost.name == "labels")
    assert labels.flops == own * 65_536


def test_stored_labels_serve_all_epochs_and_a_live_teacher_one(tmp_path: Path) -> None:
    stored, live = (ArmConfig(alpha=0.9, epochs=3.0, teacher=source) for source in ("stored", "live"))
    study = _study(TeacherConfig(model=SMALL), stored=stored, live=live)
    once = costs.flops_per_token(SMALL, 2048, 64, backward=False)
    assert spent(study, stored, 2048, 1000, 3000).teacher == 1000 * once
    assert spent(study, live, 2048, 1000, 3000).teacher == 3000 * once
    assert spent(study, live, 2048, 1000, 3000).student == spent(study, stored, 2048, 1000, 3000).student
    planned = {cost.name: cost.flops for cost in study_costs(study)}
    assert planned["live"] == pytest.approx(planned["stored"] + 3 * 65_536 * once)
    assert planned["labels"] == 65_536 * once


def test_every_teacher_of_a_mixture_is_charged(tmp_path: Path) -> None:
    other = _pretrained(tmp_path / "other", 6)
    arm = ArmConfig(alpha=0.9)
    own, further = (
        costs.flops_per_token(SMALL.model_copy(update={"num_layers": layers}), 2048, 64, backward=False)
        for layers in (2, 6)
    )
    average, domain = (MixtureConfig(rule=rule, teachers={"other": other}) for rule in ("average", "domain"))
    for mixture, expected in ((average, own + further), (domain, (own + further) / 2)):
        study = _study(TeacherConfig(model=SMALL, mixture=mixture), dpt=arm)
        assert account(study, arm).teacher == expected * 65_536


def test_sizes_beside_a_path_stand_for_a_model_that_is_not_here(tmp_path: Path) -> None:
    stated = SMALL.model_copy(update={"path": "nobody/nothing-of-this-name"})
    assert costs.size_of(stated, 2048) == costs.size_of(SMALL, 2048)
    here = stated.model_copy(update={"path": _pretrained(tmp_path / "here", 6)})
    assert costs.size_of(here, 2048).layers == 6


def test_a_teacher_that_is_not_here_is_planned_for_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    teacher = TeacherConfig(model=ModelConfig(path="nobody/nothing-of-this-name"), training=None)
    planned = {cost.name: cost for cost in study_costs(_study(teacher, dpt=ArmConfig(alpha=0.9), spt=ArmConfig()))}
    assert planned["labels"].flops != planned["labels"].flops  # not a number
    assert planned["dpt"].flops > 0
    like = ArmConfig(alpha=0.9, like="spt", budget="iso-compute")
    with pytest.raises(UserError, match="nobody/nothing-of-this-name"):
        with_budgets(_study(teacher, dpt=like, spt=ArmConfig()))
