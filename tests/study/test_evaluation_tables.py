"""What ``evaluate`` prints: the headline, and with ``--all`` every number, from typed results."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console
from rich.table import Table

from stillroom.results.schema import (
    Against,
    ArmBySeed,
    BySeed,
    Comparison,
    CopyingResult,
    Difference,
    Evaluation,
    LikelihoodResult,
    MeanAndDifference,
    SampleDifferences,
    ScalingResult,
    TemperatureResult,
)
from stillroom.study.evaluation_tables import comparison_table, estimates_table, headline_rows, seed_means_table
from stillroom.types import Estimate

ONE = Estimate(0.5, 0.25, 0.75, 9)
DRAWN = TemperatureResult(pass_at={1: ONE, 4: ONE, 16: ONE}, unique_correct=ONE, distinct_2=ONE)
SAMPLED = ScalingResult(num_problems=9, num_samples=16, temperatures={0.5: DRAWN, 0.9: DRAWN, 1.5: DRAWN})
FULL = Evaluation(
    lm=LikelihoodResult(bits_per_byte=ONE, nats_per_token=ONE, by_source={"facts": {"bits_per_byte": ONE}}),
    copying=CopyingResult(icl_score=ONE, loss_first=ONE, loss_repeat=ONE),
    tts=SAMPLED,
    benchmarks={"gsm8k": SAMPLED},
    lm_eval={"copa": {"copa": {"acc": {"value": 0.5, "low": 0.25, "high": 0.75, "num": 9}}}},
    others={"proof": {"solved": {"value": 0.5, "low": 0.25, "high": 0.75, "num": 9}}},
)
HEADLINE = [
    "lm bits_per_byte", "lm nats_per_token", "copying icl_score", "tts temperatures 0.9 pass_at 1",
    "tts temperatures 0.9 pass_at 16", "tts temperatures 0.9 unique_correct",
    "benchmarks gsm8k temperatures 0.9 pass_at 1", "benchmarks gsm8k temperatures 0.9 pass_at 16",
    "benchmarks gsm8k temperatures 0.9 unique_correct", "lm_eval copa copa acc", "proof solved",
]  # fmt: skip


def rows(table: Table) -> list[str]:
    return list(table.columns[0].cells)  # type: ignore[arg-type]


def text(table: Table) -> str:
    console = Console(width=300, record=True)
    console.print(table)
    return console.export_text()


def test_the_headline_is_shown_and_the_rest_where_it_is_asked_for() -> None:
    results = {"a": FULL, "b": replace(FULL, copying=None)}
    assert rows(estimates_table(results, headline_rows(results))) == HEADLINE
    everything = rows(estimates_table(results))
    assert [row for row in everything if row in HEADLINE] == HEADLINE
    assert {"copying loss_first", "lm by_source facts bits_per_byte", "tts temperatures 1.5 pass_at 4"} < {*everything}
    assert "0.500 [0.250, 0.750]" in text(estimates_table(results)) and "--all" not in text(estimates_table(results))
    assert "--all prints every number" in text(estimates_table(results, headline_rows(results)))


def test_a_number_that_is_not_there_is_a_dash_in_its_column() -> None:
    lacking = replace(FULL, lm=LikelihoodResult(bits_per_byte=Estimate(float("nan"), float("nan"), float("nan"), 0)))
    results = {"a": FULL, "b": lacking}
    shown = text(estimates_table(results, headline_rows(results)))
    assert "–" in shown and "nan" not in shown


def test_differences_and_means_over_seeds_follow_the_same_headline() -> None:
    told = Difference(0.1, 0.05, 0.15, 9, 0.01, 0.02)
    against = Against(
        items={"lm": {"bits_per_byte": told, "nats_per_token": told}, "copying": {"loss_repeat": told}},
        samples=SampleDifferences(
            temperature_matched={0.5: {1: told, 16: told}, 0.9: {1: told, 4: told, 16: told}},
            entropy_matched={1: told, 16: told, 64: None},
        ),
    )
    comparison, shown = Comparison(baseline="a", against={"b": against}), headline_rows({"a": FULL})
    assert rows(comparison_table(comparison, shown)) == [
        "lm bits_per_byte", "lm nats_per_token", "pass@1 at temperature 0.9", "pass@16 at temperature 0.9",
        "pass@16 at equal answer entropy",
    ]  # fmt: skip
    whole = rows(comparison_table(comparison))
    assert {"copying loss_repeat", "pass@4 at temperature 0.9", "pass@16 at equal answer entropy"} < {*whole}
    assert "+0.100 [+0.050, +0.150] p=0.020" in text(comparison_table(comparison))
    cell = MeanAndDifference(mean=ONE, difference=told)
    arm = ArmBySeed(seeds=(0, 1), measures={"lm bits_per_byte": cell, "copying loss_first": cell})
    found = BySeed(baseline="a", arms={"a": arm, "b": arm})
    assert rows(seed_means_table(found, shown)) == ["lm bits_per_byte"]
    assert rows(seed_means_table(found)) == ["lm bits_per_byte", "copying loss_first"]
