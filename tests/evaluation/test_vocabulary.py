"""Bytes behind token ids: they sum to the text's, and lines end where they should."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary, encode, encode_documents, token_bytes
from tokenizer_kinds import KEEPS, KNOWS_LETTERS_ALONE, LOSES

MADE = {kind: (made := make(), Vocabulary.of(made)) for kind, make in KEEPS.items()}
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
shared = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(any_text)
@shared
def test_bytes_of_the_tokens_sum_to_the_bytes_of_the_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    lengths_V = token_bytes(tokenizer)
    assert lengths_V[encode(tokenizer, [text])[0]].sum() == len(text.encode())


@given(any_text)
@shared
def test_a_line_is_the_text_up_to_its_first_newline(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert Vocabulary.of(tokenizer).line(encode(tokenizer, [text])[0]) == text.split("\n")[0]


def test_special_tokens_have_no_bytes_and_end_lines_where_they_should(tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = Vocabulary.of(tokenizer)
    assert token_bytes(tokenizer)[:3].tolist() == [0, 0, 0]
    assert vocabulary.start == [0]
    ends = set(vocabulary.line_ends)
    assert 1 in ends and 0 not in ends
    assert ends - {1} == {i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])}
    cat, dog = encode(tokenizer, ["cat", "dog"])
    assert vocabulary.line([*cat, 1, *dog]) == "cat"


def test_half_a_letter_does_not_break_a_line(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = encode(tokenizer, ["日"])[0]
    assert len(ids) > 1
    assert Vocabulary.of(tokenizer).line(ids[:1]) == "\ufffd"


def test_pieces_of_another_kind_of_tokenizer() -> None:
    pieces = {"<s>": 0, "▁the": 1, "é": 2, "<0x0A>": 3, "▁": 4}
    backend = Tokenizer(BPE(vocab=pieces, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")
    vocabulary = Vocabulary.of(fast)
    assert vocabulary.pieces == (b"", b" the", "é".encode(), b"\n", b" ")
    assert vocabulary.line_ends == (3,)
    assert vocabulary.eos is None


@pytest.mark.parametrize("texts", [[], ["", "a"]])
def test_encode_adds_nothing(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> None:
    assert [tokenizer.decode(ids) for ids in encode(tokenizer, texts)] == texts


@pytest.mark.parametrize("kind", list(KEEPS))
@given(st.text(st.sampled_from("the cat sat 12é=\n\t ,.'"), max_size=40))
@settings(deadline=None, max_examples=40)
def test_every_kind_that_keeps_text_gives_it_back_to_the_byte(kind: str, text: str) -> None:
    """As a part of a document, which has no space put before it, and as a whole one."""
    tokenizer, vocabulary = MADE[kind]
    composed = "NFD" not in kind or "é" not in text
    (ids,) = encode(tokenizer, [text])
    if composed:
        assert vocabulary.byte_lengths_V[ids].sum() == len(text.encode())
        assert vocabulary.text(ids) == text and vocabulary.line(ids) == text.split("\n")[0]
    (whole,) = encode_documents(tokenizer, [text])
    assert whole == tokenizer(text, add_special_tokens=False)["input_ids"]
    counted = vocabulary.bytes_of(tokenizer, text, whole)
    assert counted is not None and counted.sum() == len(text.encode()) and (counted >= 0).all()


@pytest.mark.parametrize("kind", [kind for kind in KEEPS if kind not in KNOWS_LETTERS_ALONE])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(deadline=None, max_examples=40)
def test_any_text_is_counted_to_the_byte_or_not_at_all(kind: str, text: str) -> None:
    tokenizer, vocabulary = MADE[kind]
    (ids,) = encode_documents(tokenizer, [text])
    counted = vocabulary.bytes_of(tokenizer, text, ids)
    assert counted is None or counted.sum() == len(text.encode())
    if not kind.startswith("unigram") and "\0" not in text:  # whose model may take the name of a special token for it
        assert counted is not None


@pytest.mark.parametrize("kind", list(LOSES))
def test_a_vocabulary_that_loses_text_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match=r"^tokenizer: .*; "):
        Vocabulary.of(LOSES[kind]())


@pytest.mark.parametrize("kind", list(KEEPS))
def test_lines_end_at_newlines_and_documents_at_eos_in_every_kind(kind: str) -> None:
    tokenizer, vocabulary = MADE[kind]
    assert vocabulary.eos == 2 and vocabulary.start == [1] and vocabulary.document_ends == (2,)
    newline = encode(tokenizer, ["a\n"])[0][-1]
    assert newline in vocabulary.line_ends
    cat = encode(tokenizer, ["cat"])[0]
    assert vocabulary.line([*cat, newline, *cat]) == vocabulary.line([*cat, 2, *cat]) == "cat"
    assert vocabulary.text([*cat, len(vocabulary.pieces) + 100]) == "cat"  # a row beyond the tokenizer's


def test_text_that_spells_a_special_token_stays_text(tokenizer: PreTrainedTokenizerFast) -> None:
    (ids,) = encode(tokenizer, ["<|eos|>"])
    assert 1 not in ids and Vocabulary.of(tokenizer).text(ids) == "<|eos|>"


def test_the_library_says_what_the_pieces_say() -> None:
    """Ids of a text in the middle of a document, decoded by the tokenizer itself after a letter."""
    for kind, (tokenizer, vocabulary) in MADE.items():
        if kind in ("unigram with bytes", "word ends"):  # whose decoders know no bytes, or no ends
            continue
        ids = encode(tokenizer, ["a"])[0] + encode(tokenizer, ["the  cat\n 12"])[0]
        assert tokenizer.decode(ids) == vocabulary.text(ids), kind
