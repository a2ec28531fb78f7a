"""A page of every kind that this package writes, in every state that its readers meet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import test_inspection_page
import test_sandbox_recall_page
import test_teachers_page

from make_run import SKETCHES, Sketch, make_run, make_seeds, make_steps
from stillroom.report import build_page, build_report, compare_report
from stillroom.report.pages.inspection_page import write_inspection_page
from stillroom.results.inspected import AttentionPattern, InspectedCheckpoints, InspectedModel, Passage
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.run_bigram import run_bigram
from stillroom.study.progress import StageDisplay

ROOT = Path(__file__).parents[2]


def study(folder: Path) -> Path:
    return build_report(make_run(folder))


def study_over_training(folder: Path) -> Path:
    return build_report(make_steps(folder))


def study_of_twelve(folder: Path) -> Path:
    """More arms than colours, with names of every length, and no ladder."""
    names = ["DPT-90", "DPT-90, 15 % of positions routed by teacher entropy", "SPT on a quarter of all text, 4 passes"]
    arms = [Sketch(f"arm{n}", f"{names[n % 3]} ({n})", alpha=0.1 * n, loss=3.3 - n / 50) for n in range(1, 12)]
    return build_report(make_run(folder, "a study with many arms", sketches=(SKETCHES[0], SKETCHES[1], *arms)))


def study_of_one(folder: Path) -> Path:
    return build_report(make_run(folder, sketches=SKETCHES[1:2]))


def two_studies(folder: Path) -> Path:
    runs = [make_run(folder / "a", "made-up"), make_run(folder / "b", "made-up with a long name", seed=1)]
    return compare_report(runs, folder / "both.html")


def seeds(folder: Path) -> Path:
    return build_report(make_seeds(folder))


def bigram(folder: Path) -> Path:
    sweep = BigramSweep(
        states=8, samples=(50, 500, 5000), alphas=(0.5, 0.9), teachers=("exact", "uniform:0.1", "uniform:0.2"),
        temperatures=(0.5, 2.0), routings=("none", "0.5"), seeds=2, ratio_supports=(4, 6), gradient_samples=512,
        transformer_tokens=0,
    )  # fmt: skip
    run_bigram(sweep, folder, None, StageDisplay())
    return build_page(folder)[0]


def recall(folder: Path) -> Path:
    return build_page(test_sandbox_recall_page.make_run(folder, (0, 1, 2)))[0]


def recall_of_many(folder: Path) -> Path:
    run = test_sandbox_recall_page.make_run(folder)
    results = json.loads((run / "sandbox.json").read_text())
    arm = test_sandbox_recall_page.arm
    results["arms"] += [arm(f"dpt{n}", f"DPT {n}", 0.3 + n / 50, (0,), "leaking", False) for n in range(10)]
    (run / "sandbox.json").write_text(json.dumps(results))
    return build_page(run)[0]


def teachers(folder: Path) -> Path:
    """The ranking that is frozen in the repository."""
    folder.mkdir()
    values = json.loads((ROOT / "experiments/033_teachers/ranking.json").read_text())
    for one in (values["student"], *values["teachers"]):
        one.setdefault("path", "frozen without it")
    (folder / "ranking.json").write_text(json.dumps(values))
    return build_page(folder)[0]


def teachers_of_a_proxy(folder: Path) -> Path:
    folder.mkdir()
    values = test_teachers_page.ranking("short", "a-rather-long-name-of-a-teacher", "c", proxies=True)
    (folder / "ranking.json").write_text(json.dumps(values))
    return build_page(folder)[0]


def law(folder: Path) -> Path:
    """A law that was fitted to twenty-seven made-up students, with two draws of the bootstrap."""
    folder.mkdir()
    shutil.copyfile(Path(__file__).with_name("made_up_law.json"), folder / "law.json")
    return build_page(folder)[0]


def inspection(folder: Path) -> Path:
    tokens = ("The", " cat", " sat", " on", " the", " mat", ".\n", " The", " cat", " sat")
    rows = tuple(tuple(1 / (row + 1) if key <= row else 0.0 for key in range(10)) for row in range(10))
    heads = test_inspection_page.HEADS
    found = InspectedModel(
        "runs/mine/models/dpt90", heads, heads.previous_token,
        tuple(AttentionPattern(f"layer 1 head {head}", rows, tokens) for head in range(2)),
        "runs/mine/models/spt", (Passage(tokens, tuple((place - 5) / 2 for place in range(10))),),
    )  # fmt: skip
    write_inspection_page(folder.with_suffix(".html"), found)
    return folder.with_suffix(".html")


def inspection_over_training(folder: Path) -> Path:
    scores = {"previous token": (0.1, 0.4, 0.9), "prefix matching": (0.1, 0.2, 0.8), "copying": (0.0, 0.1, 0.7)}
    write_inspection_page(
        folder.with_suffix(".html"), InspectedCheckpoints("runs/mine", (100, 200, 300), scores, (4.0, 3.5, 1.0))
    )
    return folder.with_suffix(".html")


PAGES: tuple[Callable[[Path], Path], ...] = (
    *(study, seeds, bigram, recall, teachers, law, inspection, inspection_over_training),
)
"""One of every template."""
MORE_PAGES: tuple[Callable[[Path], Path], ...] = (
    *(study_over_training, study_of_twelve, study_of_one, two_studies, recall_of_many, teachers_of_a_proxy),
)
"""The same with more or less on them."""
