"""What students side by side gain: four of them one after another on one core, on two, and two at a time.

    python benchmarks/jobs.py [--tokens 1800000] [--rounds 3]

All begin with the corpus and the teacher there. Every student is the quickstart's, trained on hard labels and
evaluated on held-out text; the start of processes counts. Ratios of wall times are told with their range. Every way is
a process of its own, since threads that are there keep the cores that they had.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

from stillroom.config import ArmConfig, StudyConfig
from stillroom.recipes.quickstart import quickstart
from stillroom.study.pipeline import run_study
from stillroom.study.progress import StageDisplay

STUDENTS, REACH = 5, 1.8  # one of them is there before


def study(tokens: int, students: int) -> StudyConfig:
    """The quickstart with so many seeds of one arm, and a teacher of few steps."""
    made = quickstart()
    arms = {f"spt{seed}": ArmConfig(seed=seed) for seed in range(students)}
    text = made.corpus.model_copy(update={"train_tokens": tokens, "heldout_tokens": 16_384})
    training = made.training.model_copy(update={"tokens": tokens})
    teacher = made.teacher.model_copy(update={"training": training.model_copy(update={"tokens": min(tokens, 32_768)})})
    tasks = made.evaluation.model_copy(update={"suites": ("lm",), "heldout_sequences": 128})
    return made.model_copy(
        update={"arms": arms, "corpus": text, "training": training, "teacher": teacher, "evaluation": tasks}
    )


WAYS = {"one core": (1, 1), "two cores, one job": (2, 1), "two jobs": (2, 2)}
"""Cores and jobs."""


def seconds(asked: argparse.Namespace, begun: Path, folder: Path, way: str) -> float:
    """Wall time of the study from what was begun, in a folder and a process of its own."""
    shutil.copytree(begun, folder, symlinks=True)
    (cores, _), all_cores = WAYS[way], os.sched_getaffinity(0)
    command = [sys.executable, __file__, "--tokens", str(asked.tokens), "--way", way, "--folder", str(folder)]
    os.sched_setaffinity(0, sorted(all_cores)[:cores])  # processes that are started have it too
    try:
        begin = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - begin
    finally:
        os.sched_setaffinity(0, all_cores)


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times as fast, by round."""
    found = [one / two for one, two in zip(slow, fast, strict=True)]
    return {"value": statistics.median(found), "low": min(found), "high": max(found)}


def main() -> None:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_800_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "jobs.json")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way is not None:
        config, folder = study(asked.tokens, STUDENTS), asked.folder
        run_study(config, folder / "run", folder / "artifacts", StageDisplay(), jobs=WAYS[asked.way][1])
        return
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        begun = Path(place, "begun")
        run_study(study(asked.tokens, 1), begun / "run", begun / "artifacts", StageDisplay())
        shutil.rmtree(begun / "run")
        for number in range(asked.rounds):
            for way in sorted(WAYS, reverse=bool(number % 2)):
                times[way].append(seconds(asked, begun, Path(place, f"{number}-{way}"), way))
    found = {
        "date": str(date.today()), "cores": os.cpu_count(), "torch": torch.__version__, "students": STUDENTS - 1,
        "tokens": asked.tokens, "seconds": times, "reach": REACH,
        "two-jobs-over-one-core": ratio(times["one core"], times["two jobs"]),
        "two-jobs-over-two-threads": ratio(times["two cores, one job"], times["two jobs"]),
    }  # fmt: skip
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
