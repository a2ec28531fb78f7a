"""The summary table, for the page and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.box import HORIZONTALS
from rich.table import Table as TerminalTable
from rich.text import Text

from stillroom.report.charts.figure import Table
from stillroom.report.figures.seed_differences import seeds_figure
from stillroom.report.formats import MISSING, fixed, interval, percent, si
from stillroom.report.headline import clear_best, headline_measures, headline_temperature, measured
from stillroom.report.view import Entry, View, by_text, make_view
from stillroom.results.measures import Measure
from stillroom.results.runs import load
from stillroom.results.schema import ModelRecord


@dataclass(frozen=True)
class SummaryCell:
    """A value, its interval in small type, and whether it is clearly the best of the students."""

    value: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True)
class SummaryRow:
    """A model's line of the summary table."""

    label: str
    colour: str
    cells: tuple[SummaryCell, ...]


@dataclass(frozen=True)
class SummaryColumn:
    """A column's title with its unit or direction in small type."""

    title: str
    small: str = ""


def summary_columns(view: View) -> tuple[SummaryColumn, ...]:
    """The columns after the model's name; what no model has is left out."""
    arrows = {"lower": "lower is better", "higher": "higher is better", None: ""}
    heads = (SummaryColumn("best induction head", "prefix · copying"),) if _have_heads(view) else ()
    return (
        SummaryColumn("tokens"),
        SummaryColumn("FLOPs", "teacher’s share"),
        *(SummaryColumn(measure.title, arrows[measure.better]) for measure in _measures(view)),
        *heads,
    )


def _measures(view: View) -> tuple[Measure, ...]:
    return tuple(one for one in headline_measures(view) if measured(view, one))


def _have_heads(view: View) -> bool:
    return any(entry.model.evaluation.heads is not None for entry in view.entries)


def summary_rows(view: View) -> tuple[SummaryRow, ...]:
    """One row for each model; a dash where something was not measured."""
    measures, have_heads = _measures(view), _have_heads(view)
    best = {measure.title: clear_best(view, measure) for measure in measures}
    return tuple(
        SummaryRow(
            entry.label,
            entry.colour,
            (
                _tokens(entry.model.record),
                _flops(entry.model.record),
                *(_measure(entry, measure, best[measure.title] is entry) for measure in measures),
                *([_head(entry)] if have_heads else []),
            ),
        )
        for entry in view.entries
    )


def _tokens(record: ModelRecord) -> SummaryCell:
    if not record.tokens:
        return SummaryCell(MISSING)
    repeated = record.epochs > 1
    return SummaryCell(si(record.tokens), f"{si(record.distinct_tokens)} × {record.epochs:g}" if repeated else "")


def _flops(record: ModelRecord) -> SummaryCell:
    if not record.flops:
        return SummaryCell(MISSING)
    share = record.teacher_flops / record.flops
    return SummaryCell(si(record.flops), percent(share) if record.teacher_flops else "none")


def _measure(entry: Entry, measure: Measure, best: bool) -> SummaryCell:
    est = entry.read(measure)
    if est is None:
        return SummaryCell(MISSING)
    return SummaryCell(fixed(est.value, measure.decimals), interval(est, measure.decimals), best)


def _head(entry: Entry) -> SummaryCell:
    heads = entry.model.evaluation.heads
    best = None if heads is None else heads.induction_head
    if best is None:
        return SummaryCell(MISSING)
    return SummaryCell(f"L{best.layer} H{best.head}", f"{fixed(best.prefix_matching, 2)} · {fixed(best.copying, 2)}")


def summary_table(run_folder: Path) -> TerminalTable:
    """The summary of a run folder for the terminal: a column per model, 95 % intervals under the values.

    Five models fit into 80 columns.

    Raises:
        UserError: a file of the folder is missing or damaged.
    """
    view = make_view((load(run_folder),))
    temperature = headline_temperature(view)
    heat = "" if temperature is None else f" · sampled at temperature {temperature:g}"
    caption = f"95 % intervals over items{heat}"
    table = TerminalTable(title=view.title, caption=caption, box=HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    rows = summary_rows(view)
    for row in rows:
        table.add_column(Text(row.label), justify="right", overflow="fold")
    for number, column in enumerate(summary_columns(view)):
        note = column.small.replace(" is better", "")
        title = Text.assemble(column.title, (f"\n{note}", "dim") if note else "")
        table.add_row(title, *(_terminal(row.cells[number]) for row in rows))
    return table


def seeds_tables(run_folders: list[Path]) -> list[TerminalTable]:
    """Arms over training seeds for the terminal: means, and differences from the baseline's arm.

    A table for each group of runs that were measured on the same text in the same tokens (``by_text``); none of those
    that hold no two arms of two seeds or more.

    Raises:
        UserError: a file of a folder is missing or damaged.
    """
    groups = by_text(make_view(tuple(load(folder) for folder in run_folders)))
    figures = [(seeds_figure(group), f": {group.title}" if len(groups) > 1 else "") for group in groups]
    return [_seeds_table(figure.title + of, figure.table) for figure, of in figures if figure.table is not None]


def _seeds_table(title: str, rows: Table) -> TerminalTable:
    caption = "95 % intervals of Student’s t over seeds; p-values of the paired t-test, corrected for their number"
    table = TerminalTable(title=title, caption=caption, box=HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for place, name in enumerate(rows.head):
        table.add_column(Text(name), justify="left" if place < 2 else "right", overflow="fold")
    for row in rows.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _terminal(cell: SummaryCell) -> Text:
    words = Text(cell.value, style="bold" if cell.best else "")
    small = cell.small.replace(" to ", "…")
    return words.append(f"\n{small}", style="dim") if small else words
