"""What a tracker is told: the numbers of ``metrics.jsonl``, at their steps."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import engine
import pytest

from stillroom.files import read_json_lines
from stillroom.training import Interrupted
from stillroom.types import UserError


class _Recorder(ModuleType):
    """Stands for ``wandb`` or ``trackio`` and keeps what it is called with."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def init(self, **options: Any) -> None:
        self.calls.append(("init", options))

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", {"step": step} | values))

    def finish(self) -> None:
        self.calls.append(("finish", {}))


def _expected(folder: Path) -> list[dict[str, Any]]:
    """The numbers of the metrics file under the names that a tracker gets."""
    kinds = read_json_lines(folder / "metrics.jsonl")
    return [
        {f"{record['kind']}/{name}": value for name, value in record.items() if isinstance(value, float)}
        | {"step": record["step"]}
        for record in kinds
    ]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_that_log_dictionaries_get_every_record_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recorder = _Recorder(name)
    monkeypatch.setitem(sys.modules, name, recorder)
    folder = tmp_path / ".run-12ab.unfinished"
    engine.run(folder, objective="routed", steps=6, validate_every=3, tracker=name)
    kinds = [kind for kind, _ in recorder.calls]
    assert kinds == ["init"] + ["log"] * 8 + ["finish"]
    options = recorder.calls[0][1]
    assert options["project"] == "stillroom"
    assert options["name"] == "run-12ab"
    assert options["config"]["steps"] == 6
    assert options["resume"] == "allow"
    assert [values for kind, values in recorder.calls if kind == "log"] == _expected(folder)
    assert {"train/loss", "train/forward_kl", "train/routed_share"} <= recorder.calls[1][1].keys()


def test_a_run_that_goes_on_is_the_same_run_of_the_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = _Recorder("wandb")
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    with pytest.raises(Interrupted):
        engine.run(tmp_path, tracker="wandb", stop_at=6)
    engine.run(tmp_path, tracker="wandb")
    begun = [options for kind, options in recorder.calls if kind == "init"]
    assert len(begun) == 2
    assert begun[0]["id"] == begun[1]["id"]
    assert sum(kind == "finish" for kind, _ in recorder.calls) == 2
    steps = [values["step"] for kind, values in recorder.calls if kind == "log" and "train/loss" in values]
    assert steps == list(range(1, 13))


class _Writer:
    """Stands for TensorBoard's ``SummaryWriter``."""

    made: list[_Writer] = []

    def __init__(self, folder: str) -> None:
        self.folder, self.scalars, self.closed = folder, [], False
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((step, name, value))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_every_number_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(_Writer, "made", [])
    monkeypatch.setattr(module, "SummaryWriter", _Writer, raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    engine.run(tmp_path, objective="routed", steps=4, tracker="tensorboard")
    (writer,) = _Writer.made
    assert writer.folder == str(tmp_path / "tensorboard")
    assert writer.closed
    expected = [
        (record["step"], name, value)
        for record in _expected(tmp_path)
        for name, value in record.items()
        if name != "step"
    ]
    assert writer.scalars == expected


def test_tensorboard_files_hold_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    engine.run(tmp_path, objective="distilled", steps=5, validate_every=0, tracker="tensorboard")
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    records = read_json_lines(tmp_path / "metrics.jsonl")
    for kind, name in (("train", "loss"), ("train", "forward_kl"), ("validation", "ce")):
        expected = [(record["step"], record[name]) for record in records if record["kind"] == kind]
        found = [(event.step, event.value) for event in read.Scalars(f"{kind}/{name}")]
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"training\.tracker: is '{name}'.*pip install 'stillroom\[track\]'"):
        engine.run(tmp_path, tracker=name)
