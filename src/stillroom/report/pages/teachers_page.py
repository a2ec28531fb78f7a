"""The page of a ranking of teachers, from ``ranking.json`` alone: no network, no torch, one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stillroom.checksums import require
from stillroom.files import shaped, write_text
from stillroom.laws.presets import CAPACITY_BREAK
from stillroom.report.figures import Figure, Table
from stillroom.report.figures.teacher_ranking import (
    Measured,
    RankedTeacher,
    agreement_figure,
    certain_figure,
    entropy_figure,
    order_figure,
    ranked_candidates,
    reliability_figure,
)
from stillroom.report.formats import MISSING, fixed, interval, si
from stillroom.report.html import Lead, fill
from stillroom.results.json_form import read
from stillroom.results.ranking_file import Ranking, TeacherRecord
from stillroom.types import Estimate


@dataclass(frozen=True)
class TeacherRow:
    """A candidate's line of the table; each cell is a value and its interval in small type."""

    name: str
    colour: str
    chosen: bool
    cells: tuple[tuple[str, str], ...]


def build_teachers_page(folder: Path) -> Path:
    """Writes ``ranking.html`` beside ``ranking.json`` and returns its path; the same file gives the same bytes.

    Raises:
        UserError: ``ranking.json`` is missing, damaged, or no ranking.
    """
    ranking = _ranking(folder)
    with shaped(folder / "ranking.json", "that of stillroom teachers rank"):
        page = teachers_text(ranking)
    write_text(folder / "ranking.html", page)
    return folder / "ranking.html"


def _ranking(folder: Path) -> Ranking:
    require(folder / "ranking.json")
    return read(Ranking, folder / "ranking.json")


def ranking_figures(folder: Path) -> tuple[Figure, ...]:
    """The figures of the page."""
    ranking = _ranking(folder)
    with shaped(folder / "ranking.json", "that of stillroom teachers rank"):
        return _figures(ranking, ranked_candidates(ranking))


def _figures(ranking: Ranking, entries: tuple[RankedTeacher, ...]) -> tuple[Figure, ...]:
    share: Any = ranking.settings["low_entropy_share"]
    return (
        order_figure(ranking, entries),
        certain_figure(entries, share),
        reliability_figure(entries),
        entropy_figure(entries),
        agreement_figure(ranking),
    )


def teachers_text(ranking: Ranking) -> str:
    """The page as text."""
    entries = ranked_candidates(ranking)
    columns, rows = ranking_rows(ranking, entries)
    student = ranking.student
    return fill(
        "teachers.html.j2",
        kind="stillroom teachers",
        title=f"{len(entries)} candidate teacher{'s' if len(entries) > 1 else ''}",
        lead=_lead(ranking),
        table_title="Every measure",
        run_title="What was measured",
        basis=ranking.recommendation.basis,
        student=student and {"name": student.name, "ce": fixed(student.ce, 3)},
        columns=columns,
        rows=rows,
        figures=_figures(ranking, entries),
        law_break=f"{CAPACITY_BREAK:g}",
        costs=labelling_costs(entries),
        facts=ranking_facts(ranking),
    )


def _lead(ranking: Ranking) -> Lead:
    """The recommendation, what was measured and how sure it is; what lies between them below the key figure."""
    first, *others = ranking.recommendation.sentences
    heldout, proxies = ranking.heldout, ranking.proxies
    measured = f"What was measured: {heldout.positions:,} held-out positions of {heldout.documents} documents"
    if proxies is not None:
        measured += f", and proxy students of {si(proxies.tokens)} tokens"
    return Lead(((first,), (f"{measured}.", *others[-1:])), tuple(others[:-1]))


