"""Families of problems from reasoning-gym's generators, in shorter words and with worked answers of our own.

Its verifier decides: only a score of exactly 1.0 counts, and one that raises counts as wrong. The package takes over a
second to import, so it is imported when the first of its problems is asked for. Imports families only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import Any

from stillroom.worlds.families import Worked, whole_number

SIZE = 2**30
"""Problems addressed by number in each generator; a generator makes problem i from its seed and i alone."""

PARAMETERS: dict[str, dict[str, int]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    "gcd": {"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 30},
    "number_sorting": {
        "min_numbers": 3,
        "max_numbers": 4,
        "min_decimals": 0,
        "max_decimals": 0,
        "min_value": 0,
        "max_value": 99,
    },
    "spell_backward": {"min_word_len": 3, "max_word_len": 5},
}


@cache
def _generator(name: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, seed=0, size=SIZE, **PARAMETERS[name])


def is_right(name: str, answer: str, entry: Mapping[str, object]) -> bool:
    """Whether the generator's verifier gives the answer full marks; a verifier that raises says no."""
    try:
        return _generator(name).score_answer(answer, entry) == 1.0
    except Exception:  # verifiers meet arbitrary text, and some raise on it
        return False


def _chain_sum(entry: dict[str, Any]) -> Worked:
    expression = entry["metadata"]["expression"]

    def check(answer: str) -> str | None:
        right = whole_number(answer) is not None and is_right("chain_sum", answer, entry)
        return answer if right else None

    left, sign, right = expression.split()
    key = " + ".join(sorted((left, right))) if sign == "+" else expression
    return Worked("chain_sum", key, expression, f" {entry['answer']}", check)


def _gcd(entry: dict[str, Any]) -> Worked:
    low, high = sorted(entry["metadata"]["numbers"])

    def check(answer: str) -> str | None:
        right = whole_number(answer) is not None and is_right("gcd", answer, entry)
        return answer if right else None

    steps = []
    larger, smaller = high, low
    while smaller:
        larger, smaller, rest = smaller, larger % smaller, f"{larger} mod {smaller} = {larger % smaller}"
        steps.append(rest)
    solution = f" {', '.join(steps)}, so {entry['answer']}"
    return Worked("gcd", f"gcd of {low} and {high}", f"gcd of {high} and {low}", solution, check)


def _number_sorting(entry: dict[str, Any]) -> Worked:
    metadata = entry["metadata"]
    numbers = [str(int(float(number))) for number in metadata["original_numbers"]]
    ordered = [str(int(float(number))) for number in metadata["sorted_numbers"]]
    order = "up" if metadata["direction"] == "ascending" else "down"

    def check(answer: str) -> str | None:
        given = [part.strip() for part in answer.split(",")]
        if any(whole_number(part) is None for part in given):
            return None
        # The generator's own check forgives every element an error of 1, so the list is compared as it is.
        return ", ".join(given) if given == ordered else None

    key = f"sort {order} {sorted(numbers)}"
    return Worked("number_sorting", key, f"sort {order} {', '.join(numbers)}", f" {', '.join(ordered)}", check)


def _spell_backward(entry: dict[str, Any]) -> Worked:
    word = entry["metadata"]["word"]

    def check(answer: str) -> str | None:
        letters = answer.split(" ")
        if any(len(letter) != 1 for letter in letters):
            return None
        # The generator's own check forgives the case, under which one answer would count as two.
        return answer if letters == list(entry["answer"]) else None

    question = f"backward {' '.join(word)}"
    return Worked("spell_backward", question, question, f" {' '.join(entry['answer'])}", check)


_REWORD: dict[str, Callable[[dict[str, Any]], Worked]] = {
    "chain_sum": _chain_sum,
    "gcd": _gcd,
    "number_sorting": _number_sorting,
    "spell_backward": _spell_backward,
}


def _family(name: str) -> Callable[[Random], Worked]:
    def draw(random: Random) -> Worked:
        return _REWORD[name](_generator(name)[random.randrange(SIZE)])

    return draw


GYM: dict[str, Callable[[Random], Worked]] = {name: _family(name) for name in _REWORD}
"""The families of this file by name."""
