"""The study in three steps, in this order: ``pilots``, ``forecast``, ``outcome``; each goes on where it was stopped.

python experiments/060_forecast/run.py pilots --jobs 2
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from stillroom.config import StudyConfig
from stillroom.files import read_json, write_json
from stillroom.laws.fitting import fit_law
from stillroom.laws.forecasts import PlannedStudent, expected_losses, forecast
from stillroom.laws.law_file import Law, load_law
from stillroom.laws.points import Points, read_pilots
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError

HERE = Path(__file__).parent
PILOTS = ("small", "small_early", "middle", "middle_early", "large", "large_early")
TARGETS = ("larger", "larger_early", "longer", "longer_early")
LAW, FORECASTS, RESULTS = (HERE / name for name in ("law.json", "forecasts.json", "results.json"))


def train(recipes: list[str], runs: Path, jobs: int) -> list[Path]:
    """Runs the studies and returns their folders."""
    from stillroom.study.pipeline import run_study
    from stillroom.study.progress import StageDisplay

    folders = []
    for recipe in recipes:
        config = resolve_recipe(recipe)
        assert isinstance(config, StudyConfig)
        folders.append(run_study(config, runs / config.name, runs / "artifacts", StageDisplay(), jobs=jobs))
    return folders


def foretold(pilots: Points) -> list[dict[str, object]]:
    """Every target with its forecast; sizes are counted from its configuration, teachers' losses are the pilots'."""
    law, rows = load_law(str(LAW)), []
    losses = np.unique(pilots.distilled.teacher_P)
    for name in TARGETS:
        config = resolve_recipe(f"{HERE / 'recipe.py'}:{name}")
        assert isinstance(config, StudyConfig)
        model = config.student
        size = model.num_layers * (4 * model.hidden_size**2 + 3 * model.hidden_size * model.intermediate_size)
        teacher = float(losses[-1] if name.endswith("early") else losses[0])  # the early one is the worse one
        for arm, one in config.arms.items():
            tokens = config.training.tokens * one.data
            student = PlannedStudent(size, tokens, teacher)
            loss = expected_losses(law, student)[one.alpha > 0]
            rows.append({
                "study": name, "arm": arm, "N": size, "D": tokens, "teacher": teacher if one.alpha else None,
                "forecast": {end: getattr(loss, end) for end in ("value", "low", "high")},
                "refused": refusal(law, student) if one.alpha else None,
                "baselines": baselines(pilots, size, tokens, teacher, one.alpha > 0),
            })  # fmt: skip
    return rows


def refusal(law: Law, student: PlannedStudent) -> str | None:
    """Why ``stillroom forecast`` would give no number; None where it gives one."""
    try:
        forecast(law, student)
    except UserError as error:
        return str(error)
    return None


def without_folders(file: Path) -> None:
    """Leaves of the pilots' names in a law their last part, which is the same on every machine."""
    values = read_json(file)
    for point in values["points"]:
        point[-1] = point[-1].rpartition("/")[2]
    write_json(file, values)


def baselines(pilots: Points, N: float, D: float, teacher: float, distilled: bool) -> dict[str, float]:
    """What a plain power law in N, D (and the teacher's loss) says, and the loss of the nearest pilot."""
    points = pilots.distilled if distilled else pilots.hard
    columns = [np.log(points.N_P), np.log(points.D_P)] + ([np.log(points.teacher_P)] if distilled else [])
    known = np.stack([np.ones(len(points)), *columns], axis=1)
    asked = np.array([1.0, np.log(N), np.log(D)] + ([np.log(teacher)] if distilled else []))
    power = np.linalg.lstsq(known, np.log(points.loss_P), rcond=None)[0]
    nearest = int(np.argmin(((known - asked) ** 2).sum(axis=1)))
    return {"power_law": float(np.exp(asked @ power)), "nearest": float(points.loss_P[nearest])}


def outcome(rows: list[dict], runs: list[Path]) -> dict[str, object]:
    """Forecast beside outcome, and the answers to the three hypotheses."""
    from stillroom.results.runs import load

    measured = {
        (name, model.record.name): model for name, run in zip(TARGETS, runs, strict=True) for model in load(run).models
    }
    for row in rows:
        suite = measured[row["study"], row["arm"]].evaluation.lm
        assert suite is not None and suite.nats_per_token is not None
        row["outcome"] = suite.nats_per_token.value
    return answers(rows)


def answers(rows: list[dict]) -> dict[str, object]:
    """The three hypotheses, from forecasts and outcomes."""
    inside = [row["forecast"]["low"] <= row["outcome"] <= row["forecast"]["high"] for row in rows]
    by_place = {(row["study"].removesuffix("_early"), row["arm"], row["study"].endswith("early")): row for row in rows}
    signs, orders = [], []
    for (study, arm, early), row in by_place.items():
        if not arm.startswith("dpt90"):
            continue
        hard, other = by_place[study, arm.replace("dpt90", "spt"), False], by_place[study, arm, not early]
        signs.append((row["forecast"]["value"] < hard["forecast"]["value"]) == (row["outcome"] < hard["outcome"]))
        orders.append((row["forecast"]["value"] < other["forecast"]["value"]) == (row["outcome"] < other["outcome"]))
    errors = {
        "all": mean_errors(rows),
        "hard": mean_errors([row for row in rows if row["teacher"] is None]),
        "distilled": mean_errors([row for row in rows if row["teacher"] is not None]),
    }
    return {
        "targets": {name: {row["arm"]: row for row in rows if row["study"] == name} for name in TARGETS},
        "mean_relative_error": errors, "inside": int(sum(inside)), "num": len(rows),
        "signs_right": int(sum(signs)), "signs": len(signs),
        "orders_right": int(sum(orders)) // 2, "orders": len(orders) // 2,
    }  # fmt: skip


def mean_errors(rows: list[dict]) -> dict[str, float]:
    """The mean relative error of the law, of a plain power law and of the nearest pilot."""
    said = {"law": [row["forecast"]["value"] for row in rows]}
    said |= {name: [row["baselines"][name] for row in rows] for name in ("power_law", "nearest")}
    outcomes = np.array([row["outcome"] for row in rows])
    return {name: float(np.mean(abs(np.array(values) / outcomes - 1))) for name, values in said.items()}


def main() -> None:
    """Reads the command line and does one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("pilots", "forecast", "outcome"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/060-forecast"))
    options = parser.parse_args()
    names = [f"pilots-{name.replace('_', '-')}" for name in PILOTS]
    folders = [options.runs / name for name in names]
    if options.step == "pilots":
        folders = train([f"pilots:{name}" for name in PILOTS], options.runs, options.jobs)
        fit_law("060", read_pilots(folders)).save(LAW)
        without_folders(LAW)
    elif options.step == "forecast":
        if RESULTS.exists():
            sys.exit("results.json is there: forecasts are written before the targets are trained.")
        write_json(FORECASTS, foretold(read_pilots(folders).points))
    else:
        rows = read_json(FORECASTS, "the forecasts, written first by the step forecast")
        runs = train([f"{HERE / 'recipe.py'}:{name}" for name in TARGETS], options.runs, options.jobs)
        write_json(RESULTS, outcome(rows, runs))


if __name__ == "__main__":
    main()
