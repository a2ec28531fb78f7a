"""Several ranks on gloo compute what one process computes, and one continues what the others began."""

from __future__ import annotations

from pathlib import Path

import engine
import pytest

from stillroom.files import read_json, read_json_lines


def _losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_json_lines(folder / "metrics.jsonl") if record["kind"] == "train"]


def test_two_ranks_equal_one_process_bit_for_bit(tmp_path: Path) -> None:
    """With two parts there is one way to add them; without clipping no norm is added up in another order."""
    options = {"objective": "routed", "gradient_clip": 0.0, "validate_every": 6}
    whole = engine.run(tmp_path / "one", micro_batch_sequences=4, **options)[1]
    assert engine.finish(engine.start(tmp_path / "two", 2, **options), tmp_path / "two") == whole
    assert _losses(tmp_path / "two") == _losses(tmp_path / "one")
    assert read_json(tmp_path / "two/checkpoints/step-00000012/state.json")["ranks"] == 2


def test_two_then_one_then_two_ranks_continue_one_run(tmp_path: Path) -> None:
    options = {"objective": "distilled", "micro_batch_sequences": 4, "gradient_clip": 0.0}
    whole = engine.run(tmp_path / "one", **options)[1]
    folder = tmp_path / "changing"
    for ranks, stop_at in ((2, 4), (1, 4), (2, None)):
        ended = engine.finish(engine.start(folder, ranks, stop_at=stop_at, **options), folder)
    assert ended == whole
    assert _losses(folder) == _losses(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_tensor_parallel_equals_one_process_within_tolerance(tmp_path: Path, ranks: int, optimizer: str) -> None:
    options = {"objective": "routed", "optimizer": optimizer}
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
@pytest.mark.parametrize("parallel", [{}, {"replicas": 2}, {"recompute": True}, {"reshard": False}, {"compile": True}], ids=str)
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
