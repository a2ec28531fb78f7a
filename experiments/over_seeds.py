"""Freezes studies of several seeds: every measure of every arm and seed, their means, and the contrasts of the study.

    python experiments/over_seeds.py experiments/030_data RUN_FOLDER [RUN_FOLDER ...]

The study's ``recipe.py`` says what is contrasted: ``CONTRASTS`` gives each contrast a weight for every arm that it is
made of, ``{"gain_all": {"dpt90_all": 1, "spt_all": -1}}``. Arms in none are left out, but for the rungs of its
``LADDER``, which worth is read off. A contrast is worked out seed by seed, as arms of one seed share first weights and
order; then come its mean and the 95 % interval of Student's t over seeds. Writes ``results.json``, ``environment.json``
and, of a single run, ``config.yaml`` into the study's folder.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.config import ladder
from stillroom.files import write_json
from stillroom.results import Evaluation, estimates
from stillroom.results.intervals import paired_interval
from stillroom.results.json_form import read
from stillroom.results.schema import arm_and_seed
from stillroom.results.sweeps import Sweep, compare_sweeps, read_sweep
from stillroom.study.recipe_files import load_module

Values = dict[str, Any]
Measures = dict[str, float]
Table = dict[str, dict[int, Measures]]
"""Arm → seed → measure → value."""
K = 16
_BREAKDOWN = re.compile(r":by_(?!source)|:cells|:grid")
"""Measures of parts of a suite, which a run's own evaluation keeps; those by source of text are frozen too."""


def measures(evaluation: Evaluation) -> Measures:
    """The estimates of an evaluation as ``part:measure``, and what is worked out from them."""
    every = {":".join(place).replace("tts:temperatures", "tts"): found.value for place, found in estimates(evaluation)}
    found = {place: value for place, value in every.items() if not _BREAKDOWN.search(place)}
    for heat in evaluation.tts.temperatures if evaluation.tts is not None else ():
        at = f"tts:{heat:g}:pass_at"
        found[f"tts:{heat:g}:pass_at_16_less_1"] = found[f"{at}:16"] - found[f"{at}:1"]
    for kind in ("prefix_matching", "previous_token"):
        if evaluation.heads is not None:
            found[f"heads:{kind}"] = float(np.max(getattr(evaluation.heads, kind)))
    return found


def of_pair(first: Sweep, second: Sweep) -> Measures:
    """pass@16 of the first less that of the second, at equal pass@1 and at equal answer entropy."""
    found: Measures = {}
    one, other = first.passed(1).mean(axis=1), second.passed(1).mean(axis=1)
    top, beneath = first.passed(K).mean(axis=1), second.passed(K).mean(axis=1)
    order = np.argsort(other)
    inside = (one >= other.min()) & (one <= other.max())
    if inside.any():
        read = np.interp(one[inside], other[order], beneath[order])
        found["tts:frontier:pass_at_16"] = float((top[inside] - read).mean())
    matched = compare_sweeps(first, second, [K]).entropy_matched[K]
    if matched is not None:
        found["tts:entropy_matched:pass_at_16"] = matched.value
    return found


def read_runs(runs: list[Path]) -> tuple[Table, dict[str, dict[int, Sweep]]]:
    """What every arm of several runs measured at every seed, and its samples."""
    table: Table = {}
    sweeps: dict[str, dict[int, Sweep]] = {}
    for run in runs:
        for folder in sorted((run / "models").iterdir()):
            arm, seed = arm_and_seed(folder.name)
            if seed is None or not (folder / "evaluation.json").exists():
                continue
            table.setdefault(arm, {})[seed] = measures(read(Evaluation, folder / "evaluation.json"))
            if (sweep := read_sweep(folder)) is not None:
                sweeps.setdefault(arm, {})[seed] = sweep
    return table, sweeps


def contrast(table: Table, sweeps: dict[str, dict[int, Sweep]], weights: Mapping[str, float]) -> Values:
    """A weighted sum of arms, seed by seed: its mean over seeds by measure, with the interval."""
    seeds = sorted(set.intersection(*(set(table[arm]) for arm in weights)))
    by_seed: dict[int, Measures] = {}
    for seed in seeds:
        shared = set.intersection(*(set(table[arm][seed]) for arm in weights))
        by_seed[seed] = {
            measure: sum(weight * table[arm][seed][measure] for arm, weight in weights.items())
            for measure in sorted(shared)
        }
        if sorted(weights.values()) == [-1, 1]:
            first, second = sorted(weights, key=lambda arm: -weights[arm])
            if seed in sweeps.get(first, {}) and seed in sweeps.get(second, {}):
                by_seed[seed] |= of_pair(sweeps[first][seed], sweeps[second][seed])
    return {"arms": dict(weights), "seeds": seeds} | means(by_seed)


def means(by_seed: Mapping[int, Measures]) -> Values:
    """The mean of every measure that all seeds have, with the 95 % interval of Student's t."""
    shared = set.intersection(*(set(found) for found in by_seed.values())) if by_seed else set()
    made: Values = {}
    for measure in sorted(shared):
        estimate = paired_interval([found[measure] for found in by_seed.values()])
        made[measure] = {name: _short(value) for name, value in estimate.as_dict().items() if name != "num"}
    return made


def _short(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def freeze(study: Path, runs: list[Path], target: Path | None = None) -> None:
    """Writes the study's results into its folder, or into ``target``."""
    target = target or study
    table, sweeps = read_runs(runs)
    recipe = load_module(study / "recipe.py")
    wanted: dict[str, dict[str, float]] = recipe.CONTRASTS
    known = {name: weights for name, weights in wanted.items() if all(arm in table for arm in weights)}
    rungs = ladder(*recipe.LADDER) if hasattr(recipe, "LADDER") else {}
    kept = {arm for weights in known.values() for arm in weights} | set(rungs)
    table = {arm: table[arm] for arm in sorted(kept & set(table))}
    made = {
        "seeds": sorted({seed for seeds in table.values() for seed in seeds}),
        "arms": {arm: {"num_seeds": len(seeds)} | means(seeds) for arm, seeds in table.items()},
        "contrasts": {name: contrast(table, sweeps, weights) for name, weights in known.items()},
        "values": {
            arm: {str(seed): {name: _short(value) for name, value in found.items()} for seed, found in seeds.items()}
            for arm, seeds in table.items()
        },
    }
    write_json(target / "results.json", made)
    shutil.copyfile(runs[-1] / "environment.json", target / "environment.json")
    if len(runs) == 1:  # of several, the recipe's functions are the configurations
        shutil.copyfile(runs[0] / "config.yaml", target / "config.yaml")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder under experiments/ whose recipe.py has CONTRASTS")
    parser.add_argument("runs", type=Path, nargs="+", help="finished run folders")
    arguments = parser.parse_args()
    freeze(arguments.study, arguments.runs)
