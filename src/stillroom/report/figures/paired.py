"""Every student against the baseline on the same items: bars from zero."""

from __future__ import annotations

from stillroom.report.charts.figure import Figure, Panel, Table, panel_width
from stillroom.report.differences import all_kinds
from stillroom.report.figures import captions
from stillroom.report.figures.bars import bars
from stillroom.report.formats import MISSING, with_interval
from stillroom.report.headline import all_ks, headline_temperature
from stillroom.report.view import Entry, View
from stillroom.results.measures import Measure
from stillroom.results.schema import Against, Difference

ID, TITLE = "fig-paired", "Differences on the same items"


def paired_figure(view: View) -> Figure:
    """Differences from the baseline, item by item, with their intervals; p-values in the table."""
    comparison = view.runs[0].comparison if len(view.runs) == 1 else None
    if comparison is None or not comparison.against:
        return Figure(ID, TITLE)
    entries = {entry.model.record.name: entry for entry in view.entries}
    shown = [(entries[name], against) for name, against in comparison.against.items() if name in entries]
    found = [
        (kind.measure, rows)
        for kind in all_kinds(headline_temperature(view), all_ks(view))
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
