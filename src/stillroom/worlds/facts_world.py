"""The facts world: what a model can know by heart, and what it can only read in front of it.

Three kinds of documents:

- **statements** about known entities, every fact many times in varied patterns: these teach *memory*.
- **fresh readings**: notes about entities that no other document names, then the same facts asked: only *reading the
  context* helps.
- **known readings**: the same about known entities. Where the notes agree with what the model knows, memory and context
  give the same answer and nothing says which to use; a part ``override_share`` of them states another value, which the
  asked-for answer then follows. With none of these a small model never leaves its memory, with these alone it never
  needs one: half keeps both in play.

A **counterfactual** is a known reading whose note states another value. Whether a model then follows the note or its
memory is decided by the balance of the three kinds, which is why the shares are knobs.
Imports its vocabulary, options and base only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any

from stillroom.types import UserError
from stillroom.worlds.base import Counterfactual, Split
from stillroom.worlds.options import read_options, split_of
from stillroom.worlds.text_worlds import TextWorldKind
from stillroom.worlds.words import ATTRIBUTES, Attribute, made_up_name

Fact = tuple[str, Attribute, str]
"""An entity, an attribute and its value."""


@dataclass(frozen=True)
class FactsOptions:
    """Knobs of the facts world."""

    entities: int = 48
    """Known entities; each has a value for every attribute."""
    skew: float = 0.0
    """Exponent of the known entities' frequencies, rank**-skew: 0 names all equally often, 1 as a language's words are.
    The rare ones then stay half known, so that memory is a matter of degree for models of any size."""
    attributes: int = 4
    """How many of the attributes (colour, city, animal, food, job, thing) are spoken of."""
    statements_share: float = 0.4
    """Part of the documents that state facts about known entities."""
    fresh_share: float = 0.35
    """Part of the documents that are readings about fresh entities; the rest are known readings."""
    override_share: float = 0.5
    """Part of the known readings whose notes state another value than the known one."""
    notes: int = 3
    """Facts in the notes of a reading, each of another attribute."""
    rounds: int = 2
    """Times that every fact of the notes is asked for, each time in a pattern drawn anew."""
    world: int = 0
    """Which world: names and facts are drawn from this, never from the seed of the documents."""

    def __post_init__(self) -> None:
        if not 2 <= self.entities <= 2_000:  # most names are left for fresh entities
            raise ValueError(f"entities is {self.entities}, expected 2 to 2000")
        if not 0.0 <= self.skew <= 4.0:
            raise ValueError(f"skew is {self.skew}, expected 0 to 4")
        if not 1 <= self.attributes <= len(ATTRIBUTES):
            raise ValueError(f"attributes is {self.attributes}, expected 1 to {len(ATTRIBUTES)}")
        if not 1 <= self.notes <= self.attributes:
            raise ValueError(f"notes is {self.notes}, expected 1 to attributes, which is {self.attributes}")
        if not 1 <= self.rounds <= 10:
            raise ValueError(f"rounds is {self.rounds}, expected 1 to 10")
        for name in ("statements_share", "fresh_share", "override_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")
        if self.statements_share + self.fresh_share > 1.0 + 1e-9:
            raise ValueError("statements_share and fresh_share are together above 1; lower one of them")


@cache
def known_facts(entities: int, world: int) -> dict[str, tuple[str, ...]]:
    """Name of each known entity → its value of every attribute, in the order of ``ATTRIBUTES``."""
    random = Random(f"facts/world/{world}")
    facts: dict[str, tuple[str, ...]] = {}
    while len(facts) < entities:
        facts.setdefault(made_up_name(random), tuple(random.choice(attribute.values) for attribute in ATTRIBUTES))
    return facts


@dataclass(frozen=True)
class FactsWorld:
    """Statements about known entities, and readings about fresh and known ones."""

    options: FactsOptions = FactsOptions()

    def documents(self, seed: int, split: Split) -> Iterator[str]:
        """Endless documents of the three kinds; no document is in both splits, though the known facts are."""
        random = Random(f"facts/{seed}/{split}")
        while True:
            document = self._document(random)
            if split_of(document) == split:
                yield document

    def _document(self, random: Random) -> str:
        kind = random.random()
        if kind < self.options.statements_share:
            return self._statements(random)
        fresh = kind < self.options.statements_share + self.options.fresh_share
        return self._reading(random, fresh)

    def _statements(self, random: Random) -> str:
        known = known_facts(self.options.entities, self.options.world)
        facts: list[Fact] = []
        for name in random.choices(list(known), cum_weights=_frequencies(self.options), k=4):
            index = random.randrange(self.options.attributes)
            facts.append((name, ATTRIBUTES[index], known[name][index]))
        return " ".join(_sentence(fact, random) for fact in facts)

    def _reading(self, random: Random, fresh: bool) -> str:
        known = known_facts(self.options.entities, self.options.world)
        override = not fresh and random.random() < self.options.override_share
        facts = _notes(random, known, self.options, None if fresh else _frequencies(self.options))
        if override:
            facts = [_changed(fact, random) for fact in facts]
        asked = [fact for _ in range(self.options.rounds) for fact in random.sample(facts, k=len(facts))]
        answers = [f"{_question(fact, random)} {fact[2]}." for fact in asked]
        return "\n".join([_context(facts, random), *answers])


def _sentence(fact: Fact, random: Random) -> str:
    name, attribute, value = fact
    pattern = random.choice((*attribute.ending, *attribute.other))
    return pattern.format(e=name, v=value) + "."


def _question(fact: Fact, random: Random) -> str:
    """A statement of the fact up to its value, with no space at the end."""
    return random.choice(fact[1].ending).format(e=fact[0], v="").rstrip()


def _context(facts: list[Fact], random: Random) -> str:
    return "Notes: " + " ".join(_sentence(fact, random) for fact in facts)


def _changed(fact: Fact, random: Random) -> Fact:
    """The fact with another value of the same attribute."""
    name, attribute, value = fact
    return name, attribute, random.choice([other for other in attribute.values if other != value])


@cache
def _frequencies(options: FactsOptions) -> list[float]:
    """Running sums of the known entities' weights, in the order of ``known_facts``."""
    return list(accumulate((rank + 1) ** -options.skew for rank in range(options.entities)))


