"""No number that is none: a model whose scores are not finite is refused by name, and what does not exist is null."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from all_suites import measured
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from stillroom.config import EvaluationConfig
from stillroom.evaluation import Heldout, Material, find_suite
from stillroom.evaluation.measuring.calibration import calibration
from stillroom.evaluation.measuring.counterfactual import measure_counterfactual
from stillroom.evaluation.measuring.in_context_copying import measure_copying
from stillroom.evaluation.measuring.test_time_scaling import summarise_samples
from stillroom.evaluation.overlap import contamination
from stillroom.evaluation.sampling.draw import Sampling, SamplingRequest, sample
from stillroom.results.across_seeds import by_seed
from stillroom.results.compare import compare_items
from stillroom.results.json_form import as_json, from_json
from stillroom.results.schema import Comparison, Evaluation, SampledProblem
from stillroom.results.statistics import NotFiniteError, mean, paired_difference, ratio, require_finite_parts
from stillroom.study.evaluation_tables import comparison_table, estimates_table, needle_table, seed_means_table
from stillroom.study.evaluations import evaluate_models
from stillroom.study.external import External, parse_benchmarks
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError
from stillroom.vocabulary import token_bytes
from stillroom.worlds.facts_world import counterfactuals


def nulls(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places of nulls for which no reason stands beside them."""
    if isinstance(value, dict):
        reasons = value.get("missing", {})
        for name, inner in value.items():
            if inner is None:
                if name not in reasons:
                    yield (*place, name)
            else:
                yield from nulls(inner, (*place, str(name)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nulls(inner, (*place, str(number))) if inner is not None else [(*place, str(number))]


SMALL = {
    "copying_sequences": 3,
    "copying_period": 5,
    "copying_repeats": 2,
    "copying_vocabulary": 40,
    "counterfactual_items": 3,
    "recall_sequences": 3,
    "recall_length": 24,
    "rule_items": 2,
    "rule_shots": (1,),
    "retrieval_items": 2,
    "needle_lengths": (48,),
    "needle_depths": (0.5,),
    "context_notes": (1,),
    "problems": 3,
    "samples_per_problem": 2,
    "temperatures": (1.0,),
    "ks": (1, 2),
    "max_new_tokens": 4,
    "heldout_sequences": 4,
}
SUITES = ("lm", "icl", "tts", "retrieval")


@pytest.fixture(scope="module")
def material(tokenizer, heldout_sequences) -> Material:
    return Material(tokenizer, Heldout(heldout_sequences, token_bytes(tokenizer)), {"facts": {}, "problems": {}})


EXTREMES = [
    {},
    {"temperatures": (0.01,), "samples_per_problem": 1, "ks": (1,)},
    {"temperatures": (50.0, 0.3), "ks": (2,)},
    {"copying_sequences": 1, "copying_period": 2, "recall_triggers": 1, "recall_sequences": 1},
    {"heldout_sequences": 1, "problems": 1, "counterfactual_items": 1, "rule_items": 1, "retrieval_items": 1},
    {"max_new_tokens": 1, "needle_depths": (0.0,), "copying_repeats": 5},
]


@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0])
@pytest.mark.parametrize("place", range(len(EXTREMES)))
def test_every_number_of_an_evaluation_is_one_or_has_a_reason(make_llama, material, scale: float, place: int) -> None:
    model = make_llama(seed=place + 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1)
    config = EvaluationConfig.model_validate(SMALL | EXTREMES[place] | {"suites": SUITES, "seed": place})
    parts, samples = measured(model, config, material)
    json.dumps([parts, samples], allow_nan=False)
    require_finite_parts(parts)
    assert list(nulls(parts)) == []


def spoilt(model: Any, what: str) -> Any:
    """The model with one weight that is no number."""
    with torch.no_grad():
        if what == "embedding":
            model.get_input_embeddings().weight[:, 3] = math.nan
        elif what == "head":
            model.get_output_embeddings().weight[5, 0] = math.inf
        elif what == "norm":
            model.base_model.norm.weight[0] = math.nan
        else:
            model.base_model.layers[1].mlp.up_proj.weight[0, 0] = -math.inf
    return model


