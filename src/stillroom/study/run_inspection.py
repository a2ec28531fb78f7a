"""What a run folder of any kind is and holds, for ``stillroom inspect``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stillroom.files import read_json_object, shaped
from stillroom.places import run_parts
from stillroom.results.json_form import read
from stillroom.results.other_folders import load_other
from stillroom.results.ranking_file import Ranking
from stillroom.results.schema import StudyRecord
from stillroom.study.evaluation_tables import estimates_table
from stillroom.types import printable

Rows = Iterator[tuple[str, str]]


def show_run(path: Path, console: Console) -> bool:
    """Prints what a run is and holds; False where the folder is that of no run, or of one training."""
    shown = next((show for name, show in _KINDS.items() if (path / name).is_file()), None)
    if shown is None and any(path.glob("*/evaluation.json")) and not (path / "config.yaml").is_file():
        shown = _evaluations
    if shown is None:
        run = run_parts(path)
        shown = _parts if run is not None and run.what == "a run under way" else None
    if shown is not None:
        shown(path, console)
    return shown is not None


def _table(title: str, rows: Rows, console: Console) -> None:
    table = Table(title=printable(title), title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, Text(printable(value), overflow="fold"))
    console.print(table)


def _parts(path: Path, console: Console) -> None:
    """A study's: what it is, and the names and places of its parts."""
    run = run_parts(path)
    assert run is not None
    _table(f"{path}: {run.what}", _rows_of_study(path), console)
    table = Table(title="Parts, each named as RUN:NAME", title_justify="left")
    for heading in ("name", "kind", "there", "place"):
        table.add_column(heading, overflow="fold")
    kinds = {"corpus": run.corpus, "labels": run.labels}
    for name in run.names("part"):
        place = kinds.get(name) or run.models[name]
        kind = name if kinds.get(name) else "model"
        table.add_row(Text(printable(name)), kind, "yes" if os.path.exists(place) else "no", Text(printable(place)))
    console.print(table)


def _rows_of_study(path: Path) -> Rows:
    if not (path / "study.json").is_file():
        yield "state", "its command, run again, goes on"
        return
    study = read(StudyRecord, path / "study.json")
    yield "study", f"{study.name} {study.fingerprint}"
    yield "students", ", ".join(model.name for model in study.models if model.role == "student")
    if study.labels is not None:
        yield "labels", f"{study.labels.tokens:,} tokens, codec {study.labels.codec}"
    yield "took", f"{study.total_seconds:.0f} s"
    yield "page", str(path / "report.html")


def _sandbox(path: Path, console: Console) -> None:
    file = path / "sandbox.json"
    values: dict[str, Any] = read_json_object(file, "that of a sandbox")
    with shaped(file, "that of a sandbox"):
        rows = [("kind", str(values["kind"])), ("fingerprint", str(values["fingerprint"]))]
        rows += [("arms", ", ".join(str(arm["name"]) for arm in values["arms"]))] if "arms" in values else []
        rows += [("seeds", str(len(values["seeds"])))] if isinstance(values.get("seeds"), list) else []
        rows += [("took", f"{values['total_seconds']:.0f} s"), ("page", str(path / "report.html"))]
    _table(f"{path}: a run of a sandbox", iter(rows), console)


def _ranking(path: Path, console: Console) -> None:
    ranking = read(Ranking, path / "ranking.json")
    rows = [(one.name, f"{one.ce.value:.4f} nats per token") for one in ranking.teachers]
    _table(f"{path}: a ranking of teachers", iter(rows), console)
    for sentence in ranking.recommendation.sentences:
        console.print(sentence, markup=False, soft_wrap=True)


def _evaluations(path: Path, console: Console) -> None:
    run = load_other(path)
    console.print(estimates_table({model.record.name: model.evaluation for model in run.models}))


_KINDS: dict[str, Callable[[Path, Console], None]] = {
    "study.json": _parts,
    "sandbox.json": _sandbox,
    "ranking.json": _ranking,
    "evaluation.json": _evaluations,
}
