"""Benchmarks in the forms of their published sets, from a few local records, and completions of several lines."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from stillroom.evaluation.measuring import benchmarks
from stillroom.evaluation.measuring import problem_files as records
from stillroom.evaluation.measuring.benchmarks import (
    gsm8k,
    last_number,
    load_benchmark,
    math500,
    mbpp,
    measure_benchmark,
)
from stillroom.evaluation.measuring.counterfactual import read_counterfactuals
from stillroom.evaluation.measuring.made_problems import program_problems, word_problems
from stillroom.evaluation.measuring.problem_files import read_problem_records
from stillroom.evaluation.measuring.test_time_scaling import Attempts, _grade_all, solve
from stillroom.evaluation.sampling.draw import Sampling
from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary
from stillroom.worlds.base import Problem


def lines(of: list[dict]) -> str:
    """Records one a line."""
    return "".join(json.dumps(record) + "\n" for record in of)


needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
GSM8K = [
    {"question": "Ann has 3 eggs and buys 4. How many?", "answer": "3 + 4 = 7 eggs.\n#### 7"},
    {"question": "A car costs 1000 and a bus 2000. Both?", "answer": "1000 + 2000.\n#### 3,000"},
]
MATH500 = [
    {"problem": "What is $1/2 + 1/3$?", "answer": r"\frac{5}{6}", "solution": "..."},
    {"problem": "Factor $x^2-1$.", "answer": "(x-1)(x+1)"},
]
MBPP = [
    {
        "task_id": 1,
        "text": "Write a function to add two numbers.",
        "code": "def add(a, b):\r\n  return a + b",
        "test_list": ["assert add(1, 2) == 3", "assert add(2, 2) == 4", "assert add(0, 0) == 0"],
        "test_setup_code": "",
    },
    {"task_id": 2, "text": "Cheat.", "code": "", "test_list": ["assert f() == g()"] * 3, "test_setup_code": ""},
]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7 eggs", "7"),
        ("#### 3,000", "3000"),
        ("x #### 5 not 6", "5"),
        ("costs $1.50.", "1.5"),
        ("none", None),
    ],
)
def test_the_number_that_an_answer_ends_in(text: str, number: str | None) -> None:
    found = last_number(text)
    assert (None if found is None else f"{found:f}") == number


def test_gsm8k_is_graded_by_its_number() -> None:
    first, second = gsm8k(GSM8K).problems
    assert first.grade(" 3 + 4 = 7 eggs.\n#### 7") == "7" and first.grade(" The answer is 7.0") == "7"
    assert first.grade(" 7 + 1\n#### 8") is None and first.grade(" no idea") is None
    assert second.grade(" It is $3000.") is not None
    with_shot = gsm8k(GSM8K[1:], GSM8K[:1]).problems[0].prompt
    assert with_shot.startswith("Question: Ann") and "#### 7\n\nQuestion: A car" in with_shot
    with pytest.raises(UserError, match="holds no number"):
        gsm8k([{"question": "?", "answer": "many"}])


def test_math500_is_graded_as_mathematics() -> None:
    pytest.importorskip("math_verify", reason="pip install math-verify")
    fraction, factors = math500(MATH500).problems
    assert fraction.grade(r"We get $\boxed{\frac{10}{12}}$.") == r"\frac{5}{6}"
    assert fraction.grade(r"\boxed{\frac{5}{7}}") is None and fraction.grade("words") is None
    assert factors.grade(r"So \boxed{(x+1)(x-1)}") is not None


def test_math500_without_its_verifier_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="math-verify, which is not installed"):
        math500(MATH500)


@needs_bubblewrap
def test_mbpp_runs_its_tests_in_the_sandbox() -> None:
    benchmark = mbpp(MBPP, MBPP[:1])
    assert benchmark.skipped == 1
    (problem,) = benchmark.problems
    assert problem.prompt.count("[BEGIN]") == 2 and problem.prompt.endswith("[BEGIN]\n")
    assert problem.grade("def add(a, b):\n    # sum\n    return a + b\n") == "def add(a, b):\n    return a + b"
    assert problem.grade("def add(a, b): return a - b") is None
    assert problem.grade("def add(a, b:") is None and problem.grade("raise SystemExit(0)") is None
    with pytest.raises(UserError, match="no record has tests"):
        mbpp(MBPP[1:])


@needs_bubblewrap
def test_homemade_programs_are_right_by_their_own_tests_and_wrong_ones_are_not() -> None:
    records = program_problems(6, seed=3)
    assert records == program_problems(8, seed=3)[:6] != program_problems(6, seed=4)
    benchmark = mbpp(records)
    assert benchmark.skipped == 0
    for record, problem in zip(records, benchmark.problems, strict=True):
        assert problem.grade(str(record["code"])) is not None
    assert benchmark.problems[0].grade(str(records[1]["code"])) is None


def test_homemade_stories_have_the_form_of_gsm8k_and_their_steps_are_true() -> None:
    records = word_problems(30, seed=1)
    assert records == word_problems(40, seed=1)[:30]
    for record, problem in zip(records, gsm8k(records).problems, strict=True):
        answer = str(record["answer"])
        assert problem.grade(answer) == answer.rsplit("#### ", 1)[1]
        for step in (line.rstrip(".").split(" = ") for line in answer.split("\n")[:-1]):
            (left,) = re.findall(r"\d+ [*/+-] \d+$", step[0])
            assert eval(left) == int(step[1].split()[0])


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_records_are_read_from_local_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"gsm8k.{suffix}"
    if suffix == "jsonl":
        path.write_text(lines(GSM8K))
    elif suffix == "json":
        path.write_text(json.dumps(GSM8K))
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(GSM8K), path)
    assert read_problem_records(str(path), "gsm8k", ("question", "answer")) == GSM8K
    assert len(load_benchmark("gsm8k", str(path), num=1).problems) == 1


def test_mistakes_in_files_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(UserError, match="is no file"):
        read_problem_records(str(path), "mbpp", ())
    path.write_text(lines([{"question": "?"}]))
    with pytest.raises(UserError, match=r"record 1 of .* has no field answer"):
        read_problem_records(str(path), "gsm8k", ("question", "answer"))
    path.write_text("")
    with pytest.raises(UserError, match="holds no records"):
        read_problem_records(str(path), "gsm8k", ("question", "answer"))
    with pytest.raises(UserError, match="is not known"):
        load_benchmark("gsm9k", str(path))
    monkeypatch.setattr(records.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="needs datasets"):
        load_benchmark("gsm8k", "hub")
    with pytest.raises(UserError, match="needs pyarrow"):
        (tmp_path / "x.parquet").touch()
        load_benchmark("gsm8k", str(tmp_path / "x.parquet"))


def test_counterfactuals_are_read_from_local_records(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    record = {
        "context": "Oslo is in Peru.",
        "question": "Where is Oslo?",
        "answer": ["Peru"],
        "memory_answer": "Norway",
    }
    path.write_text(lines([record]))
    (item,) = read_counterfactuals(str(path))
    assert item.prompt == "Oslo is in Peru.\nQuestion: Where is Oslo?\nAnswer:"
    assert item.closed_prompt == "Question: Where is Oslo?\nAnswer:"
    assert (item.context_answer, item.memory_answer) == (" Peru", " Norway")
    path.write_text(lines([{"context": "", "question": ""}]))
    with pytest.raises(UserError, match=r"counterfactual: record 1 of .* has no field answer"):
        read_counterfactuals(str(path))


def test_stop_texts_are_found_across_tokens_and_cut() -> None:
    stops = StopTexts(("\nQ:", "END"), (b"a\n", b"Q", b":x", b"EN", b"D", b"b"))
    watch = stops.watch(2)
    assert watch.ended([0, 1], [0, 3]) == [False, False]
    assert watch.ended([0, 1], [1, 5]) == [False, False]
    assert watch.ended([0, 1], [2, 4]) == [True, False]
    assert watch.ended([1], [3]) == [False] and watch.ended([1], [4]) == [True]
    assert stops.cut("one END two\nQ: three") == "one " and stops.cut("nothing") == "nothing"


def test_completions_of_several_lines_end_at_a_stop_text(llama, tokenizer) -> None:
    vocabulary = Vocabulary.of(tokenizer)
    problem = Problem("f", "the cat", lambda text: text or "empty")
    frequent = "e"
    ((one,),) = solve(
        llama,
        tokenizer,
        [problem],
        Attempts(num_samples=64, max_new_tokens=24, settings=[Sampling(1.5)], stops=(frequent,), workers=2),
    )
    assert not any(frequent in text for text in one.completions)
    ended = [answer is not None for answer in one.answers]
    assert any(ended)
    assert all(done or len(text) > 0 for done, text in zip(ended, one.completions, strict=True))
    assert vocabulary.document_ends == (1,)


def test_each_different_text_is_graded_once() -> None:
    graded: list[str] = []
    problem = Problem("f", "p", lambda text: graded.append(text) or text)
    (answers,) = _grade_all([problem], [("a", "b", "a", "c")], [(True, True, True, False)], map)
    assert (answers, graded) == (("a", "b", "a", None), ["a", "b"])


def test_a_benchmark_is_measured_and_what_does_not_fit_is_counted(make_llama, tokenizer) -> None:
    model = make_llama()
    benchmark = gsm8k([*GSM8K, {"question": "long " * 200, "answer": "#### 1"}])
    attempts = Attempts(num_samples=4, max_new_tokens=0, settings=[Sampling(1.0)])
    part, records = measure_benchmark(model, tokenizer, benchmark, attempts, [1, 2])
    assert (part.num_problems, part.too_long, part.skipped) == (2, 1, 0)
    assert set(part.temperatures[1.0].pass_at) == {1, 2} and len(records) == 2
    model.config.max_position_embeddings = 100
    with pytest.raises(UserError, match="fewer shots"):
        measure_benchmark(model, tokenizer, benchmark, attempts, [1])
