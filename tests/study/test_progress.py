"""What is told of a stage while it runs: share, rate, loss and time left, on a terminal and in a file."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest

from stillroom.config import StudyConfig
from stillroom.console import Terminal
from stillroom.study import progress as progress_module
from stillroom.study.pipeline import run_single
from stillroom.study.processes import in_processes
from stillroom.study.progress import StageDisplay, StageProgress
from stillroom.study.recipe_files import resolve_recipe


def told(*, there: int | None = None, more: str = "") -> tuple[StageProgress, list[float]]:
    now = [10.0]
    return StageProgress("tokens", there, lambda: more, clock=lambda: now[0]), now


def test_a_line_tells_share_rate_loss_and_time_left():
    progress, now = told(more="5.0 bytes/token")
    now[0] += 83
    assert progress.line() == "0:01:23 so far"
    progress(0, 40_000)
    assert progress.line() == "0 % of 40,000 tokens, - tokens/s, 5.0 bytes/token, time left unknown"
    now[0] += 4
    progress(10_000, 40_000)
    progress.loss(3.14159)
    assert progress.line() == "25 % of 40,000 tokens, 2,500 tokens/s, loss 3.142, 5.0 bytes/token, 0:00:12 left"


@pytest.mark.parametrize("there", [None, 30_000])
def test_what_was_there_before_is_no_part_of_the_rate(there):
    progress, now = told(there=there)
    if there is not None:
        progress(15_000, 40_000)
        now[0] += 1
        assert progress.rate is None
    progress(30_000, 40_000)
    now[0] += 1 if there is not None else 2
    progress(31_000, 40_000)
    assert progress.rate == pytest.approx(500.0)


def test_every_part_of_a_stage_is_counted_for_itself():
    progress, now = told()
    progress(1, 10)
    now[0] += 100
    progress(10, 10)
    progress(5, 200)
    now[0] += 2
    progress(25, 200)
    assert progress.line() == "12 % of 200 tokens, 10 tokens/s, 0:00:18 left of part 2"


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_no_clock_makes_a_line_impossible(seconds):
    progress, now = told()
    for done, total in ((0, 0), (0, 5), (5, 5), (7, 5)):
        progress(done, total)
        now[0] += seconds
        assert progress.line()


def test_where_there_is_no_terminal_a_line_comes_every_few_seconds_whatever_runs(monkeypatch):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.05)
    text = io.StringIO()
    with StageDisplay(Terminal(file=text, width=40)).stage("a stage of a very long name") as progress:
        time.sleep(0.2)  # nothing is told yet, such as while a model is loaded
        progress(0, 10)
        progress(1, 10)
        progress.loss(2.0)
        time.sleep(0.2)
    lines = text.getvalue().splitlines()
    assert lines[0] == "a stage of a very long name ..." and lines[-1].startswith("✓ a stage of a very long name ")
    assert lines[1] == "  a stage of a very long name: 0:00:00 so far"
    pattern = r"  a stage of a very long name: 10 % of 10 tokens, [\d,.e+]+ tokens/s, loss 2\.000, 0:00:\d\d left"
    assert re.fullmatch(pattern, lines[-2]) and len(lines) < 12


def test_a_mistake_ends_the_lines(monkeypatch):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.02)
    text = io.StringIO()
    with pytest.raises(ValueError, match="oh"), StageDisplay(Terminal(file=text)).stage("x"):
        raise ValueError("oh")
    before = text.getvalue()
    time.sleep(0.1)
    assert text.getvalue() == before == "x ...\n"


def _say(shown: bool) -> tuple[str, None]:
    with StageDisplay.of_child(shown).stage("of a child"):
        pass
    return "x", None


@pytest.mark.parametrize(
    ("options", "shown"), [({}, True), ({"force_terminal": True}, False), ({"quiet": True}, False)]
)
def test_processes_tell_how_far_they_are_where_no_bar_moves(options, shown, capfd):
    display = StageDisplay(Terminal(file=io.StringIO(), **options))
    assert display.is_shared == shown
    in_processes(_say, [display.is_shared], 1, display, "stages")
    assert ("✓ of a child" in capfd.readouterr().err) == shown


def test_a_training_whose_output_is_no_terminal_tells_its_loss_and_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.02)  # so that even a tiny model has some lines
    config, text = resolve_recipe(str(Path(__file__).parents[1] / "micro.py")), io.StringIO()
    assert isinstance(config, StudyConfig)
    run_single(config, "spt", tmp_path, StageDisplay(Terminal(file=text, width=200)))
    line = r"  spt: \d+ % of 4,096 tokens, [\d,.]+ tokens/s, loss \d\.\d{3}, 0:00:\d\d left\n"
    assert re.search(line, text.getvalue()), text.getvalue()
