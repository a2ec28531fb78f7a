"""What students side by side gain: a study of four students one after another, and two at a time, on the same machine.

    python benchmarks/jobs.py [--tokens 500000] [--rounds 3]

Both begin with the corpus and the teacher there. Every student is the quickstart's, trained on hard labels and
evaluated on held-out text; the start of processes counts. The ratio of wall times is told with its range.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
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


def seconds(config: StudyConfig, begun: Path, folder: Path, jobs: int) -> float:
    """Wall time of the study from what was begun, in a folder of its own."""
    shutil.copytree(begun, folder, symlinks=True)
    begin = time.perf_counter()
    run_study(config, folder / "run", folder / "artifacts", StageDisplay(), jobs=jobs)
    return time.perf_counter() - begin


def main() -> None:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "jobs.json")
    asked = parser.parse_args()
    config = study(asked.tokens, STUDENTS)
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        begun = Path(place, "begun")
        run_study(study(asked.tokens, 1), begun / "run", begun / "artifacts", StageDisplay())
        shutil.rmtree(begun / "run")
        for number in range(asked.rounds):
            for jobs in (1, 2) if number % 2 == 0 else (2, 1):
                times[jobs].append(seconds(config, begun, Path(place, f"{number}-{jobs}"), jobs))
    ratios = [one / two for one, two in zip(times[1], times[2], strict=True)]
    found = {
        "date": str(date.today()), "cores": os.cpu_count(), "torch": torch.__version__, "students": STUDENTS - 1,
        "tokens": asked.tokens, "seconds": {str(jobs): taken for jobs, taken in times.items()}, "reach": REACH,
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
    }  # fmt: skip
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
