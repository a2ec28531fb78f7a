"""Models that differ in their training seed alone, taken together as an arm; arms against one another, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stillroom.report.view import Entry, View, without_seed
from stillroom.results.intervals import difference_by_seed, held_within, paired_interval
from stillroom.results.measures import Measure
from stillroom.results.runs import Run
from stillroom.results.schema import Difference, ModelRecord, arm_and_seed, baseline_of
from stillroom.types import Estimate
from stillroom.yamlfiles import parse_yaml


@dataclass(frozen=True, eq=False)
class SeededArm:
    """Students of one arm by seed; ``entry`` gives the arm its name, colour and marker in a figure."""

    entry: Entry
    seeds: Mapping[int, Entry]

    @property
    def label(self) -> str:
        """What the arm is called."""
        return self.entry.label

    def values(self, measure: Measure) -> dict[int, float]:
        """The measure at every seed that has it."""
        found = {seed: entry.read(measure) for seed, entry in self.seeds.items()}
        return {seed: estimate.value for seed, estimate in found.items() if estimate is not None}


@dataclass(frozen=True)
class Paired:
    """An arm minus the baseline: the difference at every seed that both have, and their mean with its t-interval."""

    arm: SeededArm
    measure: Measure
    differences: tuple[float, ...]
    mean: Difference


def arms_over_seeds(view: View) -> tuple[SeededArm, ...]:
    """Arms with two seeds or more, in the order of the page; empty where the page has none.

    Within one run, arms are seeds of one another where their names differ in a trailing ``-s0``, ``-s1`` ...; across
    runs of a study of one name, arms of one name are, by the seed of their run. Both only where weight of the teacher,
    routing, size and data are alike too. A seed that comes twice is kept from the first run.
    """
    groups: dict[tuple[Any, ...], dict[int, Entry]] = {}
    names = {run.study.name for run in view.runs}
    for run, entry in _placed(view):
        record = entry.model.record
        if entry.is_teacher:
            continue
        arm, seed = arm_and_seed(record.name)
        if seed is None:
            seed = _seed_of(run)
        if seed is not None:
            groups.setdefault((run.study.name, arm, *_recipe(record)), {}).setdefault(seed, entry)
    found = [(key, seeds) for key, seeds in groups.items() if len(seeds) > 1]
    labels = [_label(key, next(iter(seeds.values())), several=len(names) > 1) for key, seeds in found]
    arms = []
    for place, (key, seeds) in enumerate(found):
        label = labels[place] if labels.count(labels[place]) == 1 else f"{labels[place]} ({key[1]})"
        arms.append(SeededArm(replace(next(iter(seeds.values())), label=label), dict(sorted(seeds.items()))))
    return tuple(arms)


def _placed(view: View) -> list[tuple[Run, Entry]]:
    """Every model of the page with its run."""
    entries = iter(view.entries)
    return [(run, next(entries)) for run in view.runs for _ in run.models]


def _seed_of(run: Run) -> int | None:
    """The run's own seed; None where its configuration says none."""
    values = parse_yaml(run.config_yaml, str(run.folder / "config.yaml"), "the run's configuration")
    seed = values.get("seed") if isinstance(values, dict) else None
    return seed if isinstance(seed, int) else None


def _recipe(record: ModelRecord) -> tuple[Any, ...]:
    """What two seeds of an arm share."""
    routing = record.routing
    return (
        *(record.alpha, record.parameters, record.distinct_tokens, record.epochs),
        *((None, None) if routing is None else (routing.rule, routing.share)),
    )


def _label(key: tuple[Any, ...], entry: Entry, several: bool) -> str:
    label = without_seed(entry.model.record.label)
    return f"{key[0]}: {label}" if several else label


def baseline_arm(arms: tuple[SeededArm, ...]) -> SeededArm | None:
    """The arm that others are compared with (``baseline_of``)."""
    by_record = {id(arm.entry.model.record): arm for arm in arms}
    found = baseline_of([arm.entry.model.record for arm in arms])
    return None if found is None else by_record[id(found)]


def mean_of(arm: SeededArm, measure: Measure) -> Estimate | None:
    """Mean over seeds with its t-interval; None where fewer than two seeds have the measure."""
    values = arm.values(measure)
    if len(values) < 2:
        return None
    mean = paired_interval(values.values())
    return held_within(mean) if measure.is_share else mean


def paired_with(baseline: SeededArm, arm: SeededArm, measure: Measure) -> Paired | None:
    """The arm minus the baseline, seed by seed; None where fewer than two seeds are common to both."""
    values, base = arm.values(measure), baseline.values(measure)
    mean = difference_by_seed(values, base)
    differences = tuple(values[seed] - base[seed] for seed in values if seed in base)
    return None if mean is None else Paired(arm, measure, differences, mean)
