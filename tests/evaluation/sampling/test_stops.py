"""Stop texts in every kind of vocabulary: special tokens, parts of tokens, and texts spread over several."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.vocabulary import Vocabulary, encode
from tokenizer_kinds import KEEPS

VOCABULARIES = {kind: Vocabulary.of(make()) for kind, make in KEEPS.items()}
TOKENIZERS = {kind: make() for kind, make in KEEPS.items()}
STOPS = ["<|im_end|>", "\n", "the", " c", "d|>", "t<|", "at\n", "</s>", "é", "<|im_end|> the", ""]


@pytest.mark.parametrize("kind", list(KEEPS))
def test_a_special_token_ends_a_completion_and_is_no_part_of_it(kind: str) -> None:
    tokenizer, pieces = TOKENIZERS[kind], VOCABULARIES[kind].pieces
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    stops = StopTexts(("<|im_end|>",), pieces)
    assert stops.watch(1).ended([0], [end]) == [True]
    (ids,) = encode(tokenizer, ["the cat"])
    watch = stops.watch(2)
    assert [watch.ended([0, 1], [i, i]) for i in ids] == [[False, False]] * len(ids)
    assert watch.ended([1, 0], [end, ids[0]]) == [True, False]
    assert stops.text([*ids, end]) == "the cat"
    assert stops.text([*ids, end, *ids]) == "the cat"
    assert stops.ids == (end,)


@pytest.mark.parametrize("kind", list(KEEPS))
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_completion_ends_where_a_stop_text_is_complete(kind: str, data: st.DataObject) -> None:
    """As looking through the whole of what was written, with special tokens spelt out, says after every token."""
    tokenizer, vocabulary = TOKENIZERS[kind], VOCABULARIES[kind]
    letters = encode(tokenizer, ["the cat\n t d 12 é,"])[0]
    special = tokenizer.convert_tokens_to_ids(["<|im_end|>", "</s>", "<unk>"])
    names = dict(zip(special, ["<|im_end|>", "</s>", "<unk>"], strict=True))
    beyond = len(vocabulary.pieces) + 7
    ids = data.draw(st.lists(st.sampled_from([*letters, *special, beyond]), max_size=12))
    stops = tuple(data.draw(st.lists(st.sampled_from(STOPS), max_size=3)))
    watched = StopTexts(stops, vocabulary.pieces)
    watch = watched.watch(1)
    written = b""
    for i in ids:
        piece = b"" if i == beyond else vocabulary.pieces[i]
        written += names[i].encode() if i in names else piece
        expected = any(stop.encode() in written for stop in stops if stop)
        assert watch.ended([0], [i]) == [expected]
        if expected:
            break
    text = watched.text(ids)
    if not any(i in names for i in ids):
        assert text == watched.cut(vocabulary.text(ids))
        assert not any(stop in text for stop in stops if stop)


def test_text_before_a_stop_is_kept_to_the_byte_and_special_names_are_not_text() -> None:
    tokenizer, vocabulary = TOKENIZERS["byte-level"], VOCABULARIES["byte-level"]
    (ids,) = encode(tokenizer, ["12 é the cat"])
    end, close = tokenizer.convert_tokens_to_ids(["<|im_end|>", "</s>"])
    assert StopTexts(("e c",), vocabulary.pieces).text(ids) == "12 é th"
    assert StopTexts(("t<|im",), vocabulary.pieces).text([*ids, end, *ids]) == "12 é the ca"
    assert StopTexts(("end|>1",), vocabulary.pieces).text([*ids, end, *ids]) == "12 é the cat"
    assert StopTexts(("nothing",), vocabulary.pieces).text([*ids, end, *ids]) == "12 é the cat12 é the cat"
    assert StopTexts(("nothing",), vocabulary.pieces).text([*ids, close, *ids], eos=close) == "12 é the cat"
    assert StopTexts(("\ufffd",), vocabulary.pieces).text([ids[3]]) in ("\ufffd", " ", "é")
