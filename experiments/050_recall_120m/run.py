"""Runs the recall study with students of 120M parameters, seed by seed, in slices; the same command goes on.

    python experiments/050_recall_120m/run.py --minutes 9
    python experiments/050_recall_120m/run.py --dry-run
    python experiments/050_recall_120m/run.py --tiny --runs /tmp/recall --out /tmp/recall   # seconds on a processor

The pilot comes first and writes ``size.json``, every complete seed ``seed-N.json``, and all together ``results.json``.
What of these is there is not made again, wherever the cells are. What is asked and how it is decided: README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from stillroom.config import ModelConfig
from stillroom.files import read_json, write_json
from stillroom.results.json_form import write
from stillroom.sandbox.recall.recall_cell import HELDOUT_SEED
from stillroom.sandbox.recall.recall_config import (
    RecallArmConfig,
    RecallConfig,
    RecallProbeConfig,
    RecallTeacherConfig,
    RecallWorldConfig,
)
from stillroom.sandbox.recall.recall_data import make_recall_world
from stillroom.sandbox.recall.recall_plan import plan_lines
from stillroom.sandbox.recall.recall_presets import sandbox_120m, training
from stillroom.sandbox.recall.recall_probes import measures, recall_truth
from stillroom.sandbox.recall.recall_results import crossing
from stillroom.sandbox.recall.run_recall import Cells, build_cells, results
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.environment import this_environment
from stillroom.study.progress import StageDisplay

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "020_recall")]
from grid import TEACHERS, arm  # noqa: E402
from slices import stop_after  # noqa: E402
from tables import Results, contrasts, damage, lean, remedy  # noqa: E402

SEEDS = (0, 1, 2, 3, 4)
PILOT_SEED, PILOT_STEPS, FEWEST_STEPS = 100, 800, 100
EARLY, MIDDLE, RISE = 0.3, 0.7, 0.2
"""Parts of the rise of the pilot's copy accuracy at which teachers are taken, and the least rise that is one."""
GRID: dict[str, tuple[str, ...]] = {
    "dpt90": ("early", "middle", "late", "leak-0.1"),
    "copy-15": ("early", "middle"),
    "entropy-15": ("early", "middle"),
    "random-15": ("early", "middle"),
}
Values = dict[str, Any]


def pilot(*, tiny: bool) -> RecallConfig:
    """Hard labels alone, at a seed that the study does not use."""
    base = sandbox_120m()
    changes: Values = {
        "name": "050-pilot", "arms": {"spt": RecallArmConfig(label="SPT")}, "teachers": {}, "seeds": (PILOT_SEED,),
        "keep_models": False, "probes": RecallProbeConfig(sequences=64, pattern_sequences=4, per_doubling=4),
        "training": training(PILOT_STEPS, 256, 6e-4, 100).model_copy(
            update={"micro_batch_sequences": 64, "checkpoint_seconds": 120.0}
        ),
    }  # fmt: skip
    if tiny:
        changes |= {
            "world": RecallWorldConfig(characters=8, triggers=2, sequence_length=16),
            "model": ModelConfig(hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, max_positions=16),
            "training": training(4, 4, 6e-3),
            "probes": RecallProbeConfig(sequences=8, pattern_sequences=2, per_doubling=1),
        }
    return base.model_copy(update=changes)


def study(size: Values, seed: int, *, tiny: bool) -> RecallConfig:
    """All arms of one seed, as long as the pilot says and with the teachers taken where it says."""
    base = pilot(tiny=tiny)
    taken = {name: RecallTeacherConfig(kind="trained", until=size[name]) for name in ("early", "middle")}
    arms = {"spt": RecallArmConfig(label="SPT")}
    arms |= {f"{method}@{teacher}": arm(method, teacher) for method, taught in GRID.items() for teacher in taught}
    return RecallConfig.model_validate(base.model_dump() | {
        "name": "050-recall-120m", "seeds": (seed,), "arms": arms,
        "teachers": {"late": TEACHERS["late"], "leak-0.1": TEACHERS["leak-0.1"], **taken},
        "training": training(size["steps"], base.training.batch_sequences, base.training.learning_rate, 100).model_copy(
            update={name: getattr(base.training, name) for name in ("micro_batch_sequences", "checkpoint_seconds")}
        ),
    })  # fmt: skip


def without_copying(config: RecallConfig) -> float:
    """Copy accuracy of one who knows the bigrams and looks at nothing else."""
    world = make_recall_world(config.world)
    truth = recall_truth(world, config.probes.sequences, config.world.sequence_length, seed=HELDOUT_SEED)
    rows = torch.from_numpy(world.bigrams.rows_VV).float()[truth.batch.tokens_BT[:, :-1]]
    return measures(rows, truth)["copy_accuracy"] or 0.0


