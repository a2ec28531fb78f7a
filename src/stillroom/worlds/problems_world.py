r"""The problems world: small verifiable problems with worked answers, to train on and to sample answers for.

A document is ``Q: question\nA: worked answer`` and nothing else, so that the prompt of a held-out problem looks like
the start of a document. Train and held-out problems are disjoint by a hash of the problem, whatever the seed.
Imports its families, options and base only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from stillroom.strict import nearest
from stillroom.types import UserError
from stillroom.worlds.base import Problem, Split
from stillroom.worlds.families import OWN, Worked, final_answer
from stillroom.worlds.gym import GYM, require_gym
from stillroom.worlds.options import read_options, split_of
from stillroom.worlds.text_worlds import TextWorldKind

FAMILIES: dict[str, Callable[[Random], Worked]] = {**OWN, **GYM}
"""Every family by name: a function from a random source to a problem."""

_MOST_DRAWS = 2_000
"""Draws without a new problem after which a family counts as used up."""


@dataclass(frozen=True)
class ProblemsOptions:
    """Knobs of the problems world."""

    families: str = " ".join(FAMILIES)
    """Names of the families, with spaces between; a name given twice is drawn twice as often in training."""

    def __post_init__(self) -> None:
        names = self.families.replace(",", " ").split()
        if not names:
            raise ValueError(f"families is empty, expected some of {', '.join(FAMILIES)}")
        for name in names:
            if name not in FAMILIES:
                raise ValueError(f"families names {name!r}, which is not one{nearest(name, list(FAMILIES))}")

    @property
    def names(self) -> list[str]:
        """The families as a list."""
        return self.families.replace(",", " ").split()


def _prompt(worked: Worked) -> str:
    return f"Q: {worked.question}\nA:"


def _draw(family: str, random: Random, split: Split) -> Worked:
    while True:
        worked = FAMILIES[family](random)
        if split_of(f"{family}: {worked.key}") == split:
            return worked


@dataclass(frozen=True)
class ProblemsWorld:
    """Documents of one problem and its worked answer each."""

    options: ProblemsOptions = ProblemsOptions()

    def __post_init__(self) -> None:
        require_gym(self.options.names)

    def documents(self, seed: int, split: Split) -> Iterator[str]:
        """Endless documents, families in random order; the same seed and split give the same ones."""
        random = Random(f"problems/{seed}/{split}")
        names = self.options.names
        while True:
            worked = _draw(random.choice(names), random, split)
            yield _prompt(worked) + worked.solution


def problems(num: int, seed: int, split: Split = "heldout", options: Mapping[str, Any] | None = None) -> list[Problem]:
    """``num`` different problems, the families in turn, with verifiers; the same arguments give the same ones.

    Raises ``UserError`` where the families asked for do not hold that many different problems.
    """
    names = list(dict.fromkeys(read_options(ProblemsOptions, "problems", options).names))
    random = Random(f"problems/items/{seed}/{split}")
    chosen: dict[str, Worked] = {}
    while len(chosen) < num and names:
        found = {name: _new(name, random, split, chosen) for name in names}
        chosen.update((f"{name}: {worked.key}", worked) for name, worked in found.items() if worked)
        names = [name for name, worked in found.items() if worked]
    if len(chosen) < num:
        raise UserError(
            f"problems: {num} different {split} problems were asked for, but the families hold only about "
            f"{len(chosen)}; ask for fewer or name more families."
        )
    chosen_in_turn = list(chosen.values())[:num]
    return [Problem(worked.family, _prompt(worked), _grader(worked)) for worked in chosen_in_turn]


def _new(family: str, random: Random, split: Split, chosen: Mapping[str, Worked]) -> Worked | None:
    """A problem that is not among the chosen ones; None where the family seems used up."""
    draws = (_draw(family, random, split) for _ in range(_MOST_DRAWS))
    return next((worked for worked in draws if f"{family}: {worked.key}" not in chosen), None)


def _grader(worked: Worked) -> Callable[[str], str | None]:
    return lambda completion: worked.check(final_answer(completion))


WORLD = TextWorldKind(ProblemsOptions, ProblemsWorld)
