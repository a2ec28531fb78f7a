"""Bytes behind token ids: they sum to the text's, and lines end where they should."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from stillroom.evaluation import Vocabulary, token_bytes
from stillroom.evaluation.vocabulary import encode

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
