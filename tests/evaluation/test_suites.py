"""Problems graded and summed up, and a whole evaluation in the form that a run folder keeps."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from all_suites import measured

from stillroom.config import EvaluationConfig
from stillroom.evaluation import Attempts, Heldout, Material, measure_scaling, solve, summarise_samples
from stillroom.evaluation.measuring.test_time_scaling import _grade_all
from stillroom.evaluation.sampling.draw import Sampling
from stillroom.evaluation.suites.icl import copying_tokens
from stillroom.results.compare import compare_items
from stillroom.results.measures import registered_measures
from stillroom.results.schema import SampledProblem
from stillroom.types import UserError
from stillroom.vocabulary import token_bytes
from stillroom.worlds.base import Problem


def even(completion: str) -> str | None:
    """Right when the completion's length is even; the answer is that length."""
    return str(len(completion)) if len(completion) % 2 == 0 else None


PROBLEMS = [Problem("short", "the cat", even), Problem("long", "12 +", even), Problem("long", "a dog", even)]


def graded(*answers: str | None, family: str = "f") -> SampledProblem:
    texts = tuple(f"text {i}" for i in range(len(answers)))
    return SampledProblem(family=family, prompt="p", temperature=1.0, completions=texts, answers=answers)


def test_summary_of_known_grades() -> None:
    items = [graded("a", "b", "a", None, family="x"), graded(None, None, None, None, family="y")]
    part = summarise_samples(items, [1, 2, 4, 8])
    assert {k: est.value for k, est in part.pass_at.items()} == {1: 0.375, 2: 0.5, 4: 0.5}
    assert part.unique_correct.value == 1.0
    assert part.majority.value == pytest.approx((1.0 + 0.0) / 2)
    entropies = [-(0.5 * math.log(0.5) + 0.5 * math.log(0.25)), math.log(4)]
    assert part.answer_entropy_nats.value == pytest.approx(np.mean(entropies))
    assert part.by_family == {"x": {1: 0.75, 2: 1.0, 4: 1.0}, "y": {1: 0.0, 2: 0.0, 4: 0.0}}


def test_a_completion_cut_off_by_the_limit_has_no_answer() -> None:
    problem = Problem("sum", "Q: 1 + 2\nA:", lambda text: text.strip() if text.strip() == "3" else None)
    (told,) = _grade_all([problem], [(" 3", " 3", " 4")], [(True, False, True)], map)
    assert told == ("3", None, None)


def test_completions_are_lines_and_each_is_graded(llama, tokenizer) -> None:
    attempts = Attempts(num_samples=16, max_new_tokens=6, settings=[Sampling(0.7), Sampling(1.0)])
    for of_setting in solve(llama, tokenizer, PROBLEMS, attempts):
        for problem, one in zip(PROBLEMS, of_setting, strict=True):
            assert (one.prompt, one.family) == (problem.prompt, problem.family)
            assert len(one.completions) == 16
            assert not any("\n" in text for text in one.completions)
            assert all(answer in (None, even(text)) for answer, text in zip(one.answers, one.completions, strict=True))


def test_scaling_part_and_records(llama, tokenizer) -> None:
    attempts = Attempts(num_samples=8, max_new_tokens=6, settings=[Sampling(0.6), Sampling(1.0)])
    part, records = measure_scaling(llama, tokenizer, PROBLEMS, attempts, [1, 4, 16])
    assert list(part.temperatures) == [0.6, 1.0]
    assert part.skipped_ks == (16,)
    assert list(part.temperatures[0.6].pass_at) == [1, 4]
    assert len(records) == 6
    for record in records:
        assert len(record.completions) == 8
        right = [text for text, answer in zip(record.completions, record.answers, strict=True) if answer is not None]
        assert all(even(text) is not None for text in right)
    share = np.mean([[answer is not None for answer in record.answers] for record in records[:3]])
    assert part.temperatures[0.6].pass_at[1].value == pytest.approx(share)


def test_no_problem_is_said(llama, tokenizer) -> None:
    attempts = Attempts(num_samples=1, max_new_tokens=1, settings=[Sampling(1.0)])
    with pytest.raises(UserError, match="no problem"):
        measure_scaling(llama, tokenizer, [], attempts, [1])


CONFIG = EvaluationConfig(
    heldout_sequences=20,
    copying_sequences=4,
    copying_period=6,
    copying_repeats=3,
    copying_vocabulary=50,
    recall_sequences=4,
    recall_length=40,
    rule_items=2,
    rule_shots=(1, 2),
    counterfactual_items=8,
    problems=6,
    samples_per_problem=8,
    ks=(1, 2, 8),
    max_new_tokens=6,
)
ESTIMATE = {"value", "low", "high", "num"}


@pytest.fixture
def material(heldout_sequences, tokenizer) -> Material:
    text = Heldout(heldout_sequences, token_bytes(tokenizer), ["facts"], np.zeros(len(heldout_sequences)))
    return Material(tokenizer, text, {"facts": {}, "problems": {}})


