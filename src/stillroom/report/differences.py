"""Students against the baseline on the same items: which differences there are, and in which words each is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stillroom.report.comparison import Against, Difference
from stillroom.report.measures import (
    BITS_PER_BYTE,
    CONTEXT,
    COPY_ORDER,
    FOLLOWS_CONTEXT,
    ICL_SCORE,
    LOG_ODDS,
    NEEDLE,
    RECALL,
    Measure,
    all_ks,
    headline_temperature,
)
from stillroom.report.view import Entry, View
from stillroom.results.intervals import holm

LEVEL = 0.05
"""A corrected p-value below it is a difference."""
Word = Literal["better", "worse", "no clear difference"]


@dataclass(frozen=True)
class Kind:
    """How a difference is called and where it stands."""

    measure: Measure
    read: Callable[[Against], Difference | None]


def all_kinds(temperature: float | None, ks: tuple[int, ...]) -> tuple[Kind, ...]:
    """Held-out text, what is taken from the context, then pass@k.

    pass@k is for the smallest and the largest k at the temperature, and for the largest at equal entropy.
    """
    made = [
        _item(BITS_PER_BYTE, "lm", "bits_per_byte"),
        _item(ICL_SCORE, "copying", "icl_score"),
        _item(COPY_ORDER, "copying", "order_repeat"),
        _item(FOLLOWS_CONTEXT, "counterfactual", "follows_context"),
        _item(LOG_ODDS, "counterfactual", "log_odds"),
        _item(RECALL, "recall", "accuracy"),
        _item(NEEDLE, "needle", "accuracy"),
        _item(CONTEXT, "context", "accuracy"),
    ]
    ends = sorted({ks[0], ks[-1]}) if ks else []
    if temperature is not None:
        made += [_passed(k, temperature) for k in ends]
    return (*made, *(_entropy_matched(k) for k in ends[-1:]))


def _item(measure: Measure, part: str, name: str) -> Kind:
    return Kind(measure, lambda against: against.items.get(part, {}).get(name))


def _passed(k: int, temperature: float) -> Kind:
    title = f"pass@{k} at temperature {temperature:g}"
    return Kind(_share(title), lambda against: against.samples.temperature_matched.get(temperature, {}).get(k))


def _entropy_matched(k: int) -> Kind:
    return Kind(_share(f"pass@{k} at equal answer entropy"), lambda against: against.samples.entropy_matched.get(k))


def _share(title: str) -> Measure:
    return Measure(title, "share of problems", "higher", lambda _: None)


def headline(view: View) -> tuple[Kind, ...]:
    """The differences that the words at the top of a page are about."""
    told = (BITS_PER_BYTE, ICL_SCORE, FOLLOWS_CONTEXT, RECALL, NEEDLE)
    heat, ks = headline_temperature(view), all_ks(view)
    passes = () if heat is None or not ks else tuple(_passed(k, heat) for k in sorted({ks[0], ks[-1]}))
    return (*(kind for kind in all_kinds(None, ()) if kind.measure in told), *passes)


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
        if name in entries and (words := _words(headline(view), against))
    )


def _words(kinds: tuple[Kind, ...], against: Against) -> dict[Word, list[str]]:
    found = [(kind.measure, one) for kind in kinds if (one := kind.read(against)) is not None]
    tested = [(measure, one, p_value) for measure, one in found if (p_value := one.p_value) is not None]
    words: dict[Word, list[str]] = {}
    for (measure, one, _), p_value in zip(tested, holm([p_value for *_, p_value in tested]), strict=True):
        is_better = (one.value > 0) == (measure.better == "higher")
        word: Word = "no clear difference" if not p_value < LEVEL else "better" if is_better else "worse"
        words.setdefault(word, []).append(measure.title)
    return words
