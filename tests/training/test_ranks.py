"""Several ranks on gloo compute what one process computes, and one continues what the others began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engine
import pytest

from stillroom.files import read_json, read_json_lines
from stillroom.training.checkpoint import load_tensors


def _losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_json_lines(folder / "metrics.jsonl") if record["kind"] == "train"]


def test_two_ranks_equal_one_process_bit_for_bit(tmp_path: Path) -> None:
    """With two parts there is one way to add them; without clipping no norm is added up in another order."""
    options = {"objective": "routed", "gradient_clip": 0.0, "validate_every": 6}
    whole = engine.run(tmp_path / "one", micro_batch_sequences=4, **options)[1]
    assert engine.finish(engine.start(tmp_path / "two", 2, **options), tmp_path / "two") == whole
    assert _losses(tmp_path / "two") == _losses(tmp_path / "one")
    assert read_json(tmp_path / "two/checkpoints/step-00000012/state.json")["ranks"] == 2


@pytest.mark.parametrize("options", [{"reshard": False}, {"recompute": True}, {"replicas": 2}], ids=str)
def test_the_layout_changes_no_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    """With ``replicas`` 2 both ranks hold the whole model and sum its gradients in buckets."""
    common = {"objective": "distilled", "live": True, "gradient_clip": 0.0}
    whole = engine.run(tmp_path / "one", micro_batch_sequences=4, **common)[1]
    folder = tmp_path / "two"
    assert engine.finish(engine.start(folder, 2, parallel=options, **common), folder) == whole
    assert _losses(folder) == _losses(tmp_path / "one")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_after_a_validation_is_whole(tmp_path: Path, precision: str) -> None:
    """A validation gathers weights and has no backward pass that lets go of them."""
    parallel = {"parameter_precision": precision, "reshard": False}
    options = {"precision": precision, "validate_every": 3, "checkpoint_steps": 3, "parallel": parallel}
    whole = engine.finish(engine.start(tmp_path / "whole", 2, **options), tmp_path / "whole")
    folder = tmp_path / "parts"
    assert engine.finish(engine.start(folder, 2, stop_at=6, **options), folder) == "interrupted"
    names = load_tensors(folder / "checkpoints/step-00000006", "").keys()
    weights = [name.removeprefix("model.") for name in names if name.startswith("model.")]
    assert {f"optimizer.{name}.exp_avg_sq" for name in weights} <= names
    assert engine.finish(engine.start(folder, 2, **options), folder) == whole


def test_parameters_in_bf16_train_alike_whatever_the_layout(tmp_path: Path) -> None:
    """Gathered in bf16, summed in fp32: the same bits sharded and held whole, and near what fp32 gives."""
    options: dict[str, Any] = {"objective": "distilled", "precision": "bf16"}
    engine.run(tmp_path / "one", **options)
    hashes = []
    for name, layout in (("sharded", {}), ("kept", {"reshard": False})):
        parallel = {"parameter_precision": "bf16"} | layout
        hashes.append(engine.finish(engine.start(tmp_path / name, 2, parallel=parallel, **options), tmp_path / name))
    assert hashes[0] == hashes[1]
    assert _losses(tmp_path / "sharded") == pytest.approx(_losses(tmp_path / "one"), rel=5e-3)
    assert _losses(tmp_path / "sharded") != _losses(tmp_path / "one")


def test_a_bf16_run_over_two_ranks_resumes_bit_for_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "objective": "routed", "precision": "bf16", "parallel": {"parameter_precision": "bf16"},
    }  # fmt: skip
    whole = engine.finish(engine.start(tmp_path / "whole", 2, **options), tmp_path / "whole")
    folder = tmp_path / "parts"
    assert engine.finish(engine.start(folder, 2, stop_at=6, **options), folder) == "interrupted"
    assert engine.finish(engine.start(folder, 2, **options), folder) == whole


def test_two_then_one_then_two_ranks_continue_one_run(tmp_path: Path) -> None:
    """The second pair holds the model whole, where the first held a half each."""
    options = {"objective": "distilled", "micro_batch_sequences": 4, "gradient_clip": 0.0}
    whole = engine.run(tmp_path / "one", **options)[1]
    folder = tmp_path / "changing"
    for ranks, stop_at, replicas in ((2, 4, 1), (1, 4, None), (2, None, 2)):
        started = engine.start(folder, ranks, stop_at=stop_at, parallel={"replicas": replicas}, **options)
        ended = engine.finish(started, folder)
    assert ended == whole
    assert _losses(folder) == _losses(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_tensor_parallel_equals_one_process_within_tolerance(tmp_path: Path, ranks: int, optimizer: str) -> None:
    options: dict[str, Any] = {"objective": "routed", "optimizer": optimizer}
    engine.run(tmp_path / "one", **options)
    parts = engine.start(tmp_path / "many", ranks, parallel={"tensor": 2}, **options)
    engine.finish(parts, tmp_path / "many")
    assert _losses(tmp_path / "many") == pytest.approx(
        _losses(tmp_path / "one"), rel=1e-5 if optimizer == "adamw" else 5e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("objective", list(engine.OBJECTIVES))
@pytest.mark.parametrize(
    "parallel", [{}, {"replicas": 2}, {"recompute": True}, {"reshard": False}, {"compile": True}], ids=str
)
def test_ranks_equal_one_process_within_tolerance(
    tmp_path: Path, ranks: int, precision: str, objective: str, parallel: dict[str, object]
) -> None:
    """Sums over ranks are taken in another order: losses agree to a millionth in fp32, to bfloat16's step in bf16."""
    options = {"objective": objective, "precision": precision, "live": objective == "reverse"}
    engine.run(tmp_path / "one", **options)
    engine.finish(engine.start(tmp_path / "many", ranks, parallel=parallel, **options), tmp_path / "many")
    assert _losses(tmp_path / "many") == pytest.approx(
        _losses(tmp_path / "one"), rel=1e-5 if precision == "fp32" else 5e-3
    )
