"""Parts of other packages that cannot be loaded end in one sentence that names them, whatever their kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from make_run import make_run
from micro import micro
from stillroom.config import CorpusConfig, LabelsConfig, parse
from stillroom.corpora.sources.source_kinds import SOURCES
from stillroom.evaluation.suite import find_suite
from stillroom.labels.codecs.codec import find_codec
from stillroom.objectives.routing_rules import RULES
from stillroom.report import build_report
from stillroom.results import measures
from stillroom.study.pipeline import run_study
from stillroom.study.plan import print_plan
from stillroom.study.progress import StageDisplay
from stillroom.training.optimizer_registry import OPTIMIZERS
from stillroom.types import UserError
from stillroom.worlds.text_worlds import TEXT_WORLDS

ASKED: dict[str, Callable[[Path], object]] = {
    "stillroom.routing": lambda _: RULES.find("broken"),
    "stillroom.worlds": lambda _: TEXT_WORLDS.find("broken"),
    "stillroom.sources": lambda _: SOURCES.find("broken"),
    "stillroom.optimizers": lambda _: OPTIMIZERS.find("broken"),
    "stillroom.codecs": lambda _: find_codec("broken", "labels"),
    "stillroom.suites": lambda _: find_suite("broken"),
    "stillroom.measures": lambda _: measures.registered_measures(),
    "stillroom.figures": lambda folder: build_report(make_run(folder / "run")),
}
MISTAKES = {
    "is not there": ("no_such_package_of_anyone:PART", "ModuleNotFoundError"),
    "has no such part": ("json:NO_PART", "AttributeError"),
    "raises": ("raising_part:PART", "ZeroDivisionError"),
}


@pytest.fixture(autouse=True)
def forgotten():
    """Measures of others are looked for once in a process."""
    measures._of_other_packages.cache_clear()
    yield
    measures._of_other_packages.cache_clear()


def install(folder: Path, group: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What installing a package with one entry point leaves."""
    (folder / "broken-1.0.dist-info").mkdir()
    (folder / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "broken-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\nbroken = {target}\n")
    (folder / "raising_part.py").write_text("PART = 1 / 0\n")
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("group", ASKED)
def test_a_part_that_cannot_be_loaded_is_named(group, mistake, tmp_path, monkeypatch):
    target, kind = MISTAKES[mistake]
    install(tmp_path, group, target, monkeypatch)
    said = rf"^{group}: 'broken' \({target}\) could not be loaded \({kind}: .*; mend or remove the package"
    with pytest.raises(UserError, match=said):
        ASKED[group](tmp_path)


def test_a_measure_of_another_kind_is_named(tmp_path, monkeypatch):
    install(tmp_path, "stillroom.measures", "json:loads", monkeypatch)
    with pytest.raises(UserError, match=r"'broken' .json:loads. is function, expected a Measure or a tuple of them"):
        measures.registered_measures()


def test_a_study_with_a_broken_measure_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    install(tmp_path, "stillroom.measures", "raising_part:PART", monkeypatch)
    with pytest.raises(UserError, match="ZeroDivisionError"):
        run_study(micro(), tmp_path / "run", tmp_path / "artifacts", StageDisplay())
    assert not (tmp_path / "run").exists() and not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": {"facts": {"kind": "facts", "options": {"entities": 0}}}}, "entities"),
        ({"sources": {"facts": {"kind": "facts", "options": {"entitys": 5}}}}, "entities"),
    ],
    ids=["wrong", "unknown"],
)
def test_a_dry_run_checks_the_options_of_worlds(changes, words):
    config = micro()
    wrong = parse(CorpusConfig, config.corpus.model_dump() | changes, "corpus")
    with pytest.raises(UserError, match=words):
        print_plan(config.model_copy(update={"corpus": wrong}))


def test_a_codec_that_is_none_is_told_in_one_sentence():
    with pytest.raises(UserError, match=r"^labels: codec is 'frist', expected one of [a-z, -]*\.$"):
        parse(LabelsConfig, {"codec": "frist"}, "labels")
