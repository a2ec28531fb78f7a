"""A model that is made in its sharded form has the weights of one that is made whole, in less memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import engine
import pytest
import torch

from stillroom.config import ModelConfig, ObjectiveConfig, ParallelConfig
from stillroom.models import ModelPlan, build_model, export_model, load_model, plan_model, realise
from stillroom.training import join
from stillroom.training.prepare import prepare

LARGE = ModelConfig(hidden_size=512, intermediate_size=1536, num_layers=12, num_heads=8, max_positions=64)
LARGE_VOCAB = 2048
"""39M parameters, 157 MB."""


def test_a_plan_holds_no_memory_and_draws_the_definition_of_its_weights() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    plan = plan_model(engine.MODEL, engine.VOCAB, seed=3)
    assert all(value.is_meta for value in [*plan.model.parameters(), *plan.model.buffers()])
    model = realise(plan)
    assert torch.equal(torch.random.get_rng_state(), before)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        scale = 0.02 * (0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0)
        expected = torch.empty_like(parameter)
        expected = expected.normal_(0, scale, generator=generator) if parameter.ndim > 1 else expected.fill_(1.0)
        assert torch.equal(parameter, expected), name
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight  # type: ignore[union-attr]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_plan_of_a_pretrained_model_is_that_model(tmp_path: Path, tied: bool, dtype: torch.dtype) -> None:
    config = engine.MODEL.model_copy(update={"tie_embeddings": tied})
    export_model(build_model(config, engine.VOCAB, 1).to(dtype), tmp_path)  # type: ignore[arg-type]
    ours = realise(plan_model(ModelConfig(path=str(tmp_path)), engine.VOCAB, 0))
    expected = load_model(tmp_path)
    assert not ours.training
    tokens = torch.arange(engine.LENGTH)[None]
    assert torch.equal(ours(tokens).logits, expected(tokens).logits)
    assert engine.weight_hash(ours) == engine.weight_hash(expected)


@pytest.mark.parametrize(
    ("objective", "live", "ranks", "parallel"),
    [
        ("hard", False, 2, {}),
        ("heads", False, 2, {}),
        ("distilled", True, 2, {}),
        ("heads", False, 2, {"tensor": 2}),
        pytest.param("heads", False, 4, {"tensor": 2}, marks=pytest.mark.slow),
        pytest.param("distilled", True, 4, {"replicas": 2}, marks=pytest.mark.slow),
    ],
)
def test_training_from_a_plan_is_training_from_the_whole_model(
    tmp_path: Path, objective: str, live: bool, ranks: int, parallel: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"objective": objective, "live": live, "parallel": parallel, "steps": 3}
    hashes = []
    for plan in (False, True):
        folder = tmp_path / str(plan)
        hashes.append(engine.finish(engine.start(folder, ranks, plan=plan, **options), folder))
    assert hashes[0] == hashes[1]


def test_ranks_share_a_pretrained_model_that_the_first_one_reads(tmp_path: Path) -> None:
    export_model(build_model(engine.MODEL, engine.VOCAB, 1), tmp_path / "pretrained")
    pretrained = ModelConfig(path=str(tmp_path / "pretrained"))
    hashes = []
    for plan in (False, True):
        folder = tmp_path / str(plan)
        hashes.append(engine.finish(engine.start(folder, 2, plan=plan, model=pretrained, steps=3), folder))
    assert hashes[0] == hashes[1]


def _resident() -> dict[str, int]:
    """Bytes that this process holds now and held at most."""
    status = Path("/proc/self/status").read_text()
    return {name: int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def _measure(folder: Path, plan: bool) -> None:
    parallel = ParallelConfig()
    ranks = join(parallel)
    before = _resident()["VmRSS"]
    source = (plan_model if plan else build_model)(LARGE, LARGE_VOCAB, 0)
    student = prepare(source, engine.training_config(), ObjectiveConfig(), ranks)
    assert isinstance(source, ModelPlan) == plan
    assert not any(parameter.is_meta for parameter in student.parameters())
    (folder / f"{plan}-{ranks.rank}").write_text(str(_resident()["VmHWM"] - before))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_rank_never_holds_the_whole_model(tmp_path: Path) -> None:
    whole = 4 * sum(parameter.numel() for parameter in plan_model(LARGE, LARGE_VOCAB, 0).model.parameters())
    taken = {}
    for plan in (False, True):
        for process in (started := engine.start_call(_measure, (tmp_path, plan), 2)):
            process.join(timeout=120)
        assert [process.exitcode for process in started] == [0, 0]
        taken[plan] = max(int((tmp_path / f"{plan}-{rank}").read_text()) for rank in range(2))
    print({plan: round(value / whole, 2) for plan, value in taken.items()}, "of the model's bytes at most")
    assert taken[False] > whole
    assert taken[True] < 0.75 * whole  # its half, one parameter, and what the allocator keeps
