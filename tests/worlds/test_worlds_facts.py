"""The facts world: facts that never change, notes that are answered from, and counterfactuals that can be scored."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from stillroom.types import UserError
from stillroom.worlds import make_world
from stillroom.worlds.facts_world import FactsOptions, chance, counterfactuals, known_facts
from stillroom.worlds.words import ATTRIBUTES

VALUES = {value: attribute.name for attribute in ATTRIBUTES for value in attribute.values}
DEFAULTS = FactsOptions()


def sentences(text):
    return [part.strip(" .") for line in text.split("\n") for part in re.sub(r"^Notes: ", "", line).split(". ")]


def stated(sentence):
    """(entity, attribute, value) of a sentence, by matching it against every pattern."""
    for attribute in ATTRIBUTES:
        for pattern in (*attribute.ending, *attribute.other):
            expression = re.escape(pattern).replace(r"\{e\}", r"(?P<e>[A-Z][a-z]+)").replace(r"\{v\}", r"(?P<v>\w+)")
            found = re.fullmatch(expression, sentence)
            if found and found["v"] in attribute.values:
                return found["e"], attribute.name, found["v"]
    raise AssertionError(f"no pattern says {sentence!r}")


def value_of(name, attribute):
    index = [known.name for known in ATTRIBUTES].index(attribute)
    return known_facts(DEFAULTS.entities, DEFAULTS.world)[name][index]


def take(num, **options):
    return list(islice(make_world("facts", options).documents(0, "train"), num))


def test_no_value_belongs_to_two_attributes():
    assert len(VALUES) == sum(len(attribute.values) for attribute in ATTRIBUTES)


def test_every_ending_pattern_ends_in_its_value():
    for attribute in ATTRIBUTES:
        assert all(pattern.endswith(" {v}") for pattern in attribute.ending)
        assert all("{e}" in pattern and "{v}" in pattern for pattern in (*attribute.ending, *attribute.other))


def test_statements_never_contradict_the_world_and_cover_it():
    seen = set()
    for document in take(2000, statements_share=1.0, fresh_share=0.0):
        for sentence in sentences(document):
            name, attribute, value = stated(sentence)
            assert value == value_of(name, attribute)
            seen.add((name, attribute))
    assert len(seen) == DEFAULTS.entities * DEFAULTS.attributes


def test_fresh_readings_name_no_known_entity_and_answer_from_their_notes():
    known = known_facts(DEFAULTS.entities, DEFAULTS.world)
    for document in take(300, statements_share=0.0, fresh_share=1.0):
        notes, *answers = document.split("\n")
        facts = {stated(sentence) for sentence in sentences(notes)}
        assert len(facts) == DEFAULTS.notes
        assert {stated(answer.rstrip(".")) for answer in answers} <= facts
        assert not {name for name, _, _ in facts} & set(known)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_known_readings_agree_with_memory_or_override_it(share):
    for document in take(300, statements_share=0.0, fresh_share=0.0, override_share=share):
        for sentence in sentences(document):
            name, attribute, value = stated(sentence)
            assert (value != value_of(name, attribute)) == bool(share)


def test_counterfactuals_state_another_value_and_hide_the_remembered_one():
    for item in counterfactuals(300, seed=5):
        notes, question = item.prompt.split("\n")
        name, attribute, value = stated(question + item.context_answer)
        assert item.closed_prompt == question
        assert item.context_answer == f" {value}" != item.memory_answer
        assert item.memory_answer == f" {value_of(name, attribute)}"
        assert (name, attribute, value) in [stated(sentence) for sentence in sentences(notes)]
        assert item.memory_answer.strip() not in re.findall(r"\w+", notes)


def test_skew_names_entities_by_rank_and_counterfactuals_ask_for_all_of_them_evenly():
    options = {"entities": 16, "skew": 1.0, "fresh_share": 0.0}
    names = list(known_facts(16, 0))
    text = " ".join(take(3_000, **options))
    mentions = [len(re.findall(rf"\b{name}\b", text)) for name in names]
    expected = [sum(mentions) / (rank + 1) / sum(1 / r for r in range(1, 17)) for rank in range(16)]
    for seen, wanted in zip(mentions, expected, strict=True):  # a document names a few entities several times each
        assert abs(seen - wanted) < 12 * wanted**0.5
    asked = [next(name for name in names if name in item.closed_prompt) for item in counterfactuals(800, 0, options)]
    assert all(20 < asked.count(name) < 90 for name in names)


def test_counterfactuals_depend_on_the_seed_alone_and_on_the_world():
    assert counterfactuals(20, 1) == counterfactuals(20, 1) != counterfactuals(20, 2)
    assert counterfactuals(20, 1)[:5] == counterfactuals(5, 1)
    assert counterfactuals(20, 1, {"world": 1}) != counterfactuals(20, 1)


def test_documents_of_another_seed_speak_of_the_same_world():
    world = make_world("facts", {"statements_share": 1.0, "fresh_share": 0.0})
    for document in islice(world.documents(99, "heldout"), 50):
        for sentence in sentences(document):
            name, attribute, value = stated(sentence)
            assert value == value_of(name, attribute)


def test_counterfactuals_refuse_a_negative_number_and_an_unknown_knob():
    with pytest.raises(UserError, match="-1"):
        counterfactuals(-1, 0)
    with pytest.raises(UserError, match="entities"):
        counterfactuals(1, 0, {"entity": 3})


def test_chance_is_the_share_of_guesses_that_are_right():
    assert chance({"attributes": 1, "notes": 1}) == 1 / len(ATTRIBUTES[0].values)
    spoken_of = ATTRIBUTES[: FactsOptions().attributes]
    assert abs(chance() - sum(1 / len(attribute.values) for attribute in spoken_of) / len(spoken_of)) < 1e-12
