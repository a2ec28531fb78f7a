"""``worth.json``: what a soft label was worth on each ability, read off a ladder of students of hard labels.

A ladder is two arms or more that have hard labels, one pass and the student's own size, and differ in their tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from stillroom.results.json_form import read
from stillroom.results.measures import registered_measures
from stillroom.results.schema import AbilityWorth, Evaluation, Multipliers, Rung, WorthTable, arm_and_seed
from stillroom.results.sweeps import Sweep, read_sweep
from stillroom.results.worth import Measured, first_past, formation, worth


@dataclass(frozen=True)
class Ability:
    """What is compared: its name, how it is called on a page, and which direction is better."""

    key: str
    title: str
    higher_is_better: bool


@dataclass(frozen=True)
class Effort:
    """What an arm had: distinct tokens of text, and all its FLOPs with the teacher's labelling counted."""

    tokens: float
    flops: float


Fractions = tuple[Sequence[float], Sequence[float]]
"""Numerators and denominators, one of each for every item; one of each alone where only a mean is known."""
AbilityItems = Mapping[Ability, Fractions]
"""A model's items, by ability."""
Over = Literal["seeds", "items"]


def read_items(folder: Path, *, real: Sequence[str] = ()) -> AbilityItems:
    """Every ability that an evaluation keeps a number of for each item; text of the ``real`` sources stands first."""
    evaluation = read(Evaluation, folder / "evaluation.json")
    return dict([*_text(evaluation, real), *_measured_items(evaluation), *_samples(read_sweep(folder))])


def _text(evaluation: Evaluation, real: Sequence[str]) -> Iterator[tuple[Ability, Fractions]]:
    part = evaluation.lm
    if part is None or part.per_item_sources is None:
        return
    sources = part.per_item_sources
    values_I, weights_I = (np.array(kept["bits_per_byte"]) for kept in (part.per_item, part.per_item_weights))
    for code, name in sorted(enumerate(sources.names), key=lambda place: place[1] not in real):
        inside_I = (np.array(sources.codes) == code) & (weights_I > 0)
        if inside_I.any():
            ability = Ability(f"text:{name}", f"{name}, bits per byte", higher_is_better=False)
            weights = weights_I[inside_I]
            yield ability, ((values_I[inside_I] * weights).tolist(), weights.tolist())


def _measured_items(evaluation: Evaluation) -> Iterator[tuple[Ability, Fractions]]:
    for measure in registered_measures("worth"):
        items = measure.items(evaluation)
        if items is not None:
            weights = items.weights or [1.0] * len(items.values)
            top = [value * weight for value, weight in zip(items.values, weights, strict=True)]
            title = measure.ability or measure.title
            yield Ability(f"{measure.part}:{measure.name}", title, measure.better == "higher"), (top, weights)


def _samples(sweep: Sweep | None) -> Iterator[tuple[Ability, Fractions]]:
    if sweep is None:
        return
    place = min(range(len(sweep.temperatures)), key=lambda number: abs(sweep.temperatures[number] - 1.0))
    ones = [1.0] * len(sweep.prompts)
    for k in (1, 16):
        if k <= sweep.fewest:
            yield Ability(f"pass@{k}", f"pass@{k}", higher_is_better=True), (sweep.passed(k)[place].tolist(), ones)
    yield Ability("answers", "different right answers", True), (sweep.right_TP[place].tolist(), ones)


@dataclass(frozen=True)
class Ladder:
    """The rungs of hard labels and the arms to be read off them, each with the models of its seeds."""

    rungs: Mapping[str, Sequence[str]]
    others: Mapping[str, Sequence[str]]

    @property
    def arms(self) -> Mapping[str, Sequence[str]]:
        """All of them."""
        return {**self.rungs, **self.others}


