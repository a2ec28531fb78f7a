"""Numbers, verdicts and drawings: what is claimed, and that marks lie where the values are."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from make_run import SKETCHES, make_run, write
from stillroom.report import summary_table
from stillroom.report.charts.scales import Scale, linear, tick_text, tight
from stillroom.report.charts.svg import Frame, place_label, ticks
from stillroom.report.figures.bars import bars
from stillroom.report.formats import apart, duration, fixed, listing, si
from stillroom.report.headline import clear_best
from stillroom.report.html import Lead
from stillroom.report.prose import summary
from stillroom.report.view import View, make_view
from stillroom.results.measures import BITS_PER_BYTE, pass_at
from stillroom.results.runs import load
from stillroom.results.schema import HeadsResult
from stillroom.types import Estimate

reasonable = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def view(run: Path) -> View:
    return make_view((load(run),))


def said(lead: Lead) -> str:
    """Everything that a page says in words."""
    return " ".join((*(one for paragraph in lead.paragraphs for one in paragraph), *lead.details))


@given(st.lists(reasonable, min_size=1, max_size=6))
def test_scales_hold_their_values_and_have_a_few_round_ticks(values: list[float]) -> None:
    for scale in (linear(values), tight(values)):
        assert scale.low < scale.high
        assert all(-1e-6 <= scale.place(value) <= 1 + 1e-6 for value in values)
        found = scale.ticks()
        assert 2 <= len(found) <= 11
        assert all(-1e-6 <= scale.place(tick) <= 1 + 1e-6 for tick in found)
        assert len({words for _, words in ticks(scale)}) == len(found)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_a_scale_of_shares_never_shows_negative_numbers(shares: list[float]) -> None:
    assert linear(shares, include=0.0).low == 0.0
    assert tight(shares).low >= 0.0
    assert tight(shares, zero=True).low == 0.0


def test_logarithmic_scale_puts_doublings_at_equal_distances() -> None:
    scale = Scale(1, 16, log=True)
    assert [scale.place(k) for k in (1, 2, 4, 8, 16)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_words_for_numbers() -> None:
    assert tick_text(2.5, 2.5) == "2.5" and tick_text(-1, 1) == "−1" and tick_text(0.025, 0.025) == "0.025"
    assert fixed(-0.001, 2) == "0.00" and fixed(-1.5, 1) == "−1.5" and fixed(math.nan, 2) == "–"
    assert [si(value) for value in (0, 999, 1000, 1_049_600, 2e6, 5.66e13)] == [
        "0",
        "999",
        "1 k",
        "1.05 M",
        "2 M",
        "56.6 T",
    ]
    assert [duration(seconds) for seconds in (1.25, 59, 60, 190, 7500)] == [
        *("1.2 s", "59 s", "1 min 00 s", "3 min 10 s", "2 h 05 min"),
    ]
    assert [listing(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_intervals_apart_need_a_width_on_both_sides() -> None:
    low, high = Estimate(1, 0, 2, 9), Estimate(4, 3, 5, 9)
    assert apart(low, high) and apart(high, low)
    assert not apart(low, Estimate(3, 2, 4, 9))
    assert not apart(low, Estimate(4, 4, 4, 9))
    assert not apart(low, Estimate(math.nan, math.nan, math.nan, 9))


def test_best_is_marked_only_where_no_interval_overlaps(view: View) -> None:
    best = clear_best(view, BITS_PER_BYTE)
    assert best is not None and best.label == "SPT-2x"  # the teacher is lower but no student
    assert clear_best(view, pass_at(16, 1.0)) is None


def test_summary_says_in_three_sentences_what_soft_labels_bought_what_not_and_how_sure(view: View) -> None:
    (bought,), (lost,), (run, sure) = summary(view).paragraphs
    assert run == "What was run: 4 students of 1.05 M parameters on 1 M to 2 M tokens, 1 teacher of 4.72 M parameters."
    assert bought == (
        "What soft labels bought: DPT-90 does better than SPT in pass@1 at temperature 1 and pass@16 at temperature 1. "
        "On python, bits per byte, one of its tokens was worth 1.44 (1.31 to 1.60) of hard labels."
    )
    assert lost == "What they did not: there is no clear difference in ICL score."
    assert "corrected for the number of measures" in sure and "single training run" in sure


def test_summary_goes_by_paired_tests_where_there_are_any(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "worth.json").unlink()
    lead = summary(make_view((load(run),)))
    arms, ((answer,), (_, closing)) = lead.details, lead.paragraphs
    assert answer == "In pass@1 at temperature 1: SPT-2x, DPT-90 and DPT-90, 15 % routed do better than SPT."
    assert arms == (
        "SPT-2x, DPT-90 and DPT-90, 15 % routed do better than SPT in pass@1 at temperature 1 and pass@16 at "
        "temperature 1; there is no clear difference in ICL score.",
    )
    assert "corrected for the number of measures" in closing and "single training runs" in closing


def test_summary_says_better_only_where_intervals_are_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "comparison.json").unlink()
    words = said(summary(make_view((load(run),))))
    assert "SPT needs 2.412 (2.392 to 2.432) bits per byte: SPT-2x (2.196), DPT-90 (2.304)" in words
    assert "pass@1 0.020 (0.003 to 0.037): the intervals of SPT-2x (0.035), DPT-90 (0.022)" in words
    assert "where lower is better: DPT-90 (−1.89) is worse; the intervals of SPT-2x (−2.94)" in words
    assert "they do not cover other seeds" in words


def test_best_head_is_high_on_both_scores() -> None:
    heads = HeadsResult(
        num_layers=2,
        num_heads=2,
        previous_token=((0, 0), (0, 0)),
        prefix_matching=((0.9, 0.1), (0.5, 0.2)),
        copying=((-0.5, 0.9), (0.4, 0.1)),
    )
    best = heads.induction_head
    assert best is not None and (best.layer, best.head) == (1, 0)


def test_bar_lengths_are_proportional_to_values(view: View) -> None:
    values = (2.0, 4.0, -6.0, 8.0, 0.0)
    rows = [
        (entry, Estimate(value, value - 1, value + 1, 5)) for entry, value in zip(view.entries, values, strict=True)
    ]
    picture = bars(BITS_PER_BYTE, rows, 500)
    widths = [float(found) for found in re.findall(r'class="fill[^"]*" x="[^"]*" y="[^"]*" width="([\d.]+)"', picture)]
    assert widths == pytest.approx([widths[0] * factor for factor in (1, 2, 3, 4, 0)], abs=0.05)


def test_curve_passes_through_the_recorded_points(run: Path) -> None:
    loaded = load(run)
    recorded = [json.loads(line) for line in (run / "models" / "spt" / "metrics.jsonl").read_text().splitlines()]
    expected = [(row["tokens"], row["ce"]) for row in recorded if row["kind"] == "validation"]
    curve = loaded.models[1].validation
    assert list(zip(curve.tokens, curve.values, strict=True)) == expected


def test_frame_places_values_linearly() -> None:
    frame = Frame(200, 100, Scale(0, 10), Scale(0, 1), left=20, right=30, top=10, bottom=15)
    assert frame.points([0, 5, 10], [0, 0.5, 1]) == [(20, 85), (95, 47.5), (170, 10)]
    assert frame.points([1, math.nan], [math.inf, 0]) == []


def test_labels_never_cover_one_another() -> None:
    frame, taken = Frame(200, 200, Scale(0, 1), Scale(0, 1)), []
    written = [place_label(frame, (100, 100), "0.6", "ink", taken) for _ in range(12)]
    assert sum(bool(label) for label in written) == len(taken) == 8
    for place, first in enumerate(taken):
        for second in taken[place + 1 :]:
            assert first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]


def test_terminal_table_has_every_column_and_fits(run: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary_table(run))
    words = console.export_text()
    for column in ("tokens", "FLOPs", "bits per byte", "ICL score", "follows context", "pass@1", "pass@16"):
        assert column in words
    for value in ("DPT-90, 15 % routed", "2.412", "2.392…2.432", "60 %", "L2 H3", "0.80 · 0.56"):
        assert value in words


def test_terminal_table_without_evaluations(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for sketch in SKETCHES:
        write(run / "models" / sketch.name / "evaluation.json", {})
    table = summary_table(run)
    assert len(table.columns) == len(SKETCHES) + 1
