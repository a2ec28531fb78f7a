"""Checkpoints are complete or not there, and a damaged one is passed over."""

from __future__ import annotations

import errno
import logging
import threading
from pathlib import Path
from typing import Any

import engine
import pytest
import torch
from torch import nn

from stillroom.files import read_json
from stillroom.training import Checkpoints, Interrupted
from stillroom.training import checkpoint as checkpoint_module
from stillroom.training.checkpoint import found, run_tensors
from stillroom.types import UserError


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _model(value: float = 0.0) -> nn.Linear:
    model = nn.Linear(4, 3)
    nn.init.constant_(model.weight, value)
    return model


def test_keeps_the_newest_and_every_nth(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2, keep_every=4)
    for step in range(1, 11):
        checkpoints.save(step, run_tensors(_model(step), []), {})
    checkpoints.wait()
    assert _names(tmp_path) == [f"step-{step:08d}" for step in (4, 8, 9, 10)]


def test_round_trip_is_exact_for_every_moment(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    before = {name: value.clone() for name, value in run_tensors(model, [optimizer]).items()}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, run_tensors(model, [optimizer]), {"seconds": 1.5})
    checkpoints.wait()
    other = nn.Linear(4, 3)
    fresh = torch.optim.AdamW(other.parameters())
    path, state = checkpoints.latest() or pytest.fail("no checkpoint was found")
    checkpoints.load(path, other, [fresh])
    after = run_tensors(other, [fresh])
    assert state["seconds"] == 1.5
    assert after.keys() == before.keys()
    assert {"optimizer.weight.step", "optimizer.bias.exp_avg"} <= after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)


def test_saving_is_asynchronous_and_keeps_the_moment_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    write = checkpoint_module.dcp.save

    def slow(*arguments: Any, **options: Any) -> object:
        assert gate.wait(10)
        return write(*arguments, **options)

    monkeypatch.setattr(checkpoint_module.dcp, "save", slow)
    model = _model(1.0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, run_tensors(model, []), {})
    nn.init.constant_(model.weight, 2.0)  # training goes on while the file is written
    assert found(tmp_path) == []
    gate.set()
    checkpoints.wait()
    checkpoints.load(found(tmp_path)[0], model, [])
    assert float(model.weight[0, 0].detach()) == 1.0


def test_a_full_disk_keeps_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, run_tensors(_model(1.0), []), {})
    checkpoints.wait()

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_module.dcp, "save", full)
    checkpoints.save(2, run_tensors(_model(2.0), []), {})
    with pytest.raises(UserError, match="no space is left"):
        checkpoints.wait()
    assert _names(tmp_path) == ["step-00000001"]
    assert checkpoints.latest() is not None


@pytest.mark.parametrize("damage", ["cut", "flip", "state", "hash"])
def test_a_damaged_newest_is_named_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole = engine.run(tmp_path / "whole", checkpoint_steps=3)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", checkpoint_steps=3, stop_at=6)
    newest = found(tmp_path / "parts/checkpoints")[-1]
    shard = next(newest.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(content[:-100])
    elif damage == "flip":
        content[-50] ^= 1
        shard.write_bytes(content)
    else:
        (newest / ("state.json" if damage == "state" else "hash-00001.json")).write_text("{")
    with caplog.at_level(logging.WARNING):
        assert engine.run(tmp_path / "parts", checkpoint_steps=3)[1] == whole
    warnings = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]
    assert len(warnings) == 1
    assert str(newest) in warnings[0]


def test_a_half_written_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step-00000009.unfinished").mkdir()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    checkpoints.save(9, run_tensors(_model(1.0), []), {})
    checkpoints.wait()
    assert _names(tmp_path) == ["step-00000009"]
    assert read_json(tmp_path / "step-00000009/state.json")["step"] == 9


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, run_tensors(_model(), []), {})
    checkpoints.wait()
    with pytest.raises(UserError, match=r"model\.bias|model\.0\.bias"):
        checkpoints.load(found(tmp_path)[0], nn.Sequential(nn.Linear(4, 3)), [])