def ranking_rows(
    ranking: Ranking, entries: tuple[RankedTeacher, ...]
) -> tuple[list[tuple[str, str]], list[TeacherRow]]:
    """Columns (title, small type) and rows of the first table; a column that nobody has is left out."""
    readers: list[tuple[str, str, int, Callable[[TeacherRecord], Measured]]] = [
        ("held-out loss", "nats per token, lower is better", 3, lambda record: record.ce),
        ("calibration error", "lower is better", 3, lambda record: record.calibration.ece),
        ("gold probability", "copyable positions", 3, lambda record: record.copyable.gold_probability),
        ("mass leaked", "low entropy", 3, lambda record: record.leak.shared),
        ("copies repeats", "share", 2, lambda record: record.looking_back.copying.accuracy_repeat),
    ]
    if ranking.student is not None:
        readers.append(("L teacher / L student", f"breaks at {CAPACITY_BREAK:g}", 2, lambda record: record.capacity))
    readers += [
        (f"pass@{k}", "higher is better", 3, partial(_passes, k=k))
        for k in (1, 16)
        if any(_passes(entry.record, k) for entry in entries)
    ]
    columns = [(title, small) for title, small, _, _ in readers]
    proxies = ranking.proxies
    if proxies is not None:
        columns.insert(0, ("proxy student’s loss", f"{si(proxies.tokens)} tokens"))
    rows = []
    for entry in entries:
        cells = [_cell(reader(entry.record), decimals) for _, _, decimals, reader in readers]
        if proxies is not None:
            losses = proxies.ce[entry.name]
            cells.insert(0, (fixed(sum(losses) / len(losses), 3), f"{len(losses)} run{'s' if len(losses) > 1 else ''}"))
        chosen = entry.name in ranking.recommendation.teachers
        rows.append(TeacherRow(entry.name, entry.colour, chosen, tuple(cells)))
    return columns, rows


def _passes(record: TeacherRecord, k: int) -> Estimate | None:
    return None if record.problems is None else record.problems.pass_at.get(k)


def _cell(found: Measured, decimals: int) -> tuple[str, str]:
    if not isinstance(found, Estimate):
        return MISSING, ""
    return fixed(found.value, decimals), interval(found, decimals)


def labelling_costs(entries: tuple[RankedTeacher, ...]) -> Table:
    """Parameters, and what labelling the corpus takes with each candidate."""
    head = ("teacher", "parameters", "tokens to label", "FLOPs", "bytes", "bytes per token", "hours here")
    rows = tuple(
        (
            entry.name,
            si(entry.record.parameters),
            si(cost.tokens),
            si(cost.flops),
            si(cost.bytes, "B"),
            fixed(cost.bytes_per_token, 1),
            MISSING if cost.hours is None else f"{cost.hours:.2g}",
        )
        for entry in entries
        for cost in (entry.record.cost,)
    )
    return Table(head, rows)


def ranking_facts(ranking: Ranking) -> list[tuple[str, str]]:
    """What the numbers rest on."""
    heldout, settings, proxies = ranking.heldout, ranking.settings, ranking.proxies
    listed = [
        ("corpus", f"{ranking.corpus.identity} ({', '.join(ranking.corpus.sources)})"),
        ("held out", f"{heldout.positions:,} positions of {heldout.documents} documents"),
        ("copying", f"{settings['copying_sequences']} sequences of {settings['copying_period']} random tokens, "
                    f"{settings['copying_repeats']} times"),
        ("seed", str(settings["seed"])),
    ]  # fmt: skip
    if settings["problems"]:
        drawn = f"{settings['problems']} problems, {settings['samples_per_problem']} samples each"
        listed.append(("pass@k", f"{drawn} at temperature {settings['temperature']:g}"))
    if proxies is not None:
        hard = ", ".join(fixed(value, 3) for value in proxies.hard_labels_ce)
        drawn = f"{si(proxies.tokens)} tokens, alpha {proxies.alpha:g}, runs per teacher: {proxies.seeds}"
        listed.append(("proxies", f"{drawn}; hard labels alone: {hard} nats per token"))
    listed += [(f"teacher {teacher.name}", teacher.path) for teacher in ranking.teachers]
    return listed
