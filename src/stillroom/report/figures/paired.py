"""Every student against the baseline on the same items: bars from zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stillroom.report.comparison import Against, Difference
from stillroom.report.figures import captions
from stillroom.report.figures.bars import bars
from stillroom.report.figures.base import Figure, Panel, Table, panel_width, with_interval
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
from stillroom.report.numbers import MISSING
from stillroom.report.view import Entry, View

ID, TITLE = "fig-paired", "Differences on the same items"


@dataclass(frozen=True)
class _Paired:
    """How a difference is called and where it stands."""

    measure: Measure
    read: Callable[[Against], Difference | None]


def paired(view: View) -> Figure:
    """Differences from the baseline, item by item, with their intervals; p-values in the table."""
    comparison = view.runs[0].comparison if len(view.runs) == 1 else None
    if comparison is None or not comparison.against:
        return Figure(ID, TITLE, absent="Models are compared item by item within one run of two students or more.")
    entries = {entry.model.record.name: entry for entry in view.entries}
    shown = [(entries[name], against) for name, against in comparison.against.items() if name in entries]
    found = [
        (kind.measure, rows)
        for kind in _measures(headline_temperature(view), all_ks(view))
        if (rows := [(entry, one, cell) for entry, one in shown if (cell := kind.read(one)) is not None])
    ]
    width = panel_width(len(found))
    panels = tuple(
        Panel(measure.title, bars(measure, [(entry, found.estimate) for entry, _, found in rows], width))
        for measure, rows in found
    )
    baseline = entries[comparison.baseline].label if comparison.baseline in entries else comparison.baseline
    return Figure(ID, TITLE, captions.PAIRED.format(baseline=baseline), panels, table=_table(shown, found, baseline))


def _table(
    shown: list[tuple[Entry, Against]],
    found: list[tuple[Measure, list[tuple[Entry, Against, Difference]]]],
    baseline: str,
) -> Table:
    cells = {(entry.label, measure.title): (measure, one) for measure, rows in found for entry, _, one in rows}
    rows = (
        (entry.label, *(_cell(cells.get((entry.label, measure.title))) for measure, _ in found)) for entry, _ in shown
    )
    return Table((f"minus {baseline}", *(measure.title for measure, _ in found)), tuple(rows))


def _cell(found: tuple[Measure, Difference] | None) -> str:
    if found is None:
        return MISSING
    measure, one = found
    p_value = "" if one.p_value is None else f", p = {one.p_value:.3f}"
    if one.p_holm is not None:
        p_value += f", {one.p_holm:.3f} corrected"
    return with_interval(one.estimate, measure.decimals) + p_value


def _measures(temperature: float | None, ks: tuple[int, ...]) -> tuple[_Paired, ...]:
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


def _item(measure: Measure, part: str, name: str) -> _Paired:
    return _Paired(measure, lambda against: against.items.get(part, {}).get(name))


def _passed(k: int, temperature: float) -> _Paired:
    title = f"pass@{k} at temperature {temperature:g}"
    return _Paired(_share(title), lambda against: against.samples.temperature_matched.get(temperature, {}).get(k))


def _entropy_matched(k: int) -> _Paired:
    return _Paired(_share(f"pass@{k} at equal answer entropy"), lambda against: against.samples.entropy_matched.get(k))


def _share(title: str) -> Measure:
    return Measure(title, "share of problems", "higher", lambda _: None)
