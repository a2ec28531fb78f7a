"""Needle in a haystack: a square for every length of text and depth of the fact, one map for each model."""

from __future__ import annotations

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, missing_models, span
from stillroom.report.charts.keys import shades_key
from stillroom.report.charts.svg import SMALL, drawing, segment, tag, text
from stillroom.report.figures import captions
from stillroom.report.formats import fixed, with_interval
from stillroom.report.view import Entry, View
from stillroom.results.schema import NeedleResult
from stillroom.types import Estimate

LEFT, TOP, BOTTOM = 48.0, 26.0, 46.0
HIGH = 34.0
"""Height of a square; its width is what the drawing leaves."""


def needle_map(view: View) -> Figure:
    """How often a stated fact is found, by the length of the text and by where in it the fact stands."""
    shown = [(entry, needle) for entry in view.entries if (needle := entry.model.evaluation.needle)]
    ident, title = "fig-needle", "Needle in a haystack"
    if not shown:
        return Figure(ident, title)
    counts = span([cell.num for _, needle in shown for row in needle.grid for cell in row])
    chances = {fixed(needle.chance, 2) for _, needle in shown if needle.chance is not None}
    chance = f"; a guess finds {' or '.join(sorted(chances))}" if chances else ""
    missing = missing_models(view.entries, tuple(entry for entry, _ in shown))
    return Figure(
        ident,
        title,
        captions.NEEDLE.format(count=counts, chance=chance) + missing,
        tuple(Panel(entry.label, _map(entry, needle)) for entry, needle in shown),
        (("found: none to all", shades_key("warm")),),
        _table(shown),
    )


def _map(entry: Entry, needle: NeedleResult) -> Markup:
    """Depth downwards, length to the right."""
    wide = (SMALL - LEFT - 8) / len(needle.lengths)
    floor = TOP + HIGH * len(needle.depths)
    parts = [text(4, 14, "depth (0 first, 1 last)", class_="name")]
    for row, depth in enumerate(needle.depths):
        y = TOP + HIGH * row
        parts.append(text(LEFT - 7, y + HIGH / 2 + 4, f"{depth:g}", "end", "tick"))
        for column, length in enumerate(needle.lengths):
            cell = needle.grid[column][row]
            hint = f"{length} tokens, depth {depth:g}: {with_interval(cell, 2)}"
            parts += _square(LEFT + wide * column, y, wide - 2, cell, hint)
    parts.append(segment(LEFT, floor + 2, SMALL - 10, floor + 2, "axis"))
    for column, length in enumerate(needle.lengths):
        parts.append(text(LEFT + wide * (column + 0.5) - 1, floor + 19, str(length), "middle", "tick"))
    parts.append(text(SMALL - 10, floor + BOTTOM - 5, "length of the text, tokens", "end", "name"))
    words = f"{len(needle.depths)} depths by {len(needle.lengths)} lengths; in all {fixed(needle.accuracy.value, 2)}."
    return drawing(SMALL, floor + BOTTOM, f"Needles that {entry.label} finds", words, *parts)


def _square(x: float, y: float, wide: float, cell: Estimate, hint: str) -> list[Markup]:
    """A ground, its strength, and the number on it."""
    box = {"x": x, "y": y, "width": wide, "height": HIGH - 2}
    return [
        tag("rect", class_="cell", **box),
        tag("rect", tag("title", hint), class_="warm", fill_opacity=f"{min(1.0, max(0.0, cell.value)):.3f}", **box),
        text(x + wide / 2, y + HIGH / 2 + 4, fixed(cell.value, 2), "middle", "halo"),
    ]


def _table(shown: list[tuple[Entry, NeedleResult]]) -> Table:
    depths = shown[0][1].depths
    rows = [
        (entry.label, str(length), *(with_interval(cell, 2) for cell in row))
        for entry, needle in shown
        for length, row in zip(needle.lengths, needle.grid, strict=True)
        if needle.depths == depths
    ]
    return Table(("model", "length", *(f"depth {depth:g}" for depth in depths)), tuple(rows))
