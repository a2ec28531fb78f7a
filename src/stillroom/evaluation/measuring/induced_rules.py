"""Rules that a few examples tell: on words and on whole numbers, each with a name, and split into train and held out.

A rule is held out by a hash of its name, so that text made of the others can be trained on without giving these away.
Imports worlds only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

from stillroom.worlds.base import Split
from stillroom.worlds.options import split_of
from stillroom.worlds.words import ANIMALS, PIECES

Kind = Literal["string", "number"]
_VOWELS = "aeiou"
_SHORTEST = 3  # shorter words do not tell most rules apart


@dataclass(frozen=True)
class Rule:
    """A function from text to text, and the name that says which."""

    name: str
    kind: Kind
    apply: Callable[[str], str]

    @property
    def split(self) -> Split:
        """Whether text to train on may show the rule."""
        return split_of(f"rule/{self.kind}/{self.name}")


@cache
def rules(kind: Kind, split: Split | None = None) -> tuple[Rule, ...]:
    """Every rule of a kind, or those of one split, in a fixed order."""
    made = _string_rules() if kind == "string" else _number_rules()
    return tuple(rule for rule in made if split is None or rule.split == split)


def _string_rules() -> list[Rule]:
    plain: dict[str, Callable[[str], str]] = {
        "reverse": lambda word: word[::-1],
        "last letter first": lambda word: word[-1] + word[:-1],
        "first letter last": lambda word: word[1:] + word[0],
        "swap ends": lambda word: word[-1] + word[1:-1] + word[0],
        "double the first": lambda word: word[0] + word,
        "double the last": lambda word: word + word[-1],
        "double every letter": lambda word: "".join(letter * 2 for letter in word),
        "drop the first": lambda word: word[1:],
        "drop the last": lambda word: word[:-1],
        "sort the letters": lambda word: "".join(sorted(word)),
        "capitals": str.upper,
        "twice": lambda word: word + word,
        "first and last": lambda word: word[0] + word[-1],
        "without vowels": lambda word: "".join(letter for letter in word if letter not in _VOWELS) or word[0],
    }
    made = [Rule(name, "string", apply) for name, apply in plain.items()]
    made += [Rule(f"end in {end}", "string", lambda word, end=end: word + end) for end in ("s", "ed", "o", "ing", "x")]
    made += [Rule(f"begin with {begin}", "string", lambda word, b=begin: b + word) for begin in ("un", "re", "a", "z")]
    made += [
        Rule(f"vowels to {vowel}", "string", lambda word, to=vowel: "".join(to if c in _VOWELS else c for c in word))
        for vowel in _VOWELS
    ]
    return made


def _number_rules() -> list[Rule]:
    made = [Rule(f"plus {k}", "number", lambda n, k=k: str(int(n) + k)) for k in range(1, 13)]
    made += [Rule(f"minus {k}", "number", lambda n, k=k: str(int(n) - k)) for k in range(1, 9)]
    made += [Rule(f"times {k}", "number", lambda n, k=k: str(int(n) * k)) for k in range(2, 7)]
    made += [Rule(f"{k} minus it", "number", lambda n, k=k: str(k - int(n))) for k in (99, 100, 110, 120)]
    plain: dict[str, Callable[[str], str]] = {
        "twice plus 1": lambda n: str(2 * int(n) + 1),
        "twice minus 1": lambda n: str(2 * int(n) - 1),
        "digits reversed": lambda n: n[::-1],
        "sum of the digits": lambda n: str(sum(map(int, n))),
        "first digit": lambda n: n[0],
        "last digit": lambda n: n[-1],
        "square": lambda n: str(int(n) ** 2),
        "round down to tens": lambda n: str(int(n) // 10 * 10),
        "half, rounded down": lambda n: str(int(n) // 2),
    }
    return made + [Rule(name, "number", apply) for name, apply in plain.items()]


@dataclass(frozen=True)
class RuleItem:
    """Examples of a rule, an input that is not among them, the right output, and wrong ones that other rules give."""

    rule: str
    kind: Kind
    examples: tuple[tuple[str, str], ...]
    query: str
    answer: str
    wrong: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The examples a line each, and the query up to its output."""
        return "".join(f"{given} -> {made}\n" for given, made in self.examples) + f"{self.query} ->"


def rule_items(
    num: int, *, shots: int, kind: Kind, seed: int, split: Split = "heldout", num_wrong: int = 3
) -> list[RuleItem]:
    """``num`` items with ``shots`` examples each; an item is a function of the seed and its number.

    The examples settle the answer: every rule of the kind that fits them all gives the same output for the query. The
    wrong outputs are what rules that do not fit give for it.
    """
    return [
        _item(Random(f"rules/{kind}/{seed}/{number}/{shots}"), shots, kind, split, num_wrong) for number in range(num)
    ]


def _item(random: Random, shots: int, kind: Kind, split: Split, num_wrong: int) -> RuleItem:
    while True:
        rule = random.choice(rules(kind, split))
        given = _inputs(random, kind, shots + 1)
        examples = tuple((one, rule.apply(one)) for one in given[:-1])
        query, answer = given[-1], rule.apply(given[-1])
        others = [other.apply(query) for other in rules(kind) if not _fits(other, examples)]
        settled = all(other.apply(query) == answer for other in rules(kind) if _fits(other, examples))
        wrong = sorted({other for other in others if other != answer})
        if settled and answer != query and len(wrong) >= num_wrong:
            return RuleItem(rule.name, kind, examples, query, answer, tuple(random.sample(wrong, num_wrong)))


def _fits(rule: Rule, examples: Sequence[tuple[str, str]]) -> bool:
    return all(rule.apply(given) == made for given, made in examples)


def _inputs(random: Random, kind: Kind, num: int) -> list[str]:
    if kind == "number":
        return [str(number) for number in random.sample(range(11, 100), num)]
    return random.sample(_words(), num)


@cache
def _words() -> tuple[str, ...]:
    return tuple(sorted({word for word in (*ANIMALS, *PIECES) if len(word) >= _SHORTEST and word.islower()}))
