"""``worth.json`` of a run folder: what a soft label was worth on each ability, read off the study's own SPT ladder.

A ladder is two arms or more that have hard labels, one pass and the student's own size, and differ in their tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stillroom.config import ArmConfig, StudyConfig
from stillroom.files import read_json, write_json
from stillroom.objectives import ever_needs_teacher
from stillroom.results.compare import Sweep
from stillroom.results.schema import arm_and_seed
from stillroom.results.worth import Measured, formation, worth
from stillroom.study.comparisons import read_sweep

REAL_TEXT = ("python-library", "files", "hub")
"""Kinds of sources that hold text of people; the others are worlds."""


@dataclass(frozen=True)
class Ability:
    """What is compared: its name, how it is called on a page, and which direction is better."""

    key: str
    title: str
    higher_is_better: bool


Items = tuple[list[float], list[float]]
"""Numerators and denominators, one of each for every item."""
Found = Iterator[tuple[Ability, Items]]
Table = dict[Ability, Items]


def write_worth(folder: Path, config: StudyConfig, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes ``worth.json`` where the study has a ladder and an arm to read off it.

    Arguments:
        folder: the run folder, with every model's evaluation.
        config: the study's.
        records: one for each student of ``study.json``, with ``distinct_tokens`` and FLOPs.
    """
    students = {str(record["name"]): record for record in records if record["role"] == "student"}
    ladder, others = arms_of(config, [name for name in students if name in config.arms])
    if len(ladder) < 2 or not others:
        return
    tables = {name: items(folder / "models" / name, config) for name in students}
    write_json(folder / "worth.json", worth_of(ladder, others, students, tables, seed=config.evaluation.seed))


