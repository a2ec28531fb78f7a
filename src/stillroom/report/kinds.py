"""The pages of runs that have one of their own kind: the sandboxes, a ranking of teachers, a law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stillroom.disk import copy_file
from stillroom.files import file_aside, read_json_object
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


def _sandbox(run: Path) -> Built:
    if read_json_object(run / "sandbox.json", "that of a sandbox").get("kind") == "recall":
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


_BUILDERS: dict[str, Callable[[Path], Built]] = {"sandbox.json": _sandbox, "ranking.json": _ranking, "law.json": _law}
