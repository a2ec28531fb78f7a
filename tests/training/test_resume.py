"""A run that stops and starts again ends in the same weights as one that does not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import engine
import pytest

from stillroom.files import read_json_lines
from stillroom.training import Interrupted


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("objective", ["hard", "distilled", "routed", "random", "heads", "distilled heads"])
def test_twelve_steps_equal_six_and_six(tmp_path: Path, objective: str, precision: str) -> None:
    whole = engine.run(tmp_path / "whole", objective=objective, precision=precision)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", objective=objective, precision=precision, stop_at=6)
    if objective == "routed" and precision == "bf16":  # one of them in a process of its own
        second = engine.start(tmp_path / "parts", objective=objective, precision=precision)
        assert engine.finish(second, tmp_path / "parts") == whole
    else:
        assert engine.run(tmp_path / "parts", objective=objective, precision=precision)[1] == whole


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("objective", ["distilled", "routed", "random", "reverse", "distilled heads"])
def test_a_live_teacher_resumes_bit_for_bit(tmp_path: Path, objective: str, precision: str) -> None:
    options = {"objective": objective, "live": True, "precision": precision}
    whole = engine.run(tmp_path / "whole", **options)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", stop_at=6, **options)
    assert engine.run(tmp_path / "parts", **options)[1] == whole


_ALL = [
    (objective, live)
    for objective in (*engine.OBJECTIVES, *engine.FURTHER_OBJECTIVES)
    for live in (False, True)
    if objective not in (engine.STORED_ONLY if live else engine.LIVE_ONLY)
]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("objective", "live"), _ALL)
def test_a_new_process_ends_in_the_same_weights(tmp_path: Path, objective: str, live: bool, precision: str) -> None:
    """Every objective that a configuration can name, with both kinds of teacher."""
    options: dict[str, Any] = {"objective": objective, "live": live, "precision": precision}
    whole = engine.run(tmp_path / "whole", **options)[1]
    parts = tmp_path / "parts"
    assert engine.finish(engine.start(parts, stop_at=6, **options), parts) == "interrupted"
    assert engine.finish(engine.start(parts, **options), parts) == whole


@pytest.mark.parametrize("objective", ["hard", "distilled"])
def test_recomputation_changes_no_bit_and_resumes(tmp_path: Path, objective: str) -> None:
    options = {"objective": objective, "live": objective == "distilled"}
    whole = engine.run(tmp_path / "whole", **options)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", stop_at=6, parallel={"recompute": True}, **options)
    assert engine.run(tmp_path / "parts", parallel={"recompute": True}, **options)[1] == whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own, when it compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("objective", "live"), [(objective, live) for objective, live in _ALL if objective in engine.OBJECTIVES]
)
def test_compiled_blocks_resume_bit_for_bit(tmp_path: Path, objective: str, live: bool, precision: str) -> None:
    options = {"objective": objective, "live": live, "precision": precision, "parallel": {"compile": True}}
    whole = engine.run(tmp_path / "whole", **options)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", stop_at=6, **options)
    rest = [sys.executable, engine.__file__, str(tmp_path / "parts"), json.dumps(options)]
    subprocess.run(rest, env=os.environ | {"RANK": "0"}, check=True, timeout=300)
    assert (tmp_path / "parts/ended-0").read_text() == whole


def test_muon_and_micro_batches_resume_bit_for_bit(tmp_path: Path) -> None:
    options = {"optimizer": "muon", "micro_batch_sequences": 2, "objective": "distilled"}
    whole = engine.run(tmp_path / "whole", **options)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", stop_at=5, **options)
    assert engine.run(tmp_path / "parts", **options)[1] == whole


def test_metrics_of_a_resumed_run_are_those_of_a_whole_one(tmp_path: Path) -> None:
    def records(folder: Path) -> list[dict[str, object]]:
        return [
            {name: value for name, value in record.items() if name in {"kind", "step", "tokens", "loss", "ce"}}
            for record in read_json_lines(folder / "metrics.jsonl")
        ]

    engine.run(tmp_path / "whole", validate_every=4)
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", validate_every=4, stop_at=6)
    with (tmp_path / "parts/metrics.jsonl").open("a") as log:  # steps after the checkpoint, which will be done again
        log.write(json.dumps({"kind": "train", "step": 7, "loss": 0.0}) + '\n{"kind": "tra')
    engine.run(tmp_path / "parts", validate_every=4)
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    assert [record["step"] for record in records(tmp_path / "whole") if record["kind"] == "validation"] == [4, 8, 12]


def _kill_at_random(folder: Path, kills: int, seed: int, **options: Any) -> int:
    """Starts a run again and again, killing it at random moments of its life; returns the kills that hit it alive."""
    generator = random.Random(seed)
    hits = 0
    for _ in range(kills):
        (process,) = engine.start(folder, **options)
        log = folder / "metrics.jsonl"
        before = log.stat().st_size if log.exists() else 0
        while process.is_alive() and (not log.exists() or log.stat().st_size <= before):
            time.sleep(0.02)  # wait for its first step, then let it live a little
        time.sleep(generator.uniform(0.0, 0.2))
        if process.is_alive():
            process.kill()
            hits += 1
        process.join()
    return hits


def test_kill_at_a_random_moment_ends_in_the_same_weights(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 60, "checkpoint_steps": 1, "objective": "distilled"}
    whole = engine.run(tmp_path / "whole", **options)[1]
    assert _kill_at_random(tmp_path / "killed", 3, seed=0, **options) >= 2
    assert engine.finish(engine.start(tmp_path / "killed", **options), tmp_path / "killed") == whole


@pytest.mark.slow
def test_twenty_kills_end_in_the_same_weights(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 600, "checkpoint_steps": 1, "objective": "routed", "precision": "bf16"}
    whole = engine.run(tmp_path / "whole", **options)[1]
    hits = _kill_at_random(tmp_path / "killed", 20, seed=1, **options)
    print(f"{hits} of 20 kills hit a living run")
    assert hits >= 15
    assert engine.finish(engine.start(tmp_path / "killed", **options), tmp_path / "killed") == whole
