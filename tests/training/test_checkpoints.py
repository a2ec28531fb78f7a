"""Checkpoints are complete or not there, and a damaged one is passed over."""

from __future__ import annotations

import errno
import json
import logging
import threading
from pathlib import Path
from typing import Any

import engine
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacking import lacking
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
    checkpoints = Checkpoints(tmp_path, keep_last=2, keeps=lambda step: step % 4 == 0)
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


def _saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, run_tensors(_model(float(step)), []), {"seconds": 1.5, "seed": 0})
    checkpoints.wait()
    return checkpoints


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_any_file_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    checkpoints = _saved(folder, 7)
    path = folder / "step-00000007"
    file = path / data.draw(st.sampled_from(sorted(one.name for one in path.iterdir())))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    content[place // 8] ^= 1 << place % 8
    before = read_state(file)
    file.write_bytes(content)
    if read_state(file) != before or file.suffix != ".json":  # blanks between values tell nothing
        assert not checkpoints.is_whole(path)


def read_state(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes()) if file.suffix == ".json" else None
    except ValueError:
        return "no JSON"


def test_a_checkpoint_holds_nothing_of_another_step(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path, 1, 2)
    old, new = found(tmp_path)
    for name in (name for name in _names(new) if name != "state.json"):
        (new / name).write_bytes((old / name).read_bytes())  # whole by themselves, but of step 1
    assert not checkpoints.is_whole(new) and checkpoints.is_whole(old)
    (tmp_path / "step-00000002").rename(tmp_path / "x")
    old.rename(tmp_path / "step-00000002")
    assert not checkpoints.is_whole(tmp_path / "step-00000002")


def test_one_of_the_schema_before_is_read(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path, 3)
    path = found(tmp_path)[0] / "state.json"
    state = read_json(path)
    path.write_text(json.dumps({"schema": 2, "step": 3, "ranks": 1, "seconds": 1.5, "seed": 0}))
    assert checkpoints.latest() is not None
    path.write_text(json.dumps(state | {"schema": 2}))
    assert checkpoints.latest() is None


def test_where_none_is_whole_the_run_begins_again_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = engine.run(tmp_path / "whole", checkpoint_steps=3)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", checkpoint_steps=3, stop_at=6)
    for path in found(tmp_path / "parts/checkpoints"):
        (path / "state.json").write_bytes((path / "state.json").read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    with caplog.at_level(logging.WARNING):
        assert engine.run(tmp_path / "parts", checkpoint_steps=3)[1] == whole
    told = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]
    assert len(told) == 2 and "going back to step-00000003" in told[0] and "beginning again" in told[1]


def test_a_damaged_newest_does_not_push_out_the_one_that_was_gone_back_to(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        engine.run(tmp_path, checkpoint_steps=3, stop_at=9, keep_last=2)
    newest = found(tmp_path / "checkpoints")[-1]
    (newest / "hash-00001.json").unlink()
    with pytest.raises(Interrupted):
        engine.run(tmp_path, checkpoint_steps=100, stop_at=1, keep_last=1)
    left = found(tmp_path / "checkpoints")
    assert [path.name for path in left] == ["step-00000007"] and Checkpoints(tmp_path / "checkpoints").is_whole(left[0])


@pytest.mark.parametrize(("call", "code"), [("rename of folders", errno.EPERM), ("fsync", errno.EINVAL)])
def test_checkpoints_are_written_where_calls_are_lacking(tmp_path: Path, call: str, code: int) -> None:
    with lacking(call, code):
        checkpoints = _saved(tmp_path, 1, 2, 3)
        assert _names(tmp_path) == ["step-00000002", "step-00000003"]
        assert checkpoints.latest() is not None
