"""Families of problems that reasoning-gym's generators draw, in shorter words and with worked answers of our own.

Three are drawn here, number for number as that package draws them, so that no release of it changes a corpus. Only
``spell_backward``, which takes its words, needs it: the extra ``gym``, imported when the first of them is asked for,
since that takes over a second. Imports families only.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Collection
from functools import cache
from random import Random
from typing import Any

from stillroom.types import UserError
from stillroom.worlds.families import Worked, whole_number

SIZE = 2**30
"""Problems addressed by number in each generator; a generator makes problem i from its seed and i alone."""
WORDS = {"min_word_len": 3, "max_word_len": 5}


def require_gym(families: Collection[str]) -> None:
    """Refuses, by ``UserError``, families whose words are not installed."""
    if "spell_backward" in families and importlib.util.find_spec("reasoning_gym") is None:
        others = "pair_sum between chain_sum gcd number_sorting"
        raise UserError(
            "options of the problems world: the family spell_backward needs one more package; pip install "
            f"'stillroom[gym]', or name other families, such as families: {others}."
        )


@cache
def _words() -> Any:
    require_gym(["spell_backward"])
    import reasoning_gym

    return reasoning_gym.create_dataset("spell_backward", seed=0, size=SIZE, **WORDS)


def _exactly(answer: str, right: int) -> str | None:
    return answer if whole_number(answer) == right else None


def _chain_sum(index: int) -> Worked:
    random = Random(index)
    random.randint(2, 2)  # how many terms: drawn there, so drawn here
    low, high = (0, 9) if random.randint(1, 2) == 1 else (10, 99)
    left, right, sign = random.randint(low, high), random.randint(low, high), random.choice("+-")
    result = left + right if sign == "+" else left - right
    expression = f"{left} {sign} {right}"
    key = " + ".join(sorted((str(left), str(right)))) if sign == "+" else expression
    return Worked("chain_sum", key, expression, f" {result}", lambda answer: _exactly(answer, result))


def _gcd(index: int) -> Worked:
    random = Random(index)
    low = high = result = 1
    for _ in range(3):  # tries to find two with a common divisor
        random.randint(2, 2)  # how many numbers
        low, high = sorted((random.randint(2, 30), random.randint(2, 30)))
        result = math.gcd(low, high)
        if result > 1:
            break
    steps, larger, smaller = [], high, low
    while smaller:
        larger, smaller, rest = smaller, larger % smaller, f"{larger} mod {smaller} = {larger % smaller}"
        steps.append(rest)
    solution = f" {', '.join(steps)}, so {result}"
    key, question = f"gcd of {low} and {high}", f"gcd of {high} and {low}"
    return Worked("gcd", key, question, solution, lambda answer: _exactly(answer, result))


def _number_sorting(index: int) -> Worked:
    random = Random(index)
    numbers = [_rounded(random) for _ in range(random.randint(3, 4))]
    is_up = random.choice((True, False))
    ordered = [str(number) for number in sorted(numbers, reverse=not is_up)]

    def check(answer: str) -> str | None:
        given = [part.strip() for part in answer.split(",")]
        if any(whole_number(part) is None for part in given):
            return None
        return ", ".join(given) if given == ordered else None

    order, shown = "up" if is_up else "down", [str(number) for number in numbers]
    key, question = f"sort {order} {sorted(shown)}", f"sort {order} {', '.join(shown)}"
    return Worked("number_sorting", key, question, f" {', '.join(ordered)}", check)


def _rounded(random: Random) -> int:
    number = random.uniform(0, 99)
    random.randint(0, 0)  # how many decimals
    return round(number)


def _spell_backward(index: int) -> Worked:
    entry = _words()[index]
    word = entry["metadata"]["word"]

    def check(answer: str) -> str | None:
        letters = answer.split(" ")
        if any(len(letter) != 1 for letter in letters):
            return None
        # The generator's own check forgives the case, under which one answer would count as two.
        return answer if letters == list(entry["answer"]) else None

    question = f"backward {' '.join(word)}"
    return Worked("spell_backward", question, question, f" {' '.join(entry['answer'])}", check)


def _family(problem: Callable[[int], Worked]) -> Callable[[Random], Worked]:
    return lambda random: problem(random.randrange(SIZE))


GYM: dict[str, Callable[[Random], Worked]] = {
    "chain_sum": _family(_chain_sum),
    "gcd": _family(_gcd),
    "number_sorting": _family(_number_sorting),
    "spell_backward": _family(_spell_backward),
}
"""The families of this file by name."""
