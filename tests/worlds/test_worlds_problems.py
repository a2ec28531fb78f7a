"""The problems world: worked answers pass their own verifier, wrong ones do not, and splits share no problem."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.types import UserError
from stillroom.worlds import gym, make_world
from stillroom.worlds.families import final_answer, whole_number
from stillroom.worlds.problems_world import FAMILIES, problems


def some(family, num=30):
    random = Random(f"test {family}")
    return [FAMILIES[family](random) for _ in range(num)]


def item(family, question_part):
    """A problem of the family whose question holds the part."""
    random = Random(0)
    while True:
        worked = FAMILIES[family](random)
        if question_part in worked.question:
            return worked


@pytest.mark.parametrize("family", FAMILIES)
def test_every_worked_answer_is_right(family):
    for worked in some(family, 200):
        assert worked.check(final_answer(worked.solution)), worked
        assert "\n" not in worked.question + worked.solution
        assert worked.solution.startswith(" ")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "text", ["", " ", "\n", "so", "so ", "=", "[]", "nan", "1e3", "٣", "None", "-", "+", "9" * 400, "{x}"]
)
def test_no_verifier_raises_or_accepts_garbage(family, text):
    for worked in some(family, 5):
        assert worked.check(final_answer(text)) is None


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.text(max_size=30))
def test_any_text_is_graded_without_an_error(family, text):
    answer = some(family, 1)[0].check(final_answer(text))
    assert answer is None or isinstance(answer, str)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (" 12", "12"),
        (" 12.", "12"),
        (" 12\nQ: 1 + 1", "12"),
        (" 3 * 4 = 12", "12"),
        (" 8 mod 6 = 2, 6 mod 2 = 0, so 2", "2"),
        ("", ""),
        (" 1 = 2, so 3 = 4", "4"),
    ],
)
def test_the_final_answer_of_a_completion(completion, answer):
    assert final_answer(completion) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("-7", -7), ("0", 0), ("07", None), ("-0", None), ("+7", None), ("7.0", None), ("٣", None)],
)
def test_whole_numbers_are_plain(text, number):
    assert whole_number(text) == number


def test_swapped_pairs_are_one_answer_and_different_pairs_are_two():
    worked = item("pair_sum", "add to 54")
    assert worked.check("30 + 24") == worked.check("24 + 30") == worked.check("24+30") == "24 + 30"
    assert worked.check("4 + 50") == "4 + 50"
    for wrong in ("54", "0 + 54", "-1 + 55", "20 + 20 + 14", "24 + 31", "24 + x"):
        assert worked.check(wrong) is None


def test_between_is_strict():
    worked = item("between", "between")
    low, high = (int(part) for part in worked.question.removeprefix("a number between ").split(" and "))
    assert worked.check(str(low)) is None and worked.check(str(high)) is None
    assert [worked.check(str(number)) for number in range(low + 1, high)] == [str(n) for n in range(low + 1, high)]


def test_sorting_takes_the_right_order_only():
    worked = item("number_sorting", "sort up")
    numbers = worked.question.removeprefix("sort up ").split(", ")
    ordered = ", ".join(sorted(numbers, key=int))
    assert worked.check(ordered) == ordered
    assert worked.check(", ".join(reversed(ordered.split(", ")))) is None
    assert worked.check(ordered + ", 1") is None
    for place in range(len(numbers)):
        for error in (-1, 1):
            near = [int(number) + error * (index == place) for index, number in enumerate(ordered.split(", "))]
            assert worked.check(", ".join(map(str, near))) is None


def test_spelling_minds_the_case():
    worked = item("spell_backward", "backward")
    answer = worked.solution.strip()
    assert worked.check(answer) == answer
    assert worked.check(answer.upper()) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_train_and_heldout_share_no_problem(family):
    options = {"families": family}
    num = 12
    heldout = {problem.prompt for seed in range(4) for problem in problems(num, seed, "heldout", options)}
    documents = islice(make_world("problems", options).documents(0, "train"), 3000)
    train = {document[: document.index("\nA:") + 3] for document in documents}
    assert heldout and train
    assert not heldout & train


def test_problems_are_different_repeatable_and_take_the_families_in_turn():
    chosen = problems(45, 0)
    assert [problem.prompt for problem in chosen] == [problem.prompt for problem in problems(45, 0)]
    assert len({problem.prompt for problem in chosen}) == 45
    assert [problem.family for problem in chosen[: len(FAMILIES)]] == list(FAMILIES)
    assert {problem.prompt for problem in chosen} != {problem.prompt for problem in problems(45, 1)}


def test_a_training_document_is_the_prompt_and_an_answer_that_passes():
    for problem in problems(20, 0, "train"):
        assert problem.prompt.startswith("Q: ") and problem.prompt.endswith("\nA:")
    for document in islice(make_world("problems").documents(0, "train"), 50):
        prompt, answer = document.split("\nA:")
        assert prompt.startswith("Q: ") and final_answer(answer)


def test_more_problems_than_there_are_is_refused():
    with pytest.raises(UserError, match="ask for fewer"):
        problems(500, 0, "heldout", {"families": "pair_sum"})


def _of_reasoning_gym(name: str, entry: dict) -> tuple[str, str]:
    """Question and answer of that package's problem, in our words."""
    found = entry["metadata"]
    if name == "chain_sum":
        return found["expression"], entry["answer"]
    if name == "gcd":
        low, high = sorted(found["numbers"])
        return f"gcd of {high} and {low}", entry["answer"]
    shown, ordered = ([str(int(float(one))) for one in found[key]] for key in ("original_numbers", "sorted_numbers"))
    order = "up" if found["direction"] == "ascending" else "down"
    return f"sort {order} {', '.join(shown)}", ", ".join(ordered)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("chain_sum", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}),
        ("gcd", {"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 30}),
        (
            "number_sorting",
            {"min_numbers": 3, "max_numbers": 4, "min_decimals": 0, "max_decimals": 0, "min_value": 0, "max_value": 99},
        ),
    ],
)
def test_problems_that_are_drawn_here_are_those_of_reasoning_gym(name, knobs):
    reasoning_gym = pytest.importorskip("reasoning_gym")
    theirs = reasoning_gym.create_dataset(name, seed=0, size=gym.SIZE, **knobs)
    for index in (*range(1500), *(gym.SIZE - 1 - 7**power for power in range(10))):
        ours = getattr(gym, f"_{name}")(index)
        question, answer = _of_reasoning_gym(name, theirs[index])
        assert (ours.question, final_answer(ours.solution)) == (question, answer), index


def test_only_words_spelled_backward_need_one_more_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    gym._words.cache_clear()
    families = " ".join(name for name in FAMILIES if name != "spell_backward")
    next(make_world("problems", {"families": families}).documents(0, "train"))
    assert len(problems(20, 0, options={"families": families})) == 20
    for asked in (lambda: make_world("problems"), lambda: problems(30, 0)):
        with pytest.raises(UserError, match=r"spell_backward needs one more package; pip install 'stillroom\[gym\]'"):
            asked()


def test_reasoning_gym_is_imported_only_when_its_problems_are_asked_for():
    code = (
        "import sys; from stillroom.worlds import make_world; from stillroom.worlds.problems_world import problems;"
        "problems(5, 0, options={'families': 'between gcd'}); assert 'reasoning_gym' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
