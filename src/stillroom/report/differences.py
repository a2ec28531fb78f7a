"""Students against the baseline on the same items: which differences there are, and in which words each is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from stillroom.report.headline import all_ks, headline_temperature
from stillroom.report.view import Entry, View
from stillroom.results.intervals import holm
from stillroom.results.measures import Measure, Role, pass_at, registered_measures
from stillroom.results.schema import Against, Difference

LEVEL = 0.05
"""A corrected p-value below it is a difference."""
Word = Literal["better", "worse", "no clear difference"]


@dataclass(frozen=True)
class DifferenceKind:
    """How a difference is called and where it stands."""

    measure: Measure
    read: Callable[[Against], Difference | None]


def all_kinds(temperature: float | None, ks: tuple[int, ...]) -> tuple[DifferenceKind, ...]:
    """Held-out text, what is taken from the context, then pass@k.

    pass@k is for the smallest and the largest k at the temperature, and for the largest at equal entropy.
    """
    ends = sorted({*ks[:1], *ks[-1:]})
    return (*_of_items("figures"), *_passes(temperature, ends), *(_entropy_matched(k) for k in ends[-1:]))


def _of_items(role: Role) -> tuple[DifferenceKind, ...]:
    return tuple(_item(one) for one in registered_measures(role) if one.per_item)


def _item(measure: Measure) -> DifferenceKind:
    return DifferenceKind(measure, lambda against: against.items.get(measure.part, {}).get(measure.name))


def _passes(temperature: float | None, ks: list[int]) -> tuple[DifferenceKind, ...]:
    return () if temperature is None else tuple(_passed(k, temperature) for k in ks)


def _passed(k: int, heat: float) -> DifferenceKind:
    measure = replace(pass_at(k, heat), title=f"pass@{k} at temperature {heat:g}")
    return DifferenceKind(
        measure, lambda against: against.samples and against.samples.temperature_matched.get(heat, {}).get(k)
    )


def _entropy_matched(k: int) -> DifferenceKind:
    measure = replace(pass_at(k, None), title=f"pass@{k} at equal answer entropy")
    return DifferenceKind(measure, lambda against: against.samples and against.samples.entropy_matched.get(k))


def headline_kinds(view: View) -> tuple[DifferenceKind, ...]:
    """The differences that the words at the top of a page are about."""
    ks = all_ks(view)
    return (*_of_items("verdict"), *_passes(headline_temperature(view), sorted({*ks[:1], *ks[-1:]})))


def verdicts(view: View) -> tuple[tuple[Entry, dict[Word, list[str]]], ...]:
    """For every student but the baseline the headline measures by the word that its paired test gives.

    The tests of one student are corrected for their number (Holm 1979). Empty where the page is of several runs, or of
    one that compared nothing.
    """
    comparison = view.runs[0].comparison if len(view.runs) == 1 else None
    if comparison is None:
        return ()
    entries = {entry.model.record.name: entry for entry in view.students}
    return tuple(
        (entries[name], words)
        for name, against in comparison.against.items()
        if name in entries and (words := _words(headline_kinds(view), against))
    )


def _words(kinds: tuple[DifferenceKind, ...], against: Against) -> dict[Word, list[str]]:
    found = [(kind.measure, one) for kind in kinds if (one := kind.read(against)) is not None]
    tested = [(measure, one, p_value) for measure, one in found if (p_value := one.p_value) is not None]
    words: dict[Word, list[str]] = {}
    for (measure, one, _), p_value in zip(tested, holm([p_value for *_, p_value in tested]), strict=True):
        is_better = (one.value > 0) == (measure.better == "higher")
        word: Word = "no clear difference" if not p_value < LEVEL else "better" if is_better else "worse"
        words.setdefault(word, []).append(measure.title)
    return words
