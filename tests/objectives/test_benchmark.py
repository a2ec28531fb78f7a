"""The benchmark script runs and writes what the documentation quotes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "head.py"


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["hard", "dense"])
def test_script_measures_time_and_memory(tmp_path, measure):
    sizes = ["--positions", "64", "--vocab", "300", "--width", "16", "--repeats", "3", "--memory", "--device", "cpu"]
    command = [sys.executable, str(SCRIPT), "--measure", measure, "--out", str(tmp_path), *sizes]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    assert {"device", "cores", "torch", "date", "command"} <= set(result["machine"])
    first = result["ratios"][0]
    assert first["time"]["num"] == 3 and first["time"]["low"] <= first["time"]["median"] <= first["time"]["high"]
    assert all(value > 0 for value in result["memory_added_mib"].values())
