"""What of a run's numbers stands first: temperatures, ks, columns of the summary, and which student is clearly best."""

from __future__ import annotations

from stillroom.report.formats import apart
from stillroom.report.view import Entry, View
from stillroom.results.measures import Measure, pass_at, registered_measures, unique_answers
from stillroom.results.runs import ModelRun
from stillroom.results.schema import TemperatureResult
from stillroom.types import Estimate


def measured(view: View, measure: Measure) -> list[tuple[Entry, Estimate]]:
    """The models that have this number, with it."""
    return [(entry, est) for entry in view.entries if (est := entry.read(measure)) is not None]


def draws(model: ModelRun, temperature: float | None) -> TemperatureResult | None:
    """What was sampled at a temperature; None where it was not."""
    if model.evaluation.tts is None or temperature is None:
        return None
    return model.evaluation.tts.temperatures.get(temperature)


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


def headline_passes(view: View) -> tuple[Measure, ...]:
    """pass@k for the smallest and the largest k that were measured, at the headline temperature."""
    return tuple(pass_at(k, headline_temperature(view)) for k in sorted({*all_ks(view)[:1], *all_ks(view)[-1:]}))


def headline_measures(view: View) -> tuple[Measure, ...]:
    """The columns of the summary table; pass@1 and pass@16 stand there where nothing was sampled too."""
    temperature = headline_temperature(view)
    passes = headline_passes(view) or (pass_at(1, temperature), pass_at(16, temperature))
    return (*registered_measures("table"), *passes, unique_answers(temperature))


def seed_measures(view: View) -> tuple[Measure, ...]:
    """What arms are compared in over training seeds: the headline, and all that is taken from the context."""
    table = registered_measures("table")
    more = tuple(one for one in registered_measures("figures") if one not in table)
    return (*table, *more, *headline_measures(view)[len(table) :])


def clear_best(view: View, measure: Measure) -> Entry | None:
    """The best student, where its interval overlaps no other student's; else None."""
    found = [(entry, value) for entry in view.students if (value := entry.read(measure)) is not None]
    if len(found) < 2 or measure.better is None:
        return None
    best, best_value = max(found, key=lambda pair: measure.sign * pair[1].value)
    clear = all(apart(best_value, value) for entry, value in found if entry is not best)
    return best if clear else None
