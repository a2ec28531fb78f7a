"""``stillroom doctor``: every fault that can be had is told in one sentence with what to do, and nothing else is."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from stillroom.cli import health
from stillroom.cli.health import Health, TorchFacts, examined, what_is_wrong
from stillroom.cli.main import run

TORCH = TorchFacts(
    cuda="", device="cpu", processor="A processor", multiplies_bf16=True, threads=4,
    import_seconds={"torch": 1.0, "stillroom.objectives": 0.04, "stillroom.models": 1.5},
)  # fmt: skip
HEALTHY = Health(
    stillroom="1.0.0", python="CPython 3.12.1", system="Linux", packages={"torch": "2.11"}, unmet=(), torch=TORCH,
    torch_error="", has_accelerator=False, cores=4, core_quota=None, memory_bytes=2**34, free_memory_bytes=2**33,
    free_disk_bytes=2**36, is_writable=True, jail="bubblewrap", jail_error="",
    start_seconds={"python": 0.02, "stillroom": 0.15}, encoding="utf-8", has_other_command=False,
)  # fmt: skip
WRONG = {
    "an old package": (replace(HEALTHY, unmet=("rich>=13.9",)), "rich>=13.9; pip install 'rich>=13.9'"),
    "no torch": (
        replace(HEALTHY, torch=None, torch_error="No module named 'torch'"),
        r"imported \(No module named 'torch'\)",
    ),
    "a GPU that torch was not built for": (replace(HEALTHY, has_accelerator=True), r"built without CUDA\); install"),
    "a GPU whose driver is too old": (
        replace(HEALTHY, has_accelerator=True, torch=replace(TORCH, cuda="13.0")),
        r"built for 13.0, which the driver does not offer\); install",
    ),
    "CUDA without a GPU": (replace(HEALTHY, torch=replace(TORCH, cuda="13.0")), "the CPU build"),
    "a slow disk": (
        replace(HEALTHY, torch=replace(TORCH, import_seconds={"torch": 44.6})),
        "takes 45 s; .* make it on a local one",
    ),
    "a container with less time than cores": (replace(HEALTHY, core_quota=1.5), "time of 2; .* taskset -c 0-1"),
    "more threads than cores": (replace(HEALTHY, torch=replace(TORCH, threads=64)), "set OMP_NUM_THREADS=4"),
    "no memory": (replace(HEALTHY, free_memory_bytes=2**30), "1.0 GiB of memory are free, .* end other programs"),
    "a full disk": (replace(HEALTHY, free_disk_bytes=2**29), "0.5 GiB are free on this folder's disk; free some"),
    "a folder that is not ours": (replace(HEALTHY, is_writable=False), "cannot be written, .* give --out"),
    "no jail": (replace(HEALTHY, jail="", jail_error="sandbox: none; install bubblewrap."), "install bubblewrap"),
    "another environment's command": (replace(HEALTHY, has_other_command=True), "another Python; activate"),
    "a terminal of letters": (replace(HEALTHY, encoding="ascii"), "encoded as ascii, .* set PYTHONUTF8=1"),
}


def test_a_healthy_machine_is_called_so():
    assert what_is_wrong(HEALTHY) == []
    assert what_is_wrong(replace(HEALTHY, memory_bytes=0, free_memory_bytes=0)) == []  # a system that does not tell


@pytest.mark.parametrize("what", WRONG)
def test_each_fault_is_one_sentence_with_what_to_do(what):
    machine, sentence = WRONG[what]
    (found,) = what_is_wrong(machine)
    assert found.endswith(".") and "\n" not in found
    assert re.search(sentence, found), found


def _printed(monkeypatch, capsys, machine: Health, *options: str) -> tuple[object, str]:
    monkeypatch.setattr(health, "examined", lambda: machine)
    with pytest.raises(SystemExit) as left:
        run(["doctor", *options])
    return left.value.code, capsys.readouterr().out


def test_it_ends_with_1_only_where_nothing_can_be_trained(monkeypatch, capsys):
    for what, (machine, _) in WRONG.items():
        code, shown = _printed(monkeypatch, capsys, machine)
        assert code == (1 if what == "no torch" else 0)
        assert shown.count("\nwrong ") == 1 and "nothing is wrong" not in shown
    code, shown = _printed(monkeypatch, capsys, HEALTHY)
    assert code == 0 and shown.endswith("nothing is wrong.\n")
    assert "torch 2.11" in shown and "bf16          native" in shown and "start stillroom 0.15" in shown


def test_json_has_every_fact_and_every_fault(monkeypatch, capsys):
    _, shown = _printed(monkeypatch, capsys, replace(HEALTHY, is_writable=False), "--json")
    found = json.loads(shown)
    assert found["torch"]["device"] == "cpu" and found["core_quota"] is None and found["cores"] == 4
    assert found["wrong"] == what_is_wrong(replace(HEALTHY, is_writable=False))


def test_this_machine_is_measured_and_nobody_is_named():
    machine = examined()
    assert machine.torch is not None, machine.torch_error
    assert set(machine.torch.import_seconds) == {"torch", "stillroom.objectives", "stillroom.models"}
    assert (
        machine.packages["torch"] and machine.free_disk_bytes > 0 and machine.memory_bytes >= machine.free_memory_bytes
    )
    assert all(seconds > 0 for seconds in machine.start_seconds.values())
    for private in (str(Path.cwd()), str(Path.home()) if str(Path.home()) != "/" else socket.gethostname()):
        assert private not in repr(machine)
    assert getpass.getuser() == "root" or getpass.getuser() not in repr(machine)


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (1, "Traceback\n  at x\nImportError: libcudart.so.13: no such file", "ImportError: libcudart.so.13"),
        (-4, "", "-4"),
    ],
    ids=["raises", "is killed"],
)
def test_a_torch_that_does_not_come_is_told_with_its_last_words(monkeypatch, code, output, reason):
    done = subprocess.CompletedProcess([], code, "", output)
    monkeypatch.setattr(health.subprocess, "run", lambda *_, **__: done)
    torch, error = health._asked_of_torch()
    assert torch is None and reason in error


def test_a_torch_that_never_comes_is_not_waited_for(monkeypatch):
    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 300)

    monkeypatch.setattr(health.subprocess, "run", hangs)
    assert health._asked_of_torch() == (None, "nothing was imported within 300 s")


def test_requirements_are_those_of_the_package(monkeypatch):
    asked = ["torch>=999", "numpy>=1", "nowhere>=1; extra == 'far'", "pytest>=1; extra == 'near'"]
    monkeypatch.setattr(health.metadata, "requires", lambda _: asked)
    monkeypatch.setattr(health.metadata, "metadata", lambda _: _Extras())
    packages, unmet, extras = health._required()
    assert set(packages) == {"torch", "numpy"} and unmet == ("torch>=999",) and extras == ("near",)


class _Extras:
    def get_all(self, _: str) -> list[str]:
        return ["far", "near"]


def test_a_source_that_is_not_installed_is_told(monkeypatch):
    def missing(name: str) -> None:
        raise health.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(health.metadata, "requires", missing)
    assert health._required() == ({}, ("stillroom",), ())


def test_limits_of_a_container_count(monkeypatch, tmp_path):
    for name, text in (("cpu.max", "150000 100000"), ("memory.max", "1000"), ("memory.current", "400")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(health, "_CGROUP", tmp_path)
    assert health._core_quota() == 1.5 and health._memory() == (1000, 600)
    (tmp_path / "cpu.max").write_text("max 100000")
    (tmp_path / "memory.max").write_text("max")
    assert health._core_quota() is None and health._memory()[0] > 2**20


def test_a_command_of_another_environment_is_seen(monkeypatch, tmp_path):
    command = tmp_path / "stillroom"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert health._has_other_command()
