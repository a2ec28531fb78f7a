"""One self-contained HTML page from run folders: no network, nothing beside the file itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stillroom.files import write_text
from stillroom.report.figures import Figure, Table, all_figures
from stillroom.report.formats import MISSING, duration, si
from stillroom.report.headline import headline_temperature
from stillroom.report.html import fill, stage_rows
from stillroom.report.prose import apart, summary
from stillroom.report.samples import shown_problems
from stillroom.report.tables import summary_columns, summary_rows
from stillroom.report.view import View, by_text, make_view, run_names
from stillroom.results.json_form import as_json
from stillroom.results.runs import Run, load
from stillroom.results.schema import ModelRecord
from stillroom.types import UserError


def build_report(run_folder: Path) -> Path:
    """Writes ``report.html`` into a run folder and returns its path.

    The page appears complete or not at all, and the same files give the same bytes.

    Raises:
        UserError: a file of the folder is missing or damaged, or the folder cannot be written.
    """
    return compare_report([run_folder], run_folder / "report.html")


def compare_report(run_folders: list[Path], out: Path) -> Path:
    """Writes one page on the models of several runs to ``out`` and returns it.

    Raises:
        UserError: no folder is given, a file is missing or damaged, or ``out`` cannot be written.
    """
    write_text(out, page_text(_view(run_folders)))
    return out


def shown_figures(run_folders: list[Path]) -> list[Figure]:
    """The figures of that page, with those that have nothing to show."""
    return _figures(by_text(_view(run_folders)))


def _view(run_folders: list[Path]) -> View:
    if not run_folders:
        raise UserError("report: no run folder was given; name at least one, such as runs/quickstart-1a2b3c4d.")
    return make_view(tuple(load(folder) for folder in run_folders))


def page_text(view: View) -> str:
    """The page as text: the key figure first where there is one, then the table, then every other figure.

    Runs that were measured on other text, or in other tokens, have a table and figures of their own.
    """
    groups = by_text(view)
    shown = shown_problems(groups)
    return fill(
        "page.html.j2",
        kind="stillroom report",
        title=view.title,
        lead=summary(view) if len(groups) == 1 else apart(groups),
        figures=_key_first(_figures(groups)),
        table_title="Summary table",
        samples_title="Completions" if shown.problems else "",
        run_title="What was run",
        several=len(view.runs) > 1,
        tables=[_summary_table(group, "" if len(groups) == 1 else group.title) for group in groups],
        families=family_table(view),
        temperature=headline_temperature(view),
        problems=shown.problems,
        chosen=shown.chosen,
        tasks=list(dict.fromkeys(one.family for one in shown.problems)),
        costs=cost_table(view),
        runs=[_run_details(name, run) for name, run in zip(run_names(view.runs), view.runs, strict=True)],
    )


def _figures(groups: tuple[View, ...]) -> list[Figure]:
    """Every figure of every group; each says its group where there are several."""
    if len(groups) == 1:
        return list(all_figures(groups[0]))
    return [
        replace(figure, id=f"{figure.id}-{number}", title=f"{figure.title}: {group.title}")
        for number, group in enumerate(groups, 1)
        for figure in all_figures(group)
    ]


_KEYS = ("fig-worth", "fig-seeds", "fig-paired")
"""Figures that answer what a study asks, the best first."""


def _key_first(figures: list[Figure]) -> list[Figure]:
    """The figures with the key figure before all others."""
    drawn = [figure for figure in figures if figure.panels]
    key = next((one for name in _KEYS for one in drawn if one.id.startswith(name)), None)
    return figures if key is None else [key, *(one for one in figures if one is not key)]


def _summary_table(group: View, title: str) -> dict[str, object]:
    """What a summary table prints."""
    return {
        "title": title,
        "columns": summary_columns(group),
        "rows": summary_rows(group),
        "temperature": headline_temperature(group),
    }


def family_table(view: View) -> Table | None:
    """pass@k by problem family at the headline temperature; None where it was not recorded."""
    heat = headline_temperature(view)
    found = []
    for entry in view.entries:
        suite = entry.model.evaluation.tts
        drawn = suite.temperatures.get(heat) if suite and heat is not None else None
        found += [(entry.label, family, scores) for family, scores in (drawn.by_family if drawn else {}).items()]
    if not found:
        return None
    ks = sorted({k for _, _, scores in found for k in scores})
    rows = tuple(
        (label, family, *(f"{scores[k]:.3f}" if k in scores else "–" for k in ks)) for label, family, scores in found
    )
    return Table(("model", "family", *(f"pass@{k}" for k in ks)), rows)


def cost_table(view: View) -> Table:
    """Sizes, tokens, FLOPs with the teacher's counted, and time of every model."""
    head = ("model", "α", "routed", "parameters", "distinct tokens", "passes", "tokens seen")
    head = (*head, "own FLOPs", "teacher’s FLOPs", "all FLOPs", "training time")
    return Table(head, tuple((entry.label, *_costs(entry.model.record)) for entry in view.entries))


def _costs(record: ModelRecord) -> tuple[str, ...]:
    routing = record.routing
    share = "" if routing is None or routing.share is None else f"{100 * routing.share:g} % "
    return (
        f"{record.alpha:g}",
        MISSING if routing is None else f"{share}{routing.rule}",
        si(record.parameters) if record.parameters else MISSING,
        si(record.distinct_tokens) if record.distinct_tokens else MISSING,
        f"{record.epochs:g}" if record.epochs else MISSING,
        si(record.tokens) if record.tokens else MISSING,
        si(record.student_flops) if record.student_flops else MISSING,
        si(record.teacher_flops) if record.teacher_flops else "0",
        si(record.flops) if record.flops else MISSING,
        duration(record.seconds) if record.seconds else MISSING,
    )


def _run_details(name: str, run: Run) -> dict[str, object]:
    """What the section on a run prints."""
    study = run.study
    labels = study.labels
    facts = [] if labels is None else [("label codec", labels.codec), ("labelled tokens", si(labels.tokens))]
    if labels is not None:
        optional = (
            ("stored size", labels.bytes_per_token, "bytes per token"),
            ("KL of live from stored labels", labels.mean_kl_nats, "nats per token"),
            ("mean teacher entropy", labels.teacher_entropy_nats, "nats per token"),
        )
        facts += [(title, f"{value:.3g} {unit}") for title, value, unit in optional if value is not None]
    return {
        "name": name,
        "fingerprint": study.fingerprint,
        "stages": stage_rows(study.stages),
        "total": duration(study.total_seconds),
        "labels": facts,
        "environment": [(key, str(value)) for key, value in as_json(run.environment).items()],
        "notes": study.notes,
        "config": run.config_yaml,
    }