def size_of(config: RecallConfig, probes: list[Values], floor: float) -> Values:
    """Steps of the study and copy accuracies of its unfinished teachers, from the pilot's curve; see README.md."""
    last = probes[-1]["copy_accuracy"]
    early, middle = (floor + part * (last - floor) for part in (EARLY, MIDDLE))
    curve = [probe["tokens"] for probe in probes], [probe["copy_accuracy"] for probe in probes]
    half = crossing(*curve, (floor + last) / 2)
    steps = config.steps if half is None else round(2 * half / config.tokens_per_step)
    return {
        "steps": max(min(FEWEST_STEPS, config.steps), min(config.steps, steps)), "early": max(0.0, early),
        "middle": max(0.0, middle), "floor": floor, "pilot": last, "formed": last - floor >= RISE,
    }  # fmt: skip


def of_seed(config: RecallConfig, runs: Path, path: Path) -> Values:
    """The results of a seed, once every cell of it is there."""
    if not path.exists():
        cells = Cells(config, ArtifactStore(runs))
        build_cells(cells, StageDisplay())
        write_json(path, lean(results(cells, 0.0, {})))
    return read_json(path)


def sized(runs: Path, out: Path, *, tiny: bool) -> Values:
    """What the pilot found, written once: what is said of the study's length cannot change after it."""
    path, config = out / "size.json", pilot(tiny=tiny)
    if not path.exists():
        build_cells(Cells(config, ArtifactStore(runs)), StageDisplay())
        (curve,) = results(Cells(config, ArtifactStore(runs)), 0.0, {}).arms[0].seeds
        probes = [{"tokens": probe.tokens, "copy_accuracy": probe.copy_accuracy or 0.0} for probe in curve.probes]
        write_json(path, size_of(config, probes, without_copying(config)))
    return read_json(path)


def joined(parts: list[Values]) -> Values:
    """Results of several seeds as those of one study."""
    arms = [
        same[0] | {"seeds": {seed: found for one in same for seed, found in one["seeds"].items()}}
        for same in zip(*(part["arms"] for part in parts), strict=True)
    ]
    teachers = {str(part["seeds"][0]): part["teachers"] for part in parts}
    return parts[0] | {"arms": arms, "seeds": [seed for part in parts for seed in part["seeds"]], "teachers": teachers}


def answers(found: Values) -> Values:
    """The words that the rules allow; none before three seeds."""
    if len(found["seeds"]) < 3:
        return {}
    read = Results(found)
    routed = {f"{method}@{teacher}": remedy(read, method, teacher)
              for method, taught in GRID.items() if method != "dpt90" for teacher in taught}  # fmt: skip
    return {"teachers": {teacher: damage(read, teacher) for teacher in GRID["dpt90"]}, "rules": routed}


def main() -> None:
    """Reads the command line and goes on with the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="save and stop after so many; the same command goes on")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 to 4, or 0 alone with --tiny")
    parser.add_argument("--runs", type=Path, default=Path("runs/050-recall-120m"), help="where cells are kept")
    parser.add_argument("--out", type=Path, default=HERE, help="where size.json and results.json go")
    parser.add_argument("--tiny", action="store_true", help="the same at a size of seconds, which says nothing")
    parser.add_argument("--dry-run", action="store_true", help="what the pilot and a seed of full length take")
    options = parser.parse_args()
    if options.dry_run:
        most = study({"steps": PILOT_STEPS, "early": 0.3, "middle": 0.7}, 0, tiny=options.tiny)
        print("\n".join(["Pilot:", *plan_lines(pilot(tiny=options.tiny)), "A seed, at most:", *plan_lines(most)]))
        return
    stop_after(options.minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    size = sized(options.runs, options.out, tiny=options.tiny)
    if not size["formed"] and not options.tiny:
        sys.exit("size.json: copying did not form in the pilot, so the study is not run; see README.md.")
    found = joined([
        of_seed(study(size, seed, tiny=options.tiny), options.runs, options.out / f"seed-{seed}.json")
        for seed in options.seeds or (SEEDS[:1] if options.tiny else SEEDS)
    ])  # fmt: skip
    write(options.out / "environment.json", this_environment())
    said = {"contrasts": contrasts(found), "answers": answers(found)}
    write_json(options.out / "results.json", {"size": size, **found, **said})


if __name__ == "__main__":
    main()
