"""Families of small verifiable problems with worked answers, worded for models of about 1M parameters.

The tokenizer spells every number digit by digit. Several families have many right answers, so that different right
answers can be counted. A worked answer ends in its result; where there are steps, the result follows the last " so ".
Imports the vocabulary only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from stillroom.worlds.words import ANIMALS

NUMBER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Worked:
    """A problem, a worked answer, and its verifier.

    ``key`` is what makes two problems the same (the order of what may be swapped is left out): the split hangs on it.
    ``check`` gets the final answer, stripped, and returns it in normal form when it is right, else None.
    """

    family: str
    key: str
    question: str
    solution: str
    check: Callable[[str], str | None]


def final_answer(completion: str) -> str:
    """What a completion claims in the end: its first line, after the last "so " or "=", without a full stop."""
    line = completion.split("\n", 1)[0]
    for mark in ("so ", "="):
        line = line.rsplit(mark, 1)[-1]
    return line.strip().removesuffix(".").rstrip()


def whole_number(text: str) -> int | None:
    """The whole number that the text is, in plain ASCII digits without spare zeros; None where it is not one."""
    if not NUMBER.fullmatch(text) or not text.isascii() or str(int(text)) != text:
        return None
    return int(text)


def pair_sum(random: Random) -> Worked:
    """Two whole numbers of at least 1 that add to a given one: right answers differ in their smaller number."""
    total = random.randint(10, 199)
    first = random.randint(1, total - 1)

    def check(answer: str) -> str | None:
        parts = [whole_number(part.strip()) for part in answer.split("+")]
        if len(parts) != 2 or any(part is None or part < 1 for part in parts):
            return None
        low, high = sorted(part for part in parts if part is not None)
        return f"{low} + {high}" if low + high == total else None

    question = f"two numbers that add to {total}"
    return Worked("pair_sum", question, question, f" {first} + {total - first}", check)


def between(random: Random) -> Worked:
    """A whole number strictly between two others."""
    low = random.randint(0, 90)
    high = random.randint(low + 3, min(low + 30, 99))
    shown = random.randint(low + 1, high - 1)

    def check(answer: str) -> str | None:
        number = whole_number(answer)
        return answer if number is not None and low < number < high else None

    question = f"a number between {low} and {high}"
    return Worked("between", question, question, f" {shown}", check)


def multiple(random: Random) -> Worked:
    """A multiple of a digit above a bound, at most 99."""
    base = random.randint(3, 9)
    above = random.randint(1, 98 - base)
    choices = [number for number in range(above + 1, 100) if number % base == 0]
    shown = random.choice(choices)

    def check(answer: str) -> str | None:
        number = whole_number(answer)
        return answer if number in choices else None

    question = f"a multiple of {base} above {above}"
    return Worked("multiple", question, question, f" {shown // base} * {base} = {shown}", check)


def pick(random: Random) -> Worked:
    """A word of a given list that holds a given letter: the answer is in the question."""
    words = random.sample(ANIMALS, 5)
    letter = random.choice(random.choice(words))
    right = [word for word in words if letter in word]

    def check(answer: str) -> str | None:
        return answer if answer in right else None

    key = f"pick {letter} of {sorted(words)}"
    question = f"a word with {letter} of {', '.join(words)}"
    return Worked("pick", key, question, f" {random.choice(right)}", check)


def progression(random: Random) -> Worked:
    """The next term of an arithmetic progression, worked as a sum."""
    step = random.randint(2, 12)
    start = random.randint(1, 60)
    terms = [start + step * index for index in range(4)]

    def check(answer: str) -> str | None:
        return answer if whole_number(answer) == terms[3] else None

    question = f"next after {terms[0]}, {terms[1]}, {terms[2]}"
    return Worked("progression", question, question, f" {terms[2]} + {step} = {terms[3]}", check)


OWN: dict[str, Callable[[Random], Worked]] = {
    "pair_sum": pair_sum,
    "between": between,
    "multiple": multiple,
    "pick": pick,
    "progression": progression,
}
"""The families of this file by name."""
