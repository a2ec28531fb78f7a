"""The page of a bigram sandbox: complete, self-contained, the same bytes twice, and says what the numbers say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from stillroom.report.charts.lines import brief, log_axis
from stillroom.report.pages.bigram_page import build_bigram_report, findings, samples_needed
from stillroom.report.pages.bigram_results import load_bigram_run
from stillroom.report.pages.bigram_sweeps import sweep_figures
from stillroom.results.bigram_file import BigramArm
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.run_bigram import run_bigram
from stillroom.study.progress import StageDisplay
from stillroom.types import Estimate, UserError

OPTIONS = {
    "states": 20, "samples": (50, 500, 5000, 50_000), "seeds": 3, "teachers": ("exact", "uniform:0.1"),
    "temperatures": (1.0,), "routings": ("none", "0.5"), "ratio_supports": (5, 10), "gradient_samples": 2560,
    "gradient_seeds": 2, "transformer_tokens": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_bigram(BigramSweep(**OPTIONS), tmp_path_factory.mktemp("page") / "run", None, StageDisplay())


@pytest.fixture(scope="module")
def page(folder):
    path, _ = build_bigram_report(folder)
    return path.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing(page):
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", page)
    assert '<link rel="icon" href="data:,">' in page
    assert "@import" not in page


def test_the_page_is_the_same_for_the_same_files(folder, page):
    build_bigram_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == page


def test_every_figure_of_what_was_run_is_drawn(page):
    for identifier in ("variation", "divergence", "leftover", "ratio", "pass", "gradient", "alpha"):
        assert f'<section id="fig-{identifier}"' in page
    assert page.count('class="plot ') == 2 + 2 + 2 + 1 + 2 + 2 + 2  # pass@k at two of four sizes
    assert "fig-leak" not in page and "fig-temperature" not in page  # held fixed
    assert "fig-transformer" not in page  # none was trained
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.S).lower().split()


def test_theory_and_measurement_are_both_drawn(folder, page):
    run = load_bigram_run(folder)
    high = re.search(r"<h3>high-entropy rows</h3>(<svg.*?</svg>)", page, re.S)
    assert high is not None
    assert high[1].count('class="curve thin') == len(run.drawn)
    assert high[1].count("mark s0") == len(run.samples)
    deviation = run.data.deviation.tv
    assert f"Of {deviation.num} points where theory is at least 0.001" in page


def test_the_summary_says_the_numbers(folder):
    run = load_bigram_run(folder)
    words = " ".join(findings(run))
    leaky = next(arm for arm in run.drawn if arm.leak and arm.routing == "none")
    assert f"stays {brief(leaky.tv['low'][-1].value)}" in words
    assert "0 with 50 % routed by teacher entropy" in words
    assert "theory says" in words
    spt = run.drawn[0]
    needed = samples_needed(run, spt, "high")
    curve = dict(zip(run.samples, (point.value for point in spt.tv["high"]), strict=True))
    if needed is None:
        assert curve[run.samples[-1]] > 0.1
    else:
        below = max(size for size in run.samples if size <= needed)
        assert curve[below] >= 0.1 or below == needed


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
    (tmp_path / "sandbox.json").write_text('{"kind": "sandbox-recall"}')
    with pytest.raises(UserError, match="not of a bigram sandbox"):
        build_bigram_report(tmp_path)
    data = json.loads((folder / "sandbox.json").read_text())
    del data["theory"]
    (tmp_path / "sandbox.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="theory does not fit"):
        build_bigram_report(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        build_bigram_report(tmp_path / "absent")


def test_the_page_needs_no_torch():
    code = "import stillroom.report.pages.bigram_page, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (1e-17, "0"), (0.0891, "0.0891"), (12.345, "12.3"), (1234.0, "1.23 k"), (float("nan"), "–")],
)
def test_numbers_are_short(value, words):
    assert brief(value) == words


def test_a_logarithmic_axis_is_labelled_at_powers_of_ten():
    assert [words for _, words in log_axis("x", 0.001, 120.0).labels] == ["0.001", "0.01", "0.1", "1", "10", "100"]


def arm(**said) -> BigramArm:
    """An arm whose distance is told by its settings."""
    plain = {
        "alpha": 0.5,
        "teacher": "t",
        "kind": "uniform",
        "leak": 0.1,
        "temperature": 1.0,
        "routing": "none",
        "share": 0.0,
    }
    found = plain | said
    value = found["alpha"] * found["leak"] * found["temperature"]
    curve = {"high": (Estimate(value, value, value, 3),)}
    return BigramArm(
        name=str(said),
        drawn=False,
        tv=curve,
        kl=curve,
        predicted={"high": value},
        floor={},
        uniform_floor=None,
        **found,
    )


@pytest.mark.parametrize(
    ("identifier", "groups"),
    [
        ("fig-alpha", {"leak of 0.1": [0.0, 0.5, 0.9], "leak of 0.2": [0.0, 0.5, 0.9]}),
        ("fig-leak", {"α = 0.5": [0.1, 0.2], "α = 0.9": [0.1, 0.2]}),
        ("fig-temperature", {"uniform leak of 0.1": [0.5, 1.0, 2.0]}),
    ],
)
def test_every_value_of_a_swept_setting_is_on_a_line_of_arms_that_differ_in_it_alone(folder, identifier, groups):
    arms = [arm(alpha=a, leak=n) for a in (0.5, 0.9) for n in (0.1, 0.2)]
    arms += [arm(temperature=T) for T in (0.5, 2.0)] + [arm(alpha=0.0, leak=0.0)]
    run = load_bigram_run(folder)
    run = replace(
        run, data=replace(run.data, arms=tuple(arms), world=replace(run.data.world, rows={"high": 9, "low": 0}))
    )
    figure = next(one for one in sweep_figures(run) if one.id == identifier)
    found: dict[str, list[float]] = {}
    for row in figure.table.rows:
        found.setdefault(row[0], []).append(float(row[1]))
    assert list(found.values()) == list(groups.values())
    assert all(words in name for words, name in zip(groups, found, strict=True))
    assert len(figure.legend) == len(groups) and len(figure.panels) == 1


def test_no_interval_of_a_share_leaves_what_a_share_can_be(folder):
    run = load_bigram_run(folder)
    points = [point for one in run.arms for curve in one.tv.values() for point in curve]
    points += [point for one in run.data.pass_.arms.values() for sizes in one.values() for of in sizes for point in of]
    assert len(points) > 100
    assert all(0.0 <= point.low <= point.value <= point.high <= 1.0 for point in points)
