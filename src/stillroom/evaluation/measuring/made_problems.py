"""Problems in the forms of GSM8K and MBPP, made here from a seed: what the benchmarks ask, without downloading them.

Each is a record with the field names of the published set, so that the same loaders and graders serve.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from stillroom.worlds.words import made_up_name

Record = dict[str, object]
_THINGS = ("apples", "books", "eggs", "pens", "shells", "stamps", "tickets")


def word_problems(num: int, seed: int) -> list[Record]:
    """``num`` arithmetic stories of two or three steps, with a worked answer that ends in ``#### number``."""
    return [_STORIES[n % len(_STORIES)](Random(f"stories/{seed}/{n}")) for n in range(num)]


def _story(question: str, steps: list[str], answer: int) -> Record:
    return {"question": question, "answer": "\n".join([*steps, f"#### {answer}"])}


def _shared(random: Random) -> Record:
    name, thing = made_up_name(random), random.choice(_THINGS)
    boxes, each, friends = random.randint(2, 9), random.randint(2, 9), random.randint(2, 6)
    each *= friends
    total, part = boxes * each, boxes * each // friends
    return _story(
        f"{name} has {boxes} boxes with {each} {thing} in each. They are shared equally among {friends} friends. "
        f"How many {thing} does each friend get?",
        [f"There are {boxes} * {each} = {total} {thing}.", f"Each friend gets {total} / {friends} = {part}."],
        part,
    )


def _bought(random: Random) -> Record:
    name, thing = made_up_name(random), random.choice(_THINGS)
    price, num = random.randint(2, 12), random.randint(2, 9)
    cost = price * num
    purse = cost + random.randint(1, 40)
    return _story(
        f"{name} has {purse} coins and buys {num} {thing} at {price} coins each. How many coins are left?",
        [f"The {thing} cost {num} * {price} = {cost} coins.", f"{purse} - {cost} = {purse - cost} coins are left."],
        purse - cost,
    )


def _days(random: Random) -> Record:
    name, thing = made_up_name(random), random.choice(_THINGS)
    first, days, lost = random.randint(3, 30), random.randint(2, 7), random.randint(1, 5)
    daily = random.randint(lost + 1, 12)
    found = daily * days
    return _story(
        f"{name} starts with {first} {thing}, finds {daily} more on each of {days} days and loses {lost} in the end. "
        f"How many {thing} does {name} have?",
        [
            f"In {days} days {days} * {daily} = {found} {thing} are found.",
            f"{first} + {found} = {first + found}.",
            f"{first + found} - {lost} = {first + found - lost}.",
        ],
        first + found - lost,
    )


_STORIES: tuple[Callable[[Random], Record], ...] = (_shared, _bought, _days)


def program_problems(num: int, seed: int) -> list[Record]:
    """``num`` small functions to be written, each with three asserts and a reference program."""
    return [_program(Random(f"programs/{seed}/{n}"), n) for n in range(num)]


def _program(random: Random, number: int) -> Record:
    k = random.randint(2, 9)
    tasks: tuple[tuple[str, str, str], ...] = (
        (f"add {k} to every number of a list", f"add_{k}", f"[x + {k} for x in values]"),
        (f"multiply every number of a list by {k}", f"times_{k}", f"[x * {k} for x in values]"),
        (
            f"keep the numbers of a list that are multiples of {k}",
            f"multiples_{k}",
            f"[x for x in values if x % {k} == 0]",
        ),
        (f"count the numbers of a list that are above {k}", f"count_above_{k}", f"sum(x > {k} for x in values)"),
        (f"find the {k} largest numbers of a list, largest first", f"largest_{k}", f"sorted(values)[::-1][:{k}]"),
        (
            f"sum the squares of the numbers of a list that are below {k}",
            f"squares_{k}",
            f"sum(x * x for x in values if x < {k})",
        ),
    )
    wanted, name, body = tasks[number % len(tasks)]
    code = f"def {name}(values):\n    return {body}\n"
    namespace: dict[str, Callable[[list[int]], object]] = {}
    exec(code, namespace)  # our own text, from the list above
    tests = []
    for _ in range(3):
        values = [random.randint(0, 30) for _ in range(random.randint(4, 8))]
        tests.append(f"assert {name}({values}) == {namespace[name](values)!r}")
    return {"task_id": number, "text": f"Write a function to {wanted}.", "code": code, "test_list": tests}
