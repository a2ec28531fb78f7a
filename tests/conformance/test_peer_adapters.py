"""The page on peers says what was frozen, every failure has its reproduction, and installed peers still do it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from stillroom.conformance import PROPERTIES

ROOT = Path(__file__).parents[2]
ADAPTERS = ROOT / "examples" / "conformance"


def script(path: str) -> ModuleType:
    """A script of this repository as a module."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), ROOT / f"{path}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PEERS = script("docs/peers")
FROZEN = json.loads(PEERS.FROZEN.read_text(encoding="utf-8"))
BROKEN = [
    (place, name)
    for place, one in FROZEN["results"].items()
    for name, (outcome, _) in one["verdicts"].items()
    if outcome == "broken"
]


def test_the_page_on_peers_is_that_of_the_frozen_verdicts() -> None:
    assert PEERS.PAGE.read_text(encoding="utf-8") == PEERS.page(), "run python docs/peers.py"


def test_every_failure_has_a_reproduction_of_a_few_lines_and_none_is_left_over() -> None:
    needed = {PEERS.reproduction(place, name) for place, name in BROKEN}
    assert needed == set(PEERS.REPRODUCTIONS.glob("*.py"))
    assert all(len(file.read_text().splitlines()) <= 40 for file in needed)


def test_every_frozen_verdict_is_of_a_property_and_every_adapter_was_run() -> None:
    assert all(one["verdicts"].keys() == PROPERTIES.keys() for one in FROZEN["results"].values())
    places = script("benchmarks/conformance").PLACES
    assert FROZEN["results"].keys() == places.keys()
    files = {file.stem for file in ADAPTERS.glob("*_adapter*.py")}
    assert files == {place.partition(":")[0] for place in places if "." not in place}


@pytest.mark.parametrize("file", sorted(ADAPTERS.glob("*_adapter*.py")), ids=lambda file: file.stem)
def test_an_adapter_is_a_page_at_most(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 100


def versions() -> dict[str, str]:
    """Of the frozen libraries: those that are installed."""
    found = {}
    for library in FROZEN["versions"]:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@pytest.mark.real
@pytest.mark.parametrize("place", FROZEN["results"], ids=str)
def test_a_peer_that_is_installed_does_what_was_frozen(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: the adapters put bare packages in the place of the libraries'."""
    library = FROZEN["results"][place]["library"]
    if library != "stillroom" and versions().get(library) != FROZEN["versions"][library]:
        pytest.skip(f"{library} {FROZEN['versions'][library]} is not installed")
    code = (
        "import json, sys; sys.path.insert(0, 'benchmarks'); import conformance;"
        f"print(json.dumps(conformance.judged({place!r})['verdicts']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    frozen = FROZEN["results"][place]["verdicts"]
    assert {name: outcome for name, (outcome, _) in found.items()} == {name: one for name, (one, _) in frozen.items()}


@pytest.mark.real
@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case[0]}-{case[1]}")
def test_a_reproduction_runs(case: tuple[str, str], tmp_path: Path) -> None:
    library = FROZEN["results"][case[0]]["library"]
    if library not in versions():
        pytest.skip(f"{library} is not installed")
    packages, folder = ("torchtune.modules.loss", "modelopt.torch.distill", "axolotl.integrations.kd.kernels"), ADAPTERS
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(folder)!r}); from peer_files import bare;"
        f"[bare(one) for one in {packages!r}]; runpy.run_path({str(PEERS.reproduction(*case))!r})"
    )
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=os.environ | alone)
    assert ran.returncode == 0 and ran.stdout, ran.stderr
