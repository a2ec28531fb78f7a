"""New students of other architectures stop and start again bit for bit, whatever teaches them."""

from __future__ import annotations

from pathlib import Path

import engine
import pytest

from stillroom.files import read_json_lines
from stillroom.training import Interrupted
from student_table import FAST, KINDS

_WAYS = [("distilled", False, "fp32"), ("distilled", True, "bf16"), ("hard", False, "bf16"), ("heads", False, "fp32")]
CASES = [
    pytest.param(name, *way, id=f"{name}-{way[0]}-{'live' if way[1] else 'stored'}-{way[2]}",
                 marks=[] if name in FAST and way == _WAYS[number % 2] else pytest.mark.slow)
    for number, (name, kind) in enumerate(KINDS.items())
    for way in _WAYS
    if way[0] != "heads" or kind.no_heads is None
]  # fmt: skip


@pytest.mark.parametrize(("name", "objective", "live", "precision"), CASES)
def test_six_steps_equal_three_and_three(name: str, objective: str, live: bool, precision: str, tmp_path: Path) -> None:
    changes = {"overrides": {"num_hidden_layers": 3}} if objective == "heads" else {}
    options = {
        "model": KINDS[name].model(tmp_path / "config", **changes), "objective": objective, "live": live,
        "precision": precision, "steps": 6,
    }  # fmt: skip
    whole = engine.run(tmp_path / "whole", **options)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", stop_at=3, **options)
    assert engine.run(tmp_path / "parts", **options)[1] == whole


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"replicas": 1}, {"tensor": 2}], ids=["sharded", "tensor"])
@pytest.mark.parametrize("name", KINDS)
def test_two_processes_train_from_a_plan_as_from_the_whole_model(name: str, parallel: dict, tmp_path: Path) -> None:
    if "tensor" in parallel and KINDS[name].no_tensor is not None:
        return  # refused: see tests/study/test_other_students.py
    options = {"model": KINDS[name].model(tmp_path / "config"), "parallel": parallel, "steps": 3}
    hashes = []
    for plan in (False, True):
        folder = tmp_path / str(plan)
        hashes.append(engine.finish(engine.start(folder, 2, plan=plan, **options), folder))
    assert hashes[0] == hashes[1]
    engine.run(tmp_path / "alone", **options | {"parallel": {}})
    together, alone = (read_json_lines(tmp_path / one / "metrics.jsonl")[-1] for one in ("True", "alone"))
    assert together["ce"] == pytest.approx(alone["ce"], rel=1e-5)
