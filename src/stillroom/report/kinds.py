"""The pages of runs that have one of their own kind: the sandboxes, a ranking of teachers, a law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stillroom.disk import copy_file
from stillroom.files import file_aside, read_json_object
from stillroom.report.charts.figure import Figure
from stillroom.results.other_folders import PAGES_OF_THEIR_OWN

Built = tuple[Path, Sequence[str]]


def has_own_page(run: Path) -> bool:
    """Whether a folder is that of a run which has a page of its own kind."""
    return any((run / name).is_file() for name in PAGES_OF_THEIR_OWN)


def build_page(run: Path, out: Path | None = None) -> Built:
    """Writes the page of such a run, beside its results and to ``out`` where that is given.

    Returns the page, and what it says in sentences.
    """
    name = next(name for name in PAGES_OF_THEIR_OWN if (run / name).is_file())
    page, sentences = _BUILDERS[name](run)
    if out is None:
        return page, sentences
    with file_aside(out) as scratch:
        copy_file(page, scratch)
    return out, sentences


def figures_of(runs: Sequence[Path]) -> tuple[Figure, ...]:
    """The figures that the page of these runs shows, in its order."""
    if len(runs) == 1 and has_own_page(runs[0]):
        name = next(name for name in PAGES_OF_THEIR_OWN if (runs[0] / name).is_file())
        found = _FIGURES[name](runs[0])
    else:
        from stillroom.report.page import shown_figures

        found = shown_figures(list(runs))
    return tuple(figure for figure in found if figure.is_shown)


def _is_recall(run: Path) -> bool:
    return read_json_object(run / "sandbox.json", "that of a sandbox").get("kind") == "recall"


def _sandbox(run: Path) -> Built:
    if _is_recall(run):
        from stillroom.report.pages.recall_page import build_recall_report

        return build_recall_report(run), ()
    from stillroom.report.pages.bigram_page import build_bigram_report

    return build_bigram_report(run)


def _ranking(run: Path) -> Built:
    from stillroom.report.pages.teachers_page import build_teachers_page

    return build_teachers_page(run), ()


def _law(run: Path) -> Built:
    from stillroom.report.pages.forecast_page import build_forecast_page

    return build_forecast_page(run), ()


def _sandbox_figures(run: Path) -> Sequence[Figure]:
    if _is_recall(run):
        from stillroom.report.pages.recall_page import recall_figures

        return recall_figures(run)
    from stillroom.report.pages.bigram_figures import bigram_figures
    from stillroom.report.pages.bigram_results import load_bigram_run

    return bigram_figures(load_bigram_run(run))


def _ranking_figures(run: Path) -> Sequence[Figure]:
    from stillroom.report.pages.teachers_page import ranking_figures

    return ranking_figures(run)


def _law_figures(run: Path) -> Sequence[Figure]:
    from stillroom.laws.law_file import load_law
    from stillroom.report.pages.forecast_page import law_figures

    return law_figures(load_law(str(run)))


_FIGURES: dict[str, Callable[[Path], Sequence[Figure]]] = {
    "sandbox.json": _sandbox_figures,
    "ranking.json": _ranking_figures,
    "law.json": _law_figures,
}
_BUILDERS: dict[str, Callable[[Path], Built]] = {"sandbox.json": _sandbox, "ranking.json": _ranking, "law.json": _law}
