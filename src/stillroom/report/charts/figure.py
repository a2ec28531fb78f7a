"""A figure of the page: its panels, its legend, its caption and the same numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from stillroom.report.charts.keys import line_key
from stillroom.report.charts.svg import SMALL, WIDE
from stillroom.report.view import Entry


@dataclass(frozen=True)
class Panel:
    """A drawing with the words above it (empty where the figure's title says it all)."""

    title: str
    picture: Markup


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """One numbered figure; a page leaves out what has nothing to show."""

    id: str
    title: str
    caption: str = ""
    panels: tuple[Panel, ...] = ()
    legend: tuple[tuple[str, Markup], ...] = ()
    table: Table | None = None
    most_columns: int = 3

    @property
    def is_shown(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.panels or self.table)

    @property
    def columns(self) -> int:
        """Panels side by side on a wide screen."""
        return min(self.most_columns, columns(len(self.panels)))


def columns(num_panels: int) -> int:
    """1, 2 or 3 panels side by side, so that the last row is not left nearly empty."""
    if num_panels <= 2:
        return num_panels
    return 2 if num_panels == 4 else 3


def panel_width(num_panels: int) -> float:
    """Width of a drawing that shares its row with the others of a figure, in user units."""
    return SMALL if columns(num_panels) == 3 else WIDE


def legend(entries: tuple[Entry, ...]) -> tuple[tuple[str, Markup], ...]:
    """Name and sign of each model, as the drawings show it; seeds of one arm, which look alike, are named once."""
    arms = [entry.arm for entry in entries]
    named = {entry.arm if arms.count(entry.arm) > 1 else entry.label: entry for entry in reversed(entries)}
    return tuple(
        (name, line_key(curve_class(entry), entry.marker, entry.colour)) for name, entry in reversed(named.items())
    )


def curve_class(entry: Entry, *more: str) -> str:
    """CSS classes of a model's line."""
    return " ".join(("curve", entry.colour, *(("dashed",) if entry.dashed else ()), *more))


def names(entries: tuple[Entry, ...]) -> str:
    """The models' names for a description."""
    return ", ".join(entry.label for entry in entries)


def missing_models(entries: tuple[Entry, ...], shown: tuple[Entry, ...]) -> str:
    """A sentence that names the models without this measurement; empty where there are none."""
    absent = [entry.label for entry in entries if entry not in shown]
    return f" Not measured for {', '.join(absent)}." if absent else ""


def span(counts: list[int]) -> str:
    """``200``, or ``100 to 200`` where they differ."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