def _fresh_name(random: Random, known: Mapping[str, Any]) -> str:
    while (name := made_up_name(random)) in known:
        pass
    return name


def _notes(
    random: Random, known: dict[str, tuple[str, ...]], options: FactsOptions, frequencies: list[float] | None
) -> list[Fact]:
    """Facts of different attributes, each of its own entity, known ones by ``frequencies``, fresh ones without."""
    facts: list[Fact] = []
    for index in random.sample(range(options.attributes), options.notes):
        attribute = ATTRIBUTES[index]
        if frequencies is None:
            facts.append((_fresh_name(random, known), attribute, random.choice(attribute.values)))
        else:
            name = random.choices(list(known), cum_weights=frequencies)[0]
            facts.append((name, attribute, known[name][index]))
    return facts


def counterfactuals(num: int, seed: int, options: Mapping[str, Any] | None = None) -> list[Counterfactual]:
    """``num`` known readings in which one fact has another value, and it is asked for.

    The other notes are true facts of known entities and never name the remembered answer, so the two answers are told
    apart by where they come from. Raises ``UserError`` for unknown options or a negative number.
    """
    chosen = read_options(FactsOptions, "facts", options)
    if num < 0:
        raise UserError(f"counterfactuals: {num} items were asked for, expected 0 or more.")
    random = Random(f"facts/counterfactuals/{seed}")
    return [_counterfactual(random, chosen) for _ in range(num)]


def chance(options: Mapping[str, Any] | None = None) -> float:
    """The share of closed questions that a guess among an attribute's values gets right."""
    spoken_of = ATTRIBUTES[: read_options(FactsOptions, "facts", options).attributes]
    return sum(1 / len(attribute.values) for attribute in spoken_of) / len(spoken_of)


def _counterfactual(random: Random, options: FactsOptions) -> Counterfactual:
    known = known_facts(options.entities, options.world)
    evenly = _frequencies(replace(options, skew=0.0))  # rare entities are asked as often as frequent ones
    while True:
        facts = _notes(random, known, options, evenly)
        index = random.randrange(len(facts))
        memory_answer = facts[index][2]
        facts[index] = _changed(facts[index], random)
        if memory_answer in (value for _, _, value in facts):
            continue
        question = _question(facts[index], random)
        return Counterfactual(
            prompt=f"{_context(facts, random)}\n{question}",
            closed_prompt=question,
            context_answer=f" {facts[index][2]}",
            memory_answer=f" {memory_answer}",
        )


WORLD = TextWorldKind(FactsOptions, FactsWorld)