def worth_table(
    ladder: Ladder,
    efforts: Mapping[str, Effort],
    items: Mapping[str, AbilityItems],
    over_training: Mapping[str, Mapping[float, AbilityItems]] | None = None,
    *,
    seed: int = 0,
) -> WorthTable:
    """The data multiplier of every other arm on every ability, and beside it the compute multiplier.

    Over seeds where every arm has two or more, else over the items of the first seed. ``efforts`` and ``items`` are by
    model; ``over_training`` has the items of kept checkpoints by the tokens seen, and tells when an ability that forms
    in a jump did so.
    """
    over: Over = "seeds" if min(len(models) for models in ladder.arms.values()) > 1 else "items"
    first = next(iter(items.values()))
    shared = [ability for ability in first if all(ability in found for found in items.values())]
    abilities = []
    for ability in shared:
        values = {arm: _values(models, items, ability, over) for arm, models in ladder.arms.items()}
        had = {arm: efforts[models[0]] for arm, models in ladder.arms.items()}
        found, jump = _read_off(ability, values, had, list(ladder.rungs), over, seed)
        abilities.append(found if jump is None else _with_times(found, jump, ladder, efforts, over_training or {}))
    rungs = tuple(Rung(arm=arm, tokens=int(efforts[models[0]].tokens)) for arm, models in ladder.rungs.items())
    return WorthTable(over=over, ladder=rungs, abilities=tuple(abilities))


Values = tuple[dict[int, float], dict[int, float] | None]


def _values(models: Sequence[str], items: Mapping[str, AbilityItems], ability: Ability, over: Over) -> Values:
    if over == "items":
        top, bottom = items[models[0]][ability]
        return dict(enumerate(top)), dict(enumerate(bottom))
    sums = {arm_and_seed(name)[1] or 0: items[name][ability] for name in models}
    return {number: _mean(fractions) for number, fractions in sums.items()}, None


def _read_off(
    ability: Ability,
    values: Mapping[str, Values],
    efforts: Mapping[str, Effort],
    rungs: Sequence[str],
    over: Over,
    seed: int,
) -> tuple[AbilityWorth, _Jump | None]:
    higher, formed, found, last = ability.higher_is_better, None, [], None
    for amount in ("tokens", "flops"):
        measured = {arm: Measured(getattr(efforts[arm], amount), *values[arm]) for arm in values}
        jump = formation(list(measured.values()), higher_is_better=higher) if over == "seeds" else None
        if jump is not None:
            formed = dict(zip(measured, map(len, jump.formed), strict=True))
            last = _Jump(ability, jump.threshold, dict(zip(measured, jump.formed, strict=True)))
            measured = {arm: one for arm, one in zip(measured, jump.among, strict=True) if len(one.values) > 1}
        ladder = list({measured[arm].amount: measured[arm] for arm in rungs if arm in measured}.values())
        others = [arm for arm in measured if arm not in rungs and len(ladder) > 1]
        found.append(
            {arm: worth(ladder, measured[arm], higher_is_better=higher, over=over, seed=seed) for arm in others}
        )
    data, compute = found
    arms = {arm: Multipliers(data=data[arm], compute=compute[arm]) for arm in data if arm in compute}
    return AbilityWorth(key=ability.key, title=ability.title, arms=arms, formed=formed), last


@dataclass(frozen=True)
class _Jump:
    """An ability that forms in a jump: past which value, and by which seeds of each arm."""

    ability: Ability
    threshold: float
    formed: Mapping[str, Sequence[int]]


def _with_times(
    found: AbilityWorth,
    jump: _Jump,
    ladder: Ladder,
    efforts: Mapping[str, Effort],
    over_training: Mapping[str, Mapping[float, AbilityItems]],
) -> AbilityWorth:
    """With the tokens at which each seed that formed an ability was first seen past the jump, where it was measured."""
    formed_at: dict[str, tuple[float, ...]] = {}
    for arm, models in ladder.arms.items():
        times = []
        for name in models:
            kept = {tokens: one for tokens, one in over_training.get(name, {}).items() if jump.ability in one}
            if kept and (arm_and_seed(name)[1] or 0) in jump.formed[arm]:
                values = {tokens: _mean(one[jump.ability]) for tokens, one in kept.items()}
                at = first_past(values, jump.threshold, higher_is_better=jump.ability.higher_is_better)
                times.append(efforts[name].tokens if at is None else at)
        if times:
            formed_at[arm] = tuple(times)
    return replace(found, formed_at=formed_at or None)


def _mean(fractions: Fractions) -> float:
    return sum(fractions[0]) / sum(fractions[1])
