"""What the kept checkpoints of a training could do: induction heads, copying and held-out loss against steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, curve_class, legend, names, panel_width
from stillroom.report.charts.scales import Scale, tight
from stillroom.report.charts.svg import Frame, drawing, marker, ticks
from stillroom.report.formats import fixed
from stillroom.report.view import Entry, View
from stillroom.results.runs import checkpoint_of
from stillroom.results.schema import Evaluation, HeadsResult

HEIGHT = 260.0
CAPTION = (
    "Each mark is a checkpoint that was kept, measured like the finished model (the last mark). Heads: the highest "
    "score of any head; an induction head is high in prefix matching and in copying. One training run per line, no "
    "interval; when a model begins to copy differs between seeds."
)
Reads = Callable[[Evaluation], float | None]


def _highest(name: str) -> Reads:
    def read(evaluation: Evaluation) -> float | None:
        rows = None if evaluation.heads is None else _scores(evaluation.heads, name)
        return None if not rows else max(max(row) for row in rows)

    return read


def _scores(heads: HeadsResult, name: str) -> tuple[tuple[float, ...], ...] | None:
    return {
        "previous token": heads.previous_token,
        "prefix matching": heads.prefix_matching,
        "copying": heads.copying,
    }[name]


def _accuracy(evaluation: Evaluation) -> float | None:
    found = evaluation.copying and evaluation.copying.accuracy_repeat
    return found.value if found else None


def _bits(evaluation: Evaluation) -> float | None:
    return evaluation.lm.bits_per_byte.value if evaluation.lm is not None else None


MEASURES: dict[str, Reads] = {
    "Previous token, best head": _highest("previous token"),
    "Prefix matching, best head": _highest("prefix matching"),
    "Copying, best head": _highest("copying"),
    "Copy accuracy": _accuracy,
    "Bits per byte": _bits,
}


@dataclass(frozen=True)
class _Line:
    """A model's values of one measure by step."""

    entry: Entry
    steps: tuple[int, ...]
    values: tuple[float, ...]


def training_figure(view: View) -> Figure:
    """A panel for every measure that two checkpoints of a model have."""
    found = {title: _lines(view, read) for title, read in MEASURES.items()}
    found = {title: lines for title, lines in found.items() if lines}
    shown = tuple({line.entry: None for lines in found.values() for line in lines})
    if not shown:
        return Figure("fig-training", "Over training")
    panels = tuple(Panel(title, _picture(lines, title, len(found))) for title, lines in found.items())
    rows = tuple(
        (line.entry.label, title, *(fixed(value, 3) for value in (line.values[0], line.values[-1])))
        for title, lines in found.items()
        for line in lines
    )
    table = Table(("model", "measure", "first checkpoint", "last"), rows)
    return Figure("fig-training", "Over training", CAPTION, panels, legend(shown), table)


def _lines(view: View, read: Reads) -> list[_Line]:
    lines = []
    for entry, points in _trainings(view):
        measured = {step: value for step, one in points.items() if (value := read(one)) is not None}
        if len(measured) > 1:
            steps = tuple(sorted(measured))
            lines.append(_Line(entry, steps, tuple(measured[step] for step in steps)))
    return lines


def _trainings(view: View) -> list[tuple[Entry, dict[int, Evaluation]]]:
    """Every model with its evaluations by step: of a study's, or of checkpoints that were evaluated side by side."""
    found: dict[str, tuple[Entry, dict[int, Evaluation]]] = {}
    for number, entry in enumerate(view.entries):
        model, step = checkpoint_of(entry.model.record.name)
        points = {one: evaluation for one, evaluation in entry.model.over_training}
        if step is not None:
            points[step] = entry.model.evaluation
        elif points and entry.model.metrics:
            points[entry.model.metrics[-1].step] = entry.model.evaluation
        first = found.setdefault(model if step is not None else str(number), (entry, {}))
        first[1].update(points)
    return list(found.values())


def _picture(lines: list[_Line], title: str, panels: int) -> Markup:
    width = panel_width(panels)
    last = max(line.steps[-1] for line in lines)
    frame = Frame(width, HEIGHT, Scale(0.0, 1.02 * last), tight([value for line in lines for value in line.values]))
    parts = [frame.axes("optimizer step", title, ticks(frame.x, 4))]
    for line in lines:
        points = frame.points(line.steps, line.values)
        parts.append(frame.curve(line.steps, line.values, curve_class(line.entry), line.entry.label))
        for (x, y), step, value in zip(points, line.steps, line.values, strict=True):
            hint = f"{line.entry.label}: {fixed(value, 3)} at step {step}"
            parts.append(marker(line.entry.marker, x, y, f"mark {line.entry.colour}", hint))
    models = names(tuple(line.entry for line in lines))
    return drawing(width, HEIGHT, title, f"{title} against training steps for {models}.", *parts)