@pytest.mark.parametrize("what", ["embedding", "head", "norm", "layer"])
@pytest.mark.parametrize("suite", SUITES)
def test_scores_that_are_not_finite_end_every_suite(make_llama, material, what: str, suite: str) -> None:
    config = EvaluationConfig.model_validate(SMALL | {"suites": (suite,)})
    with pytest.raises(NotFiniteError, match="not finite"):
        measured(spoilt(make_llama(seed=3), what), config, material)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nothing_is_drawn_from_scores_that_are_not_finite(make_llama, temperature: float) -> None:
    model = spoilt(make_llama(seed=3), "norm")
    asked: dict[str, Any] = {"num_samples": 2, "max_new_tokens": 3, "stop": (1,), "seed": 0}
    with pytest.raises(NotFiniteError, match="drawn from are not finite"):
        sample(model, SamplingRequest(prompts=[[5, 6]], settings=[Sampling(temperature)], **asked))


def test_the_sentence_names_model_and_measure_and_nothing_is_left(
    make_llama, tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    model = make_llama(seed=3)
    model.save_pretrained(folder)
    # Loading refuses what it can see; what it cannot, such as one token's row, is seen as it is measured.
    monkeypatch.setattr("stillroom.study.evaluations.load_here", lambda _: spoilt(model, "norm"))
    tokenizer.save_pretrained(folder)
    external = External(parse_benchmarks(["word-problems"]), limit=2)
    with pytest.raises(UserError, match=r"model: benchmarks word-problems: .*not finite"):
        evaluate_models([folder], None, [], tmp_path / "out", {}, StageDisplay(), external)
    assert not list((tmp_path / "out").glob("*/*"))


def test_mistakes_in_files_are_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"question": null, "answer": 4}')
    for external in (
        External(parse_benchmarks([f"gsm8k={tmp_path / 'x.jsonl'}"])),
        External(counterfactual=tmp_path / "x.jsonl"),
    ):
        with pytest.raises(UserError, match=r"record 1 of .*x\.jsonl \(line 1\) has"):
            evaluate_models([tmp_path / "no model"], None, [], tmp_path / "out", {}, StageDisplay(), external)
    assert not (tmp_path / "out").exists()


finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=20), st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_means_of_finite_numbers_are_finite(values: list[float], seed: int) -> None:
    for estimate in (mean(values, seed=seed, resamples=50), paired_difference(values, values[::-1], resamples=50)):
        assert all(map(math.isfinite, (estimate.value, estimate.low, estimate.high)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_means_of_other_numbers_are_refused(bad: float) -> None:
    for measure in (
        lambda: mean([1.0, bad]),
        lambda: ratio([1.0, bad], [1.0, 2.0]),
        lambda: paired_difference([1.0, bad], [1.0, 2.0]),
        lambda: calibration([0.5, bad], [1, 0], [0, 1]),
        lambda: require_finite_parts({"a": [{"b": bad}]}),
    ):
        with pytest.raises(UserError, match="not finite"):
            measure()
    with pytest.raises(UserError, match="no item is left"):
        mean([])


def test_what_nobody_counted_is_no_reason_to_refuse() -> None:
    assert ratio([1.0, math.nan], [1.0, 0.0]).value == 1.0


def test_samples_that_are_all_wrong_or_all_right_have_no_law_and_say_so() -> None:
    def summary(answers: tuple[str | None, ...], num: int, ks: tuple[int, ...]) -> Any:
        texts = ("a", "b")[: len(answers)]
        one = SampledProblem(family="f", prompt="p", temperature=1.0, completions=texts, answers=answers)
        return as_json(summarise_samples([one] * num, ks))

    for answer in (None, "right"):
        part = summary((answer, answer), 2, (1, 2))
        assert part["coverage_law"] is None and "between 0 and 1" in part["missing"]["coverage_law"]
        assert list(nulls(part)) == []
    part = summary(("a",), 1, (4,))  # no k that there are samples for
    json.dumps(part, allow_nan=False)
    assert part["pass_at"] == {} and "self_bleu" not in part


def test_a_chance_that_is_not_known_says_why(llama, tokenizer) -> None:
    part, _ = measure_counterfactual(llama, tokenizer, counterfactuals(2, 0))
    assert part.chance is None and "not known" in part.missing["chance"]
    assert not measure_counterfactual(llama, tokenizer, counterfactuals(2, 0), chance=0.25)[0].missing


def test_one_sequence_and_the_shortest_period_are_measured(llama) -> None:
    part = as_json(measure_copying(llama, torch.tensor([[5, 6, 5, 6]]), period=2, repeats=2))
    require_finite_parts(part)
    json.dumps(part, allow_nan=False)


def test_contamination_of_little_is_finite(heldout_sequences, material) -> None:
    config = EvaluationConfig.model_validate(SMALL | {"suites": SUITES})
    sets = {}
    for suite in map(find_suite, SUITES):
        sets |= suite.item_tokens(suite.config_in(config), material)
    assert sets.keys() == {"heldout", "induction", "counterfactual", "problems", "context"}
    for n in (1, 13, 10**4):
        require_finite_parts(as_json(contamination(sets | {"none": [], "empty": [[]]}, heldout_sequences, n=n)))


NULL = {"value": None, "low": None, "high": None, "num": 0}
ONE = {"value": 0.5, "low": None, "high": None, "num": 1}
BOTH = {"value": 0.5, "low": 0.25, "high": 0.75, "num": 9}


def shown(table: Any) -> str:
    console = Console(width=200, record=True)
    console.print(table)
    return console.export_text()


def test_tables_show_a_dash_for_what_does_not_exist() -> None:
    others = from_json(Evaluation, {"own": {"x": NULL, "y": ONE, "z": BOTH}}, Path("evaluation.json"))
    text = shown(estimates_table({"a": others}))
    assert "–" in text and "0.500" in text and "0.500 [0.250, 0.750]" in text and "None" not in text
    needle = {"accuracy": NULL, "lengths": [8], "depths": [0.5], "grid": [[NULL]]}
    assert "–" in shown(needle_table({"a": from_json(Evaluation, {"needle": needle}, Path("evaluation.json"))}))
    comparison = {
        "baseline": "a",
        "against": {"b": {"items": {"lm": {"x": NULL | {"p_value": None, "p_holm": None}}}}},
    }
    read = from_json(Comparison, comparison | {"over_seeds": {}}, Path("comparison.json"))
    assert "–" in shown(comparison_table(read))
    assert read.against["b"].items["lm"]["x"].num == 0


def test_measures_that_one_model_lacks_are_left_out_of_comparisons() -> None:
    parts = {f"{arm}-s{seed}": {"lm": {"x": BOTH, "y": NULL}} for arm in "ab" for seed in (0, 1)}
    found = by_seed(parts)
    assert set(found.arms["b"].measures) == {"lm x"}
    json.dumps(as_json(found), allow_nan=False)
    assert "0.500" in shown(seed_means_table(found))
    items = {"recall": {"per_item": {"accuracy": [1.0, None], "loss_repeat": [1.0, 2.0]}}}
    assert set(compare_items(items, items)["recall"]) == {"loss_repeat"}


@pytest.mark.filterwarnings("default")  # the harness and what it imports warn of themselves
def test_a_harness_without_numbers_gives_nulls_with_reasons() -> None:
    pytest.importorskip("lm_eval", reason="pip install 'stillroom[lm-eval]'")
    from stillroom.evaluation.harness import _metrics

    found = {"a,none": math.nan, "b,none": 0.5, "b_stderr,none": "N/A", "c,none": 0.5, "c_stderr,none": np.float64(0.1)}
    made = as_json(_metrics(found, {"effective": 3}))
    json.dumps(made, allow_nan=False)
    assert list(nulls(made)) == [] and made["a"]["value"] is None and made["b"]["low"] is None
    assert made["c"]["low"] == pytest.approx(0.304, abs=1e-3)
