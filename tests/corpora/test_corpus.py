"""From text to batches: isolation, the shift by one, splits that do not meet, determinism, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora import (
    BOS,
    EOS,
    build_corpus,
    corpus_identity,
    documents,
    next_token_targets,
    open_corpus,
    train_tokenizer,
)
from stillroom.corpora.corpus import make_batch
from stillroom.types import IGNORE_INDEX, UserError


def test_targets_never_cross_a_document():
    tokens = torch.tensor([[7, 8, EOS, BOS, 9, EOS, BOS, 5]])
    batch = make_batch(tokens, BOS)
    assert batch.document_BT.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]
    assert batch.targets_BT.tolist() == [[8, EOS, IGNORE_INDEX, 9, EOS, IGNORE_INDEX, 5, IGNORE_INDEX]]


def test_one_mark_for_both_ends_closes_a_document_and_opens_the_next():
    batch = make_batch(torch.tensor([[BOS, 7, 8, BOS, 9, BOS, 5, 6]]), BOS, BOS)
    assert batch.document_BT.tolist() == [[1, 1, 1, 2, 2, 3, 3, 3]]
    assert batch.targets_BT.tolist() == [[7, 8, BOS, 9, BOS, 5, 6, IGNORE_INDEX]]


def test_text_that_spells_a_mark_does_not_become_one(tmp_path):
    folder = write_files(tmp_path / "texts", text="see <|eos|> and <|bos|> here. " * 40)
    corpus = build_corpus(files_corpus(folder), tmp_path / "corpus")
    tokens = corpus.train.tokens(range(len(corpus.train)))
    documents_begun = (tokens == BOS).sum()
    assert 0 < documents_begun < 3 * tokens.size / len("see <|eos|> and <|bos|> here.")
    assert "<|eos|> and <|bos|>" in corpus.tokenizer.decode(tokens.reshape(-1)[:60])


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40))
def test_a_target_is_the_next_token_of_the_same_document_or_ignored(row):
    tokens = torch.tensor([row])
    document = torch.cumsum(tokens == BOS, dim=1, dtype=torch.int32)
    targets = next_token_targets(tokens, document)[0].tolist()
    for place, target in enumerate(targets):
        inside = place + 1 < len(row) and document[0, place] == document[0, place + 1]
        assert target == (row[place + 1] if inside else IGNORE_INDEX)


def test_a_corpus_is_the_same_when_built_again(tiny_corpus, tiny_corpus_config, tmp_path):
    again = build_corpus(tiny_corpus_config, tmp_path / "again")
    assert again.manifest == tiny_corpus.manifest
    for split in ("train", "heldout"):
        ours, theirs = getattr(tiny_corpus, split), getattr(again, split)
        assert (ours.tokens(range(len(ours))) == theirs.tokens(range(len(theirs)))).all()
        assert (ours.source == theirs.source).all()


def test_every_first_part_is_true_to_the_shares(tiny_corpus):
    source = tiny_corpus.train.source
    for size in (40, 100, len(source)):
        shares = np.bincount(source[:size], minlength=4) / size
        assert np.abs(shares - [0.5, 0.2, 0.2, 0.1]).max() <= 2 / size


def test_arms_share_the_first_sequences(tiny_corpus):
    short, long = tiny_corpus.train.first(6_400), tiny_corpus.train.first(12_800)
    assert len(short) == 100 and len(long) == 200
    assert (short.tokens(range(100)) == long.tokens(range(100))).all()
    with pytest.raises(UserError, match="train_tokens"):
        tiny_corpus.train.first(10**9)


def test_ids_fit_the_vocabulary_and_text_comes_back(tiny_corpus):
    tokens = tiny_corpus.train.tokens(range(len(tiny_corpus.train)))
    assert tokens.min() >= 0 and tokens.max() < tiny_corpus.vocab_size
    text = "def f(x):\n    return x + 1234  # café ☕\n"
    ids = tiny_corpus.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tiny_corpus.tokenizer.decode(ids) == text


def test_digits_stand_alone():
    tokenizer = train_tokenizer(["12345 12345 12345 12345"] * 50, 300)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("12345", add_special_tokens=False)["input_ids"])
    assert pieces == list("12345")


@pytest.mark.parametrize("kind", ["python-library", "facts", "problems", "copying"])
def test_no_document_is_in_both_splits(kind):
    source = SourceConfig(kind=kind)

    def some(split):
        return {text for text, _ in zip(documents(source, 0, split), range(300), strict=False) if len(text) > 60}

    assert some("train") and not some("train") & some("heldout")


def write_files(folder, count=30, text="some words, and more of them. " * 40):
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"file {number}\n{text}")
    return folder


def files_corpus(path, **changes):
    values = {"vocab_size": 300, "sequence_length": 16, "train_tokens": 640, "heldout_tokens": 64}
    return CorpusConfig(sources={"mine": SourceConfig(kind="files", path=str(path))}, **(values | changes))


def test_own_files_become_a_corpus_and_their_content_its_identity(tmp_path):
    folder = write_files(tmp_path / "texts")
    config = files_corpus(folder)
    corpus = build_corpus(config, tmp_path / "corpus")
    assert len(corpus.train) == 40 and corpus.source_names == ["mine"]
    before = corpus_identity(config)
    (folder / "3.txt").write_text("changed")
    assert corpus_identity(config) != before


def test_one_file_holds_out_its_end(tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("\n".join(f"line {number} of a long text" for number in range(4000)))
    source = SourceConfig(kind="files", path=str(file), max_document_chars=1000)
    train, heldout = set(documents(source, 0, "train")), set(documents(source, 0, "heldout"))
    assert len(heldout) >= 1 and not train & heldout
    assert sum(map(len, train | heldout)) == len(file.read_text())


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: folder / "missing", "no such file or folder"),
        (lambda folder: folder, "holds no file that matches"),
        (lambda folder: _file(folder / "b.bin", b"ab\0cd" * 100), "is binary"),
        (lambda folder: _file(folder / "l.txt", "é".encode("latin-1") * 100), "is not UTF-8 at byte 0"),
        (lambda folder: _file(folder / "e.txt", b""), "holds no text"),
        (lambda folder: _file(folder / "s.txt", b"short"), "holds"),
    ],
)
def test_bad_paths_end_in_one_sentence_and_leave_nothing(tmp_path, prepare, words):
    texts = tmp_path / "texts"
    texts.mkdir()
    path = prepare(texts)
    with pytest.raises(UserError, match=words) as error:
        config = files_corpus(path)
        corpus_identity(config)
        build_corpus(config, tmp_path / "out" / "corpus")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "corpus").exists()
    assert not list((tmp_path / "out").iterdir() if (tmp_path / "out").exists() else [])


def _file(path, data):
    path.write_bytes(data)
    return path


def test_a_source_that_ends_early_is_named(tmp_path):
    folder = write_files(tmp_path / "texts")
    with pytest.raises(UserError, match=r"corpus\.sources\.mine: holds \d+ train tokens"):
        build_corpus(files_corpus(folder, train_tokens=10**7), tmp_path / "corpus")


def test_an_unknown_option_of_a_world_is_refused(tmp_path):
    config = CorpusConfig(sources={"f": SourceConfig(kind="facts", options={"entitees": 3})})
    with pytest.raises(UserError, match="entitees"):
        corpus_identity(config)


def test_a_newer_corpus_is_refused(tmp_path, tiny_corpus):
    (tmp_path / "corpus.json").write_text('{"schema": 99}')
    with pytest.raises(UserError, match="schema 99 is newer"):
        open_corpus(tmp_path)
