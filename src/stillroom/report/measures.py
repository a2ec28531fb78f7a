"""The headline numbers of a model, defined once for the terminal, the table, the bars and the summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stillroom.report.formats import apart
from stillroom.report.run import Draws, Heads, ModelRun
from stillroom.report.view import Entry, View
from stillroom.types import Estimate


@dataclass(frozen=True)
class Measure:
    """One number of a model with its unit, its better direction and how to read it out of a run."""

    title: str
    unit: str
    better: Literal["lower", "higher"] | None
    read: Callable[[ModelRun], Estimate | None]
    decimals: int = 3


@dataclass(frozen=True)
class InductionHead:
    """The head that is highest on both scores: layer and head count from 0."""

    layer: int
    head: int
    prefix_matching: float
    copying: float


BITS_PER_BYTE = Measure(
    "bits per byte", "bits", "lower", lambda model: model.evaluation.lm and model.evaluation.lm.bits_per_byte
)
ICL_SCORE = Measure(
    "ICL score", "nats", "lower", lambda model: model.evaluation.copying and model.evaluation.copying.icl_score, 2
)
COPY_ORDER = Measure(
    "copying in order",
    "share of others outranked",
    "higher",
    lambda model: model.evaluation.copying and model.evaluation.copying.order_repeat,
)
FOLLOWS_CONTEXT = Measure(
    "follows context",
    "share of items",
    "higher",
    lambda model: model.evaluation.counterfactual and model.evaluation.counterfactual.follows_context,
)
LOG_ODDS = Measure(
    "log-odds of context over memory",
    "nats",
    "higher",
    lambda model: model.evaluation.counterfactual and model.evaluation.counterfactual.log_odds,
    2,
)


RECALL = Measure(
    "recall", "share of outputs", "higher", lambda model: model.evaluation.recall and model.evaluation.recall.accuracy
)
NEEDLE = Measure(
    "needle in a haystack",
    "share of items",
    "higher",
    lambda model: model.evaluation.needle and model.evaluation.needle.accuracy,
)
CONTEXT = Measure(
    "context questions",
    "share of items",
    "higher",
    lambda model: model.evaluation.context and model.evaluation.context.accuracy,
)


def measured(view: View, measure: Measure) -> list[tuple[Entry, Estimate]]:
    """The models that have this number, with it."""
    return [(entry, est) for entry in view.entries if (est := measure.read(entry.model)) is not None]


def draws(model: ModelRun, temperature: float | None) -> Draws | None:
    """What was sampled at a temperature; None where it was not."""
    if model.evaluation.tts is None or temperature is None:
        return None
    return model.evaluation.tts.temperatures.get(temperature)


def pass_at(k: int, temperature: float | None) -> Measure:
    """pass@k at a temperature: share of problems with at least one right answer among k draws."""

    def read(model: ModelRun) -> Estimate | None:
        found = draws(model, temperature)
        return found and found.pass_at.get(k)

    return Measure(f"pass@{k}", "share of problems", "higher", read)


def unique_answers(temperature: float | None) -> Measure:
    """Different right answers per problem at a temperature."""

    def read(model: ModelRun) -> Estimate | None:
        found = draws(model, temperature)
        return found and found.unique_correct

    return Measure("unique answers", "per problem", "higher", read, 2)


def temperatures(view: View) -> tuple[float, ...]:
    """Every temperature sampled by a model of the page, rising."""
    found = [entry.model.evaluation.tts.temperatures for entry in view.entries if entry.model.evaluation.tts]
    return tuple(sorted({temperature for each in found for temperature in each}))


def headline_temperature(view: View) -> float | None:
    """The temperature nearest 1, where a model is sampled as it was trained; None where nothing was sampled."""
    return min(temperatures(view), key=lambda value: (abs(value - 1.0), value), default=None)


def all_ks(view: View) -> tuple[int, ...]:
    """Every k for which a pass@k was measured, rising."""
    found = [
        drawn.pass_at
        for entry in view.entries
        if entry.model.evaluation.tts
        for drawn in entry.model.evaluation.tts.temperatures.values()
    ]
    return tuple(sorted({k for each in found for k in each}))


def headline_measures(view: View) -> tuple[Measure, ...]:
    """The columns of the summary table; pass@k for the smallest and the largest k that were measured."""
    temperature = headline_temperature(view)
    ks = all_ks(view) or (1, 16)
    passes = tuple(pass_at(k, temperature) for k in sorted({min(ks), max(ks)}))
    return (BITS_PER_BYTE, ICL_SCORE, FOLLOWS_CONTEXT, *passes, unique_answers(temperature))


def seed_measures(view: View) -> tuple[Measure, ...]:
    """What arms are compared in over training seeds: the headline, and all that is taken from the context."""
    head, *rest = headline_measures(view)
    more = (COPY_ORDER, LOG_ODDS, RECALL, NEEDLE, CONTEXT)
    return (head, *rest[:2], *more, *rest[2:])


def best_head(heads: Heads | None) -> InductionHead | None:
    """The head whose smaller score of prefix matching and copying is largest (Olsson et al. 2022: high on both)."""
    if heads is None or heads.copying is None:
        return None
    places = [
        InductionHead(layer, head, prefix, copying)
        for layer, rows in enumerate(zip(heads.prefix_matching, heads.copying, strict=True))
        for head, (prefix, copying) in enumerate(zip(*rows, strict=True))
    ]
    return max(places, key=lambda place: min(place.prefix_matching, place.copying), default=None)


def clear_best(view: View, measure: Measure) -> Entry | None:
    """The best student, where its interval overlaps no other student's; else None."""
    found = [(entry, value) for entry in view.students if (value := measure.read(entry.model)) is not None]
    if len(found) < 2 or measure.better is None:
        return None
    sign = 1 if measure.better == "higher" else -1
    best, best_value = max(found, key=lambda pair: sign * pair[1].value)
    clear = all(apart(best_value, value) for entry, value in found if entry is not best)
    return best if clear else None