def test_whole_evaluation_has_the_form_of_a_run_folder(llama, tokenizer, material) -> None:
    config = CONFIG.model_copy(update={"suites": ("lm", "icl", "tts")})
    seen: list[tuple[int, int]] = []
    parts, samples = measured(llama, config, material, lambda *step: seen.append(step))
    assert json.loads(json.dumps(parts, allow_nan=False)) == parts
    assert set(parts) == {"lm", "copying", "recall", "induction", "counterfactual", "tts"}
    whole = {"bits_per_byte", "nats_per_token", "by_source", "per_item", "per_item_weights", "per_item_sources"}
    assert set(parts["lm"]) == whole | {"text_bits_per_byte"}
    assert set(parts["lm"]["by_source"]["facts"]) == {"bits_per_byte", "nats_per_token"}
    assert set(parts["lm"]["bits_per_byte"]) == ESTIMATE
    copying = parts["copying"]
    assert {name for name, value in copying.items() if isinstance(value, dict) and set(value) == ESTIMATE} == {
        "icl_score",
        "loss_first",
        "loss_repeat",
        "accuracy_repeat",
        "order_repeat",
    }
    assert len(copying["loss_by_position"]) == 18 and (copying["period"], copying["repeats"]) == (6, 3)
    assert set(parts["counterfactual"]) == {
        "follows_context",
        "follows_memory",
        "neither",
        "log_odds",
        "memory_accuracy",
        "chance",
        "per_item",
    }
    assert set(parts["tts"]) == {"num_problems", "num_samples", "temperatures"}
    assert set(parts["tts"]["temperatures"]) == {"0.6", "1"}
    assert set(parts["tts"]["temperatures"]["1"]) == {
        *("pass_at", "majority", "coverage_law", "unique_correct", "answer_entropy_nats", "by_family"),
        *("distinct_2", "self_bleu", "vendi_score"),
        "missing",
    }
    assert parts["tts"]["temperatures"]["1"]["missing"].keys() == {"coverage_law"}
    assert len(samples) == 12
    assert set(samples[0]) == {"family", "prompt", "temperature", "completions", "answers"}
    assert sum(done == total for done, total in seen) == 6


def test_evaluation_is_deterministic(llama, tokenizer, material) -> None:
    assert measured(llama, CONFIG, material) == measured(llama, CONFIG, material)


def test_only_what_is_asked_for_and_can_be_made(llama, tokenizer, material) -> None:
    config = CONFIG.model_copy(update={"suites": ("icl",)})
    parts, samples = measured(llama, config, replace(material, worlds={}))
    assert (set(parts), samples) == ({"copying", "recall", "induction"}, [])


def test_copying_tokens_open_with_bos_and_stay_ordinary(tokenizer, heldout_sequences) -> None:
    tokens = copying_tokens(CONFIG, tokenizer, heldout_sequences)
    assert tokens.shape == (4, 19)
    assert (tokens[:, 0] == 0).all()
    assert (tokens[:, 1:] > 2).all()


def test_retrieval_suite(llama, tokenizer, material) -> None:
    config = CONFIG.model_copy(
        update={"suites": ("retrieval",), "retrieval_items": 3, "needle_lengths": (60, 90), "context_notes": (1, 2)}
    )
    parts, _ = measured(llama, config, material)
    assert json.loads(json.dumps(parts, allow_nan=False)).keys() == {"needle", "context"}
    assert [len(row) for row in parts["needle"]["grid"]] == [5, 5]
    assert parts["needle"]["accuracy"]["num"] == 30
    assert parts["context"]["by_notes"]["2"]["chance"] == pytest.approx(1 / 14)


def test_every_suite_keeps_its_items_and_their_differences_are_those_of_the_measures(
    llama, make_llama, tokenizer, material
) -> None:
    config = CONFIG.model_copy(
        update={"suites": ("lm", "icl", "retrieval"), "retrieval_items": 3, "needle_lengths": (60, 90)}
    )
    first, second = (measured(one, config, material)[0] for one in (llama, make_llama(seed=2).eval()))
    compared = compare_items(first, second)
    assert {(part, measure) for part, cells in compared.items() for measure in cells} == {
        (measure.part, measure.name) for measure in registered_measures() if measure.per_item
    }
    for part, cells in compared.items():
        for measure, cell in cells.items():
            values = [one[part][measure] for one in (first, second)]
            if isinstance(values[0], dict) and "value" in values[0]:
                assert cell.value == pytest.approx(values[0]["value"] - values[1]["value"], abs=1e-6), (
                    part,
                    measure,
                )
            assert cell.low <= cell.value <= cell.high and cell.p_value <= cell.p_holm <= 1
    same = compare_items(first, first)
    assert all(cell.value == 0 and cell.p_holm == 1 for cells in same.values() for cell in cells.values())
