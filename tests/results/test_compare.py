"""Differences between models at like temperature, like diversity, and over seeds, on numbers that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillroom.results.across_seeds import difference_over_seeds, mean_over_seeds
from stillroom.results.compare import compare_folders, compare_items
from stillroom.results.json_form import write
from stillroom.results.schema import (
    ContextResult,
    CopyingResult,
    Evaluation,
    LikelihoodResult,
    MeasuredOn,
    SampledProblem,
)
from stillroom.results.sweeps import Sweep, compare_sweeps, entropy_matched
from stillroom.types import Estimate, UserError


def record(prompt: int, temperature: float, right: int, wrong_kinds: int, num: int = 8) -> SampledProblem:
    answers = ["a"] * right + [None] * (num - right)
    wrong = [f"w{i % wrong_kinds}" for i in range(num - right)]
    return SampledProblem(
        prompt=str(prompt),
        temperature=temperature,
        answers=tuple(answers),
        completions=("a",) * right + tuple(wrong),
        family="f",
    )


def sweep(rights: dict[float, list[int]], kinds: dict[float, int]) -> Sweep:
    return Sweep.of([record(p, t, r, kinds[t]) for t, row in rights.items() for p, r in enumerate(row)])


COLD_HOT = {0.5: 1, 1.0: 4}


def test_a_sweep_holds_every_problem_at_every_temperature() -> None:
    one = sweep({0.5: [8, 4], 1.0: [4, 0]}, COLD_HOT)
    assert one.temperatures == (0.5, 1.0) and one.prompts == ("0", "1")
    assert one.passed(1).tolist() == [[1.0, 0.5], [0.5, 0.0]]
    front = one.frontier((1, 2, 16))
    assert [point["pass_at_1"] for point in front] == [0.75, 0.25]
    assert set(front[0]) == {"temperature", "answer_entropy_nats", "pass_at_1", "pass_at_2"}
    assert front[0]["answer_entropy_nats"] == pytest.approx(np.log(2) / 2)
    with pytest.raises(UserError, match="every temperature"):
        Sweep.of([record(0, 0.5, 1, 1), record(1, 1.0, 1, 1)])


def test_the_better_model_is_better_at_every_temperature_problem_by_problem() -> None:
    low, high = [0, 1, 2, 3, 4, 5] * 5, [1, 2, 3, 4, 5, 6] * 5
    better = sweep({0.5: high, 1.0: high}, COLD_HOT)
    worse = sweep({0.5: low, 1.0: low}, COLD_HOT)
    part = compare_sweeps(better, worse, [1, 2, 64])
    cell = part.temperature_matched[1.0][1]
    assert cell.value == cell.low == pytest.approx(1 / 8) and cell.p_value < 0.01
    assert set(part.temperature_matched[0.5]) == {1, 2}
    assert compare_sweeps(worse, worse, [1]).temperature_matched[1.0][1].value == 0.0
    with pytest.raises(UserError, match="same problems"):
        compare_sweeps(better, sweep({0.5: [1], 1.0: [1]}, COLD_HOT), [1])


def test_a_hotter_model_is_no_better_at_equal_entropy() -> None:
    """Two sweeps of one curve, at other temperatures: pass@k differs at each temperature, not at each entropy."""
    rng = np.random.default_rng(0)
    curve = {heat: rng.binomial(8, 0.2 + 0.1 * place, 40).tolist() for place, heat in enumerate((1, 2, 3, 4))}
    kinds = {1: 1, 2: 2, 3: 4, 4: 8}
    whole = [record(p, float(heat), r, kinds[heat]) for heat, row in curve.items() for p, r in enumerate(row)]
    cool = Sweep.of([one for one in whole if one.temperature <= 3])
    hot = Sweep.of([replace(one, temperature=one.temperature - 1) for one in whole if one.temperature >= 2])
    part = compare_sweeps(hot, cool, [1])
    assert all(row[1].value > 0.05 for row in part.temperature_matched.values())
    matched = part.entropy_matched[1]
    assert matched.value == pytest.approx(0.0, abs=1e-9)
    assert matched.low <= 0 <= matched.high and matched.num == 40
    assert hot.entropy_TP.mean(1).min() < matched.entropy_nats < cool.entropy_TP.mean(1).max()


def test_sweeps_without_a_common_entropy_are_not_compared() -> None:
    cold = sweep({0.5: [8, 8], 0.6: [8, 8]}, {0.5: 1, 0.6: 1})
    hot = sweep({0.5: [0, 0], 0.6: [1, 1]}, {0.5: 8, 0.6: 8})
    assert entropy_matched(cold, hot, 1) is None


def test_seeds_widen_the_interval_where_they_differ() -> None:
    rng = np.random.default_rng(1)
    problems = rng.random(60)
    alike = np.tile(problems, (6, 1))
    spread = alike + np.linspace(-0.5, 0.5, 6)[:, None]
    narrow, wide = mean_over_seeds(alike), mean_over_seeds(spread)
    assert narrow.value == pytest.approx(wide.value) and (narrow.num, wide.num) == (6, 6)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert mean_over_seeds(spread) == wide
    with pytest.raises(ValueError, match="seeds, problems"):
        mean_over_seeds([1.0, 2.0])


def test_the_interval_over_seeds_and_problems_covers_the_truth() -> None:
    """Effects of seeds and problems of known size: about 95 % of the intervals hold the true mean, 0."""
    rng, inside = np.random.default_rng(2), 0
    for trial in range(150):
        values = rng.normal(0, 0.5, (10, 1)) + rng.normal(0, 0.5, (1, 40)) + rng.normal(0, 0.5, (10, 40))
        estimate = mean_over_seeds(values, seed=trial, resamples=400)
        inside += estimate.low <= 0 <= estimate.high
    assert 0.84 <= inside / 150 <= 1.0


def test_problems_are_paired_between_arms_and_seeds_are_not() -> None:
    rng = np.random.default_rng(3)
    problems = rng.normal(0, 3, 50)
    first, second = np.tile(problems + 0.2, (4, 1)), np.tile(problems, (3, 1))
    difference = difference_over_seeds(first, second)
    assert difference.low == pytest.approx(0.2) and difference.high == pytest.approx(0.2) and difference.num == 3
    noisy = difference_over_seeds(first + rng.normal(0, 1, (4, 1)), second)
    assert noisy.high - noisy.low > 0.3
    with pytest.raises(ValueError, match="same problems"):
        difference_over_seeds(first, second[:, :10])


def test_items_weigh_as_they_do_in_the_measure_and_p_values_are_corrected_for_their_number() -> None:
    """A long document on which the first model is worse outweighs two short ones on which it is better."""
    lm = {"per_item": {"bits_per_byte": [1.0, 1.0, 3.0]}, "per_item_weights": {"bits_per_byte": [1, 1, 8]}}
    other = {"per_item": {"bits_per_byte": [2.0, 2.0, 2.0]}, "per_item_weights": lm["per_item_weights"]}
    cell = compare_items({"lm": lm}, {"lm": other})["lm"]["bits_per_byte"]
    assert cell.value == pytest.approx(0.6) and cell.p_holm == cell.p_value
    rng = np.random.default_rng(0)
    better, noise = rng.normal(1, 1, 40).tolist(), rng.normal(0, 1, 40).tolist()
    first = {"recall": {"per_item": {"accuracy": better, "loss_repeat": noise}}}
    second = {"recall": {"per_item": {"accuracy": [0.0] * 40, "loss_repeat": [0.0] * 40}}}
    cells = compare_items(first, second)["recall"]
    assert cells["accuracy"].p_holm == pytest.approx(2 * cells["accuracy"].p_value) and (
        cells["accuracy"].p_holm < 0.01 < cells["loss_repeat"].p_holm == cells["loss_repeat"].p_value
    )
    other["per_item_weights"] = {"bits_per_byte": [1, 1, 7]}
    assert compare_items({"lm": lm}, {"lm": other}) == {}  # other documents


def test_items_are_compared_where_both_evaluations_hold_them() -> None:
    one = {
        "copying": {"per_item": {"loss_repeat": [1.0, 2.0, 3.0]}},
        "counterfactual": {"per_item": {"log_odds": [1.0]}},
    }
    two = {"copying": {"per_item": {"loss_repeat": [0.5, 1.5, 2.5]}}, "lm": {}}
    part = compare_items(one, two)
    assert set(part) == {"copying"} and part["copying"]["loss_repeat"].value == 0.5
    assert 0 < part["copying"]["loss_repeat"].p_value <= 1


def _evaluation(on: MeasuredOn | None, shift: float, weights: tuple[float, ...] = (100.0, 90.0, 110.0)) -> Evaluation:
    number = Estimate(1.0, 0.9, 1.1, 3)
    kept = {name: (1.0 + shift, 1.2 + shift, 0.9 + shift) for name in ("bits_per_byte", "nats_per_token")}
    lm = LikelihoodResult(
        bits_per_byte=number, nats_per_token=number, per_item=kept, per_item_weights=dict.fromkeys(kept, weights)
    )
    copying = CopyingResult(icl_score=number, per_item={"icl_score": (1.0 + shift, 2.0, 3.0)})
    context = ContextResult(accuracy=number, per_item={"accuracy": (0.0 + shift, 1.0, 1.0)})
    return Evaluation(measured_on=on, lm=lm, copying=copying, context=context)


TOLD = {"bits_per_byte", "nats_per_token", "icl_score", "accuracy"}


@pytest.mark.parametrize(
    ("on", "told"),
    [
        (MeasuredOn(text="t", tokenizer="a"), TOLD),
        (MeasuredOn(text="t", tokenizer="b"), {"bits_per_byte", "accuracy"}),
        (MeasuredOn(text="u", tokenizer="a"), set()),
        (MeasuredOn(text="u", tokenizer="b"), set()),
        (None, TOLD),
    ],
    ids=["the same", "another tokenizer", "another text", "both", "not known"],
)
def test_only_what_was_measured_on_the_same_is_compared(on: MeasuredOn | None, told: set[str], tmp_path: Path) -> None:
    first, second = _evaluation(MeasuredOn(text="t", tokenizer="a"), 0.0), _evaluation(on, 0.5)
    found = {name for part in compare_items(second, first).values() for name in part}
    assert found - {"text_bits_per_byte"} == told
    for name, one in (("a-s0", first), ("a-s1", first), ("b-s0", second), ("b-s1", second)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "evaluation.json", one)
    compared = compare_folders({name: tmp_path / name for name in ("a-s0", "a-s1", "b-s0", "b-s1")}, [1])
    assert ("b" in compared.by_seed.arms) == (told == TOLD)


def test_a_document_of_other_tokens_may_hold_a_byte_more_or_less() -> None:
    first = _evaluation(MeasuredOn(text="t", tokenizer="a"), 0.0)
    other = _evaluation(MeasuredOn(text="t", tokenizer="b"), 0.5, (101.0, 90.0, 109.0))
    assert set(compare_items(other, first)["lm"]) == {"bits_per_byte", "text_bits_per_byte"}
    far = _evaluation(MeasuredOn(text="t", tokenizer="b"), 0.5, (101.0, 90.0, 160.0))
    same = _evaluation(MeasuredOn(text="t", tokenizer="a"), 0.5, (101.0, 90.0, 109.0))
    assert "lm" not in compare_items(far, first) and "lm" not in compare_items(same, first)
