"""The wheel on every Python that is here with the newest packages, and on the oldest with the oldest: make test-matrix.

    python .ci/matrix.py --pythons 3.11 3.12

Each environment is made by uv from the wheel in dist/, in a folder that is empty otherwise. There a study of seconds is
run from corpus to page, and tests of what others import. A Python that is not on this machine is named and left out.
The oldest packages were never built for newer Pythons, so they are tried on the oldest one alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
TESTS = (
    "tests/test_config.py", "tests/test_yamlfiles.py", "tests/cli/test_doctor.py", "tests/laws/test_forms.py",
    "tests/objectives/test_fused_head.py", "tests/objectives/test_bare.py", "tests/results/test_statistics.py",
    "tests/labels/test_label_codecs.py", "tests/worlds/test_worlds_facts.py",
)  # fmt: skip
STUDY = (
    "study tiny --out run --set corpus.train_tokens=16384 --set corpus.heldout_tokens=4096 --set training.tokens=8192 "
    "--set teacher.training.tokens=8192 --set evaluation.heldout_sequences=16 --set evaluation.problems=4"
)
COMMANDS = (
    "--version",
    STUDY,
    "report run --out page.html",
    "inspect run:labels",
    "export run:dpt90 student",
    "doctor",
)


def uv(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs the uv that stands beside this Python."""
    return subprocess.run([Path(sys.executable).parent / "uv", *arguments], text=True, **options)  # type: ignore[call-overload]


def found(python: str) -> str | None:
    """The interpreter of a version; nothing is downloaded."""
    asked = uv("python", "find", "--no-python-downloads", "--system", python, capture_output=True)
    return asked.stdout.strip() if asked.returncode == 0 else None


def passes(python: str, resolution: str, wheel: Path, folder: Path) -> bool:
    """Whether the package works there."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STILLROOM_CACHE": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)
    inside = folder / "venv" / "bin"
    uv("venv", "--quiet", "--python", python, folder / "venv", check=True)
    uv("pip", "install", "--quiet", "--python", inside / "python", "--resolution", resolution, wheel, check=True)
    tools = ("install", "--quiet", "--python", inside / "python", "pytest>=8.3", "hypothesis>=6.115")
    uv("pip", *tools, check=True)
    work = folder / "empty"
    work.mkdir()
    for command in COMMANDS:
        called = [inside / "stillroom", *command.split()]
        done = subprocess.run(called, cwd=work, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout[-4000:], done.stderr[-4000:], f"stillroom {command}: exit {done.returncode}", sep="\n")
            return False
    tests = [ROOT / one for one in TESTS]
    called = [inside / "python", "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *tests]
    return subprocess.run(called, cwd=ROOT, env=environment, check=False).returncode == 0


def main() -> None:
    """Tries each, says what came out, and ends with 1 where one failed or none was there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=PYTHONS)
    parser.add_argument("--packages", nargs="+", choices=RESOLUTIONS, default=[*RESOLUTIONS])
    parser.add_argument("--wheel", type=Path, default=None, help="default: the one in dist/")
    asked = parser.parse_args()
    wheel = asked.wheel or max((ROOT / "dist").glob("*.whl"), key=lambda file: file.stat().st_mtime)
    results = {}
    for python in asked.pythons:
        interpreter = found(python)
        if interpreter is None:
            print(f"Python {python}: not on this machine, left out", flush=True)
            continue
        for packages in asked.packages:
            if packages == "oldest" and python != PYTHONS[0]:
                continue
            start, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="stillroom-matrix-"))
            passed = passes(interpreter, RESOLUTIONS[packages], wheel.resolve(), folder)
            shutil.rmtree(folder, ignore_errors=True)
            results[python, packages] = passed
            what = "passes" if passed else "FAILS"
            print(f"Python {python}, {packages} packages: {what} in {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(0 if results and all(results.values()) else 1)


if __name__ == "__main__":
    main()
