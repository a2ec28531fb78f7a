"""Arms that differ in their seed alone, taken together: means over seeds, and differences seed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillroom.evaluation import holm, paired_interval, paired_t_test
from stillroom.results.schema import arm_and_seed

Measures = dict[str, float]


def by_seed(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Evaluations by model name, as arms over seeds; empty where no arm has two seeds.

    ``baseline`` is the first arm of two seeds or more; ``arms`` is arm → ``seeds`` and ``measures``, and a measure (the
    place of an estimate in an evaluation, such as ``lm bits_per_byte``) → ``mean`` and, for the other arms,
    ``difference``: the arm minus the baseline, seed by seed. Intervals are 95 % ones of Student's t over seeds and
    cover another training run, with its own seed, on the same items. ``p_value`` is of the paired t-test, ``p_holm``
    corrected for all measures of the arm (Holm 1979).
    """
    table: dict[str, dict[int, Measures]] = {}
    for name, part in parts.items():
        arm, seed = arm_and_seed(name)
        if seed is not None:
            table.setdefault(arm, {})[seed] = dict(estimates(part))
    table = {arm: seeds for arm, seeds in table.items() if len(seeds) > 1}
    if not table:
        return {}
    baseline = next(iter(table))
    arms = {arm: _arm(seeds, None if arm == baseline else table[baseline]) for arm, seeds in table.items()}
    return {"baseline": baseline, "arms": arms}


def _arm(seeds: Mapping[int, Measures], base: Mapping[int, Measures] | None) -> dict[str, Any]:
    measures: dict[str, dict[str, Any]] = {}
    for measure in _common(seeds.values()):
        measures[measure] = {"mean": paired_interval(found[measure] for found in seeds.values()).as_dict()}
    if base is not None:
        paired = {seed: found for seed, found in seeds.items() if seed in base}
        for measure in _common([*paired.values(), *base.values()]):
            differences = [found[measure] - base[seed][measure] for seed, found in paired.items()]
            p_value = paired_t_test(differences)
            if p_value is not None and measure in measures:
                difference = paired_interval(differences).as_dict() | {"p_value": p_value}
                measures[measure]["difference"] = difference
        tested = [cell["difference"] for cell in measures.values() if "difference" in cell]
        for cell, p_value in zip(tested, holm([cell["p_value"] for cell in tested]), strict=True):
            cell["p_holm"] = p_value
    return {"seeds": sorted(seeds), "measures": measures}


def _common(found: Any) -> list[str]:
    """Measures that every one has, in the order of the first."""
    rows = list(found)
    return [measure for measure in rows[0] if all(measure in row for row in rows)] if rows else []


def estimates(value: Any, separator: str = " ", place: str = "") -> Iterator[tuple[str, float]]:
    """Every estimate of an evaluation that exists: its place, with ``separator`` between the names, and its value."""
    if not isinstance(value, Mapping):
        return
    if {"value", "low", "high"} <= value.keys():
        if value["value"] is not None:
            yield place, float(value["value"])
        return
    for name, inner in value.items():
        yield from estimates(inner, separator, f"{place}{separator}{name}" if place else str(name))
