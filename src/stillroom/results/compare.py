"""``comparison.json``: evaluated models against the first, item by item, and arms of several seeds against one another.

Letters: P problems, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stillroom.results.across_seeds import by_seed, difference_over_seeds, mean_over_seeds
from stillroom.results.intervals import corrected
from stillroom.results.json_form import read, write
from stillroom.results.measures import Items, Measure, registered_measures
from stillroom.results.schema import (
    Against,
    ArmSamples,
    Comparison,
    Difference,
    Evaluation,
    MeanAndDifference,
    arm_and_seed,
)
from stillroom.results.statistics import paired_difference
from stillroom.results.sweeps import Sweep, compare_sweeps, read_sweep


def compare_folders(folders: Mapping[str, Path], ks: Sequence[int], *, seed: int = 0) -> Comparison:
    """What the evaluations in these folders say of one another; the first is the baseline.

    ``against``: every other model minus the baseline, by item (``items``) and, where samples are there, at like
    temperature and like answer entropy (``samples``). ``frontier``: pass@k over the temperatures of each.
    Models whose names differ in a trailing ``-s0``, ``-seed1`` ... are seeds of one arm. ``by_seed``: every measure's
    mean over seeds and its difference from the baseline's arm, seed by seed (see ``across_seeds.by_seed``).
    ``over_seeds``: pass@k of each arm and its difference, where seeds and problems are both drawn anew.
    What was measured on another text or in another tokenizer's tokens is compared in nothing that depends on it.
    """
    evaluations = {name: read(Evaluation, folder / "evaluation.json") for name, folder in folders.items()}
    sweeps = {name: read_sweep(folder) for name, folder in folders.items()}
    baseline, *others = folders
    base = sweeps[baseline]
    apart = {name: differs(evaluation, evaluations[baseline]) for name, evaluation in evaluations.items()}
    against = {}
    for name in others:
        sweep = None if "text" in apart[name] else sweeps[name]
        items = compare_items(evaluations[name], evaluations[baseline], seed=seed)
        samples = None if base is None or sweep is None else compare_sweeps(sweep, base, ks, seed=seed)
        against[name] = Against(items=items, samples=samples)
    found = {name: sweep for name, sweep in sweeps.items() if sweep is not None}
    ends = sorted({min(ks), max(ks)}) if ks else []
    return Comparison(
        baseline=baseline,
        against=against,
        frontier={name: sweep.frontier(ends) for name, sweep in found.items()},
        over_seeds=_over_seeds({name: one for name, one in found.items() if "text" not in apart[name]}, ks, seed),
        by_seed=by_seed({name: one for name, one in evaluations.items() if not apart[name]}),
    )


def write_comparison(target: Path, folders: Mapping[str, Path], ks: Sequence[int], *, seed: int = 0) -> Comparison:
    """Writes ``compare_folders`` to a file and returns it."""
    comparison = compare_folders(folders, ks, seed=seed)
    write(target, comparison)
    return comparison


def compare_items(first: Evaluation, second: Evaluation, *, seed: int = 0) -> dict[str, dict[str, Difference]]:
    """First minus second, item by item: part → measure → difference, of every measure per item that both have.

    Each has the p-value of a sign-flip test (``paired_difference``), and ``p_holm``, corrected for all the measures
    that are compared here (Holm 1979). Items weigh as in the measure itself: a document by its bytes. Models of another
    tokenizer are compared in what counts none of its tokens, those that read another text in nothing.
    """
    apart = differs(first, second)
    tested: dict[Measure, Difference] = {}
    for measure in registered_measures():
        one, other = measure.items(first), measure.items(second)
        if one is None or other is None or "text" in apart or (apart and measure.of_tokens):
            continue
        if measure.per_item and len(one.values) == len(other.values) and _weigh_alike(one, other, bool(apart)):
            tested[measure] = paired_difference(one.values, other.values, weights=other.weights, seed=seed)
    made: dict[str, dict[str, Difference]] = {}
    for measure, difference in zip(tested, corrected(tested.values()), strict=True):
        made.setdefault(measure.part, {})[measure.name] = difference
    return made


def differs(first: Evaluation, second: Evaluation) -> str:
    """What two evaluations were not both measured on, in words; empty where that is not known."""
    one, other = (getattr(each, "measured_on", None) for each in (first, second))
    return "" if one is None or other is None else one.differs(other)


def _weigh_alike(one: Items, other: Items, apart: bool) -> bool:
    """Whether two measures are of the same items; said in other tokens, a document's bytes may differ by a few."""
    if not apart or one.weights is None or other.weights is None:
        return one.weights == other.weights
    return bool(np.allclose(one.weights, other.weights, rtol=0.02, atol=8))


def _over_seeds(sweeps: Mapping[str, Sweep], ks: Sequence[int], seed: int) -> dict[str, ArmSamples]:
    """Arm → temperature → k → its mean, and its difference from the first arm; arms of one seed alone are left out."""
    arms: dict[str, list[Sweep]] = {}
    for name, sweep in sweeps.items():
        arms.setdefault(arm_and_seed(name)[0], []).append(sweep)
    arms = {arm: group for arm, group in arms.items() if len(group) > 1 and _alike(group)}
    return {arm: _arm_samples(group, next(iter(arms.values())), ks, seed) for arm, group in arms.items()}


def _arm_samples(group: Sequence[Sweep], base: Sequence[Sweep], ks: Sequence[int], seed: int) -> ArmSamples:
    known = [k for k in ks if k <= min(one.fewest for one in group)]
    is_compared = base is not group and _alike([*group, *base])
    cells: dict[float, dict[int, MeanAndDifference]] = {}
    for place, heat in enumerate(group[0].temperatures):
        for k in known:
            values_SP = np.stack([one.passed(k)[place] for one in group])
            mean, difference = mean_over_seeds(values_SP, seed=seed), None
            if is_compared and k <= min(one.fewest for one in base):
                other_SP = np.stack([one.passed(k)[place] for one in base])
                difference = Difference.of(difference_over_seeds(values_SP, other_SP, seed=seed))
            cells.setdefault(heat, {})[k] = MeanAndDifference(mean=mean, difference=difference)
    return ArmSamples(num_seeds=len(group), temperatures=cells)


def _alike(group: Sequence[Sweep]) -> bool:
    return all((one.prompts, one.temperatures) == (group[0].prompts, group[0].temperatures) for one in group)
