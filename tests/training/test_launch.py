"""Runs as ``torchrun`` starts them: from the command line, with a rank that is lost, and with a signal to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine
import pytest
from transformers import AutoModelForCausalLM

from stillroom.files import read_json, read_json_lines

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.slow
def test_a_lost_rank_restarts_from_the_last_checkpoint(tmp_path: Path) -> None:
    """The two ranks that are left over by the kill are ended and started again by torchrun's agent."""
    options = {"objective": "distilled", "steps": 20, "checkpoint_steps": 4, "gradient_clip": 0.0}
    whole = engine.run(tmp_path / "one", micro_batch_sequences=4, **options)[1]
    folder = tmp_path / "two"
    arguments = [str(folder), json.dumps(options | {"die_at": 10})]
    subprocess.run(
        [*TORCHRUN, "--max-restarts", "1", engine.__file__, *arguments], env=ENVIRONMENT, check=True, timeout=300
    )
    assert (folder / "died").exists()
    assert (folder / "ended-0").read_text() == whole
    steps = [record["step"] for record in read_json_lines(folder / "metrics.jsonl") if record["kind"] == "train"]
    assert steps == list(range(1, 21))


def _stillroom(*arguments: str) -> list[str]:
    return ["-m", "stillroom", "train", "tiny", "--arm", "spt", *arguments]


@pytest.mark.slow
def test_torchrun_of_the_command_line_equals_one_process(tmp_path: Path) -> None:
    settings = ["--set", "training.gradient_clip=0", "--set", "training.precision=fp32"]
    exported = tmp_path / "exported"
    one = [sys.executable, *_stillroom("--artifacts", str(tmp_path / "one"), "--export", str(exported), *settings)]
    subprocess.run(one, env=ENVIRONMENT, check=True, timeout=300)
    two = [*TORCHRUN, *_stillroom("--artifacts", str(tmp_path / "two"), *settings)]
    subprocess.run(two, env=ENVIRONMENT, check=True, timeout=300)
    results = [
        read_json(next((tmp_path / name).glob("model-*/result.json")))["validation_ce"] for name in ("one", "two")
    ]
    assert results[1] == pytest.approx(results[0], rel=1e-4)
    assert AutoModelForCausalLM.from_pretrained(exported).num_parameters() > 0
    assert "stillroom train config.yaml" in (exported / "README.md").read_text()
    assert len({folder.name for folder in tmp_path.glob("*/model-*")}) == 1  # ranks do not change what is made


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_saves_and_exits_zero_and_the_same_command_goes_on(tmp_path: Path, ranks: int) -> None:
    settings = ["--set", "training.steps=400", "--set", "training.checkpoint_seconds=1e9"]
    launcher = TORCHRUN if ranks > 1 else [sys.executable]
    command = [*launcher, *_stillroom("--artifacts", str(tmp_path), *settings)]
    process = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)
    while not (logs := list(tmp_path.glob(".model-*/metrics.jsonl"))):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=120)
    assert code == 0 or ranks > 1  # the agent of torchrun reports the signal itself, whatever its ranks return
    saved = sorted(logs[0].parent.glob("checkpoints/step-*/state.json"))
    assert saved
    step = read_json(saved[-1])["step"]
    assert 0 < step < 400
    export = [sys.executable, "-m", "stillroom", "export", str(logs[0].parent), str(tmp_path / "halfway")]
    said = subprocess.run(export, env=ENVIRONMENT, check=True, timeout=120, capture_output=True, text=True).stdout
    assert f"step {step}" in said
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "halfway").num_parameters() > 0
    assert f"in {step:,} steps" in (tmp_path / "halfway/README.md").read_text()
