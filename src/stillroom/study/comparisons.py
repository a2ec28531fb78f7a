"""Paired comparison of evaluated models: each against the first, and arms of several seeds against one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.evaluation import Sweep, compare_items, compare_sweeps, difference_over_seeds, mean_over_seeds
from stillroom.files import read_json, read_json_lines, write_json
from stillroom.results.schema import arm_and_seed
from stillroom.study.seeds import by_seed


def compare_folders(folders: dict[str, Path], ks: Sequence[int], *, seed: int = 0) -> dict[str, Any]:
    """What the evaluations in these folders say of one another; the first is the baseline.

    ``against``: every other model minus the baseline, by item (``items``) and, where samples are there, at like
    temperature and like answer entropy (``samples``). ``frontier``: pass@k over the temperatures of each.
    Models whose names differ in a trailing ``-s0``, ``-seed1`` ... are seeds of one arm. ``by_seed``: every measure's
    mean over seeds and its difference from the baseline's arm, seed by seed (see ``seeds.by_seed``). ``over_seeds``:
    pass@k of each arm and its difference, where seeds and problems are both drawn anew.
    """
    names = list(folders)
    parts = {name: read_json(folder / "evaluation.json") for name, folder in folders.items()}
    sweeps = {name: read_sweep(folder) for name, folder in folders.items()}
    base, first = sweeps[names[0]], parts[names[0]]
    against: dict[str, Any] = {}
    for name in names[1:]:
        sweep = sweeps[name]
        against[name] = {"items": compare_items(parts[name], first, seed=seed)}
        if base is not None and sweep is not None:
            against[name]["samples"] = compare_sweeps(sweep, base, ks, seed=seed)
    found = {name: sweep for name, sweep in sweeps.items() if sweep is not None}
    return {
        "baseline": names[0],
        "against": against,
        "frontier": {name: sweep.frontier(_ends(ks)) for name, sweep in found.items()},
        "over_seeds": _over_seeds(found, ks, seed),
        "by_seed": by_seed(parts),
    }


def write_comparison(target: Path, folders: dict[str, Path], ks: Sequence[int], *, seed: int = 0) -> dict[str, Any]:
    """Writes ``compare_folders`` to a file and returns it."""
    comparison = compare_folders(folders, ks, seed=seed)
    write_json(target, comparison)
    return comparison


def _ends(ks: Sequence[int]) -> list[int]:
    return sorted({min(ks), max(ks)}) if ks else []


def read_sweep(folder: Path) -> Sweep | None:
    """The samples of an evaluation; None where it has none."""
    file = folder / "samples.jsonl"
    records = read_json_lines(file) if file.exists() else []
    return Sweep.of(records) if records else None


def _over_seeds(sweeps: dict[str, Sweep], ks: Sequence[int], seed: int) -> dict[str, Any]:
    """Arm → temperature → k → its mean, and its difference from the first arm; arms of one seed alone are left out."""
    arms: dict[str, list[Sweep]] = {}
    for name, sweep in sweeps.items():
        arms.setdefault(arm_and_seed(name)[0], []).append(sweep)
    arms = {arm: group for arm, group in arms.items() if len(group) > 1 and _alike(group)}
    made: dict[str, Any] = {}
    for arm, group in arms.items():
        cells = made.setdefault(arm, {"num_seeds": len(group), "temperatures": {}})["temperatures"]
        for place, heat in enumerate(group[0].temperatures):
            for k in (k for k in ks if k <= min(one.num_TP.min() for one in group)):
                values_SP = np.stack([one.passed(k)[place] for one in group])
                cell = {"mean": mean_over_seeds(values_SP, seed=seed).as_dict()}
                base = arms[next(iter(arms))]
                if base is not group and _alike([*group, *base]) and k <= min(one.num_TP.min() for one in base):
                    other_SP = np.stack([one.passed(k)[place] for one in base])
                    cell["difference"] = difference_over_seeds(values_SP, other_SP, seed=seed).as_dict()
                cells.setdefault(f"{heat:g}", {})[str(k)] = cell
    return made


def _alike(group: Sequence[Sweep]) -> bool:
    return all((one.prompts, one.temperatures) == (group[0].prompts, group[0].temperatures) for one in group)
