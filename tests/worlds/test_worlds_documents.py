"""What every text world promises: the same documents for the same seed, disjoint splits, knobs that are checked."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.types import UserError
from stillroom.worlds import make_world
from stillroom.worlds.options import HELDOUT_ONE_IN, split_of
from stillroom.worlds.text_worlds import TEXT_WORLDS


def take(kind, seed, split, num=200, options=None):
    return list(islice(make_world(kind, options).documents(seed, split), num))


@pytest.mark.parametrize("kind", TEXT_WORLDS.names())
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_same_seed_and_split_give_the_same_documents(kind, split):
    first = take(kind, 3, split)
    assert first == take(kind, 3, split)
    assert first != take(kind, 4, split)
    assert all(document.strip() for document in first)


@pytest.mark.parametrize("kind", TEXT_WORLDS.names())
def test_no_document_is_in_both_splits_whatever_the_seed(kind):
    train = {document for seed in range(3) for document in take(kind, seed, "train", 1500)}
    heldout = {document for seed in range(3) for document in take(kind, seed, "heldout", 300)}
    assert train and heldout
    assert not train & heldout


@pytest.mark.parametrize("kind", TEXT_WORLDS.names())
def test_documents_are_utf8_text_without_special_tokens(kind):
    for document in take(kind, 0, "train"):
        assert document.encode().decode() == document
        assert "<|" not in document


@given(st.text(max_size=40))
def test_an_item_is_in_exactly_one_split_and_always_the_same(item):
    assert split_of(item) in ("train", "heldout")
    assert split_of(item) == split_of(item)


def test_about_one_item_in_eight_is_held_out():
    held = sum(split_of(f"item {number}") == "heldout" for number in range(8000))
    assert held == pytest.approx(8000 / HELDOUT_ONE_IN, rel=0.15)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("fact", {}, ["'fact'", "facts"]),
        ("facts", {"entitties": 3}, ["entitties", "entities"]),
        ("facts", {"entities": "many"}, ["entities", "'many'", "int"]),
        ("facts", {"entities": True}, ["entities", "True", "int"]),
        ("facts", {"entities": 1}, ["entities is 1"]),
        ("facts", {"attributes": 7}, ["attributes is 7"]),
        ("facts", {"notes": 5}, ["notes is 5", "attributes"]),
        ("facts", {"override_share": 1.5}, ["override_share is 1.5"]),
        ("facts", {"statements_share": 0.7, "fresh_share": 0.7}, ["above 1"]),
        ("problems", {"families": "betwen"}, ["betwen", "between"]),
        ("problems", {"families": " "}, ["families is empty"]),
        ("problems", {"digits": 2}, ["digits"]),
        ("copying", {"shortest": 9, "longest": 8}, ["shortest is 9"]),
        ("copying", {"pieces": 1}, ["pieces is 1"]),
        ("copying", {"pieces": 10**8}, ["pieces is 100000000", "10000"]),
        ("copying", {"longest": 10**8}, ["longest 100000000", "10000"]),
        ("facts", {"skew": 10**400}, ["skew is 1000", "from -1000000000 to 1000000000"]),
        ("facts", {"skew": float("nan")}, ["skew is nan"]),
        ("facts", {"fresh_share": float("inf")}, ["fresh_share is inf"]),
        ("copying", {"lookup_share": -0.1}, ["lookup_share is -0.1"]),
    ],
)
def test_a_wrong_world_or_knob_is_refused_in_one_sentence(kind, options, words):
    with pytest.raises(UserError) as caught:
        make_world(kind, options)
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", "?"))
    assert all(word in message for word in words), message


def test_a_whole_number_is_taken_for_a_fraction():
    documents = take("facts", 0, "train", 50, {"statements_share": 1, "fresh_share": 0})
    assert not any(document.startswith("Notes:") for document in documents)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 20), st.integers(0, 10), st.integers(20, 120), st.integers(0, 1000))
def test_a_repeated_segment_is_the_same_text_again(shortest, more, pieces, seed):
    options = {"shortest": shortest, "longest": shortest + more, "pieces": pieces, "lookup_share": 0.0}
    for document in take("copying", seed, "train", 5, options):
        periods = [
            period
            for period in range(1, len(document) // 2 + 1)
            if len(document) % period == 0 and document == document[:period] * (len(document) // period)
        ]
        assert periods


def test_a_table_answers_only_what_it_holds():
    for document in take("copying", 0, "train", 100, {"lookup_share": 1.0}):
        table, _, asked = document.partition("\n\n")
        assert set(asked.split("\n")) <= set(table.split("\n"))