def arms_of(config: StudyConfig, names: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The rungs of the ladder and the other arms, each with the models of its seeds; one rung for an amount of text."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(arm_and_seed(name)[0], []).append(name)
    ladders: dict[str, dict[int, str]] = {}
    is_one_pass = config.training.steps is None and config.training.flops is None
    for arm, models in grouped.items():
        asked = config.arms[models[0]]
        if is_one_pass and not ever_needs_teacher(asked) and asked.epochs == 1:
            sequences = round(config.training.tokens * asked.data) // config.corpus.sequence_length
            ladders.setdefault(_without_amount(asked), {}).setdefault(sequences, arm)
    longest = max(ladders.values(), key=len, default={})
    rungs = {arm: grouped[arm] for _, arm in sorted(longest.items())}
    return rungs, {arm: models for arm, models in grouped.items() if arm not in rungs}


def _without_amount(arm: ArmConfig) -> str:
    """What rungs of one ladder share: all but text and seed."""
    return arm.model_copy(update={"data": 1.0, "seed": None, "like": None, "budget": "iso-data"}).fingerprint()


def items(folder: Path, config: StudyConfig) -> Table:
    """Every ability that an evaluation keeps a number of for each item."""
    evaluation = read_json(folder / "evaluation.json")
    return dict([*_text(evaluation, config), *_context(evaluation), *_samples(read_sweep(folder))])


def _text(evaluation: Mapping[str, Any], config: StudyConfig) -> Found:
    part = evaluation.get("lm", {})
    sources = part.get("per_item_sources")
    if not sources:
        return
    values_I, weights_I = (np.array(part[name]["bits_per_byte"]) for name in ("per_item", "per_item_weights"))
    real = [name for name, source in config.corpus.sources.items() if source.kind in REAL_TEXT]
    named = sorted(enumerate(sources["names"]), key=lambda place: place[1] not in real)
    for code, name in named:
        inside_I = (np.array(sources["codes"]) == code) & (weights_I > 0)
        if inside_I.any():
            ability = Ability(f"text:{name}", f"{name}, bits per byte", higher_is_better=False)
            weights = weights_I[inside_I]
            yield ability, ((values_I[inside_I] * weights).tolist(), weights.tolist())


_CONTEXT = (
    ("counterfactual", "follows_context", "following the context"),
    ("recall", "accuracy", "recall"),
    ("needle", "accuracy", "needle in a haystack"),
)


def _context(evaluation: Mapping[str, Any]) -> Found:
    for part, measure, title in _CONTEXT:
        found = evaluation.get(part, {})
        values = found.get("per_item", {}).get(measure)
        if values:
            weights = found.get("per_item_weights", {}).get(measure) or [1.0] * len(values)
            top = [value * weight for value, weight in zip(values, weights, strict=True)]
            yield Ability(f"{part}:{measure}", title, higher_is_better=True), (top, weights)


def _samples(sweep: Sweep | None) -> Found:
    if sweep is None:
        return
    place = min(range(len(sweep.temperatures)), key=lambda number: abs(sweep.temperatures[number] - 1.0))
    ones = [1.0] * len(sweep.prompts)
    for k in (1, 16):
        if k <= sweep.num_TP.min():
            yield Ability(f"pass@{k}", f"pass@{k}", higher_is_better=True), (sweep.passed(k)[place].tolist(), ones)
    yield Ability("answers", "different right answers", True), (sweep.right_TP[place].tolist(), ones)


def worth_of(
    ladder: Mapping[str, Sequence[str]],
    others: Mapping[str, Sequence[str]],
    records: Mapping[str, Mapping[str, Any]],
    tables: Mapping[str, Table],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """The data multiplier of every other arm on every ability, and beside it the compute multiplier.

    Over seeds where every arm has two or more, else over the items of the first seed.
    """
    arms = {**ladder, **others}
    over: Literal["seeds", "items"] = "seeds" if min(len(models) for models in arms.values()) > 1 else "items"
    first = next(iter(tables.values()))
    shared = [ability for ability in first if all(ability in table for table in tables.values())]
    abilities = []
    for ability in shared:
        values = {arm: _measured(models, tables, ability, over) for arm, models in arms.items()}
        abilities.append(_ability(ability, values, list(ladder), records, arms, over, seed))
    return {
        "over": over,
        "ladder": [{"arm": arm, "tokens": records[models[0]]["distinct_tokens"]} for arm, models in ladder.items()],
        "abilities": abilities,
    }


Values = tuple[dict[int, float], dict[int, float] | None]


def _measured(models: Sequence[str], tables: Mapping[str, Table], ability: Ability, over: str) -> Values:
    if over == "items":
        top, bottom = tables[models[0]][ability]
        return dict(enumerate(top)), dict(enumerate(bottom))
    sums = {arm_and_seed(name)[1] or 0: tables[name][ability] for name in models}
    return {number: sum(top) / sum(bottom) for number, (top, bottom) in sums.items()}, None


def _ability(
    ability: Ability,
    values: Mapping[str, Values],
    ladder: Sequence[str],
    records: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Sequence[str]],
    over: Literal["seeds", "items"],
    seed: int,
) -> dict[str, Any]:
    found: dict[str, Any] = {"key": ability.key, "title": ability.title, "arms": {}}
    for name, amount in (("data", _tokens), ("compute", _flops)):
        measured = {arm: Measured(amount(records[arms[arm][0]]), *values[arm]) for arm in arms}
        jump = (
            formation(list(measured.values()), higher_is_better=ability.higher_is_better) if over == "seeds" else None
        )
        if jump is not None:
            found["formed"] = dict(zip(measured, map(len, jump.formed), strict=True))
            measured = {arm: one for arm, one in zip(measured, jump.among, strict=True) if len(one.values) > 1}
        rungs = list({measured[arm].amount: measured[arm] for arm in ladder if arm in measured}.values())
        for arm in measured:
            if arm not in ladder and len(rungs) > 1:
                read = worth(rungs, measured[arm], higher_is_better=ability.higher_is_better, over=over, seed=seed)
                found["arms"].setdefault(arm, {})[name] = read.as_dict()
    found["arms"] = {arm: read for arm, read in found["arms"].items() if len(read) == 2}
    return found


def _tokens(record: Mapping[str, Any]) -> float:
    return float(record["distinct_tokens"])


def _flops(record: Mapping[str, Any]) -> float:
    return float(record["student_flops"] + record["teacher_flops"])
