"""Labelling takes no more memory for more tokens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys
from stillroom.cli.main import run
try:
    run()
except SystemExit as end:
    assert not end.code, end.code
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mebibytes(folder: Path, tokens: int) -> int:
    """The largest memory of a process that labels so many tokens of a world."""
    world = 'world:bigram:{"states": 50}'
    arguments = ["label", world, "--tokens", str(tokens), "--length", "256", "--out", str(folder)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout.rsplit("peak", 1)[1])


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_tokens(tmp_path: Path) -> None:
    few, many = (peak_mebibytes(tmp_path / str(tokens), tokens) for tokens in (65_536, 524_288))
    size = sum(file.stat().st_size for file in (tmp_path / "524288").rglob("*.bin")) / 2**20
    assert size > 5  # MiB of labels; held in memory as ids and weights they would be many times that
    assert many < few + 20
