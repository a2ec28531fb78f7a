"""Corpora of ids that others wrote: every document whole, none on both sides, its bytes those of its text."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora import Corpus, build_corpus, train_tokenizer
from stillroom.corpora.exchange.datatrove import write_datatrove
from stillroom.corpora.exchange.id_documents import IdDocuments
from stillroom.corpora.exchange.megatron import write_megatron
from stillroom.corpora.sources import tokens_source
from stillroom.corpora.sources.source_kinds import source_kind, source_stamps
from stillroom.corpora.tokenizer import save_tokenizer
from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary, encode_documents, token_bytes
from tokenizer_kinds import KEEPS, OPENS_WITH_A_SPACE

pa = pytest.importorskip("pyarrow")
EOS = 1
WORDS = ["the", "cat", "sat", "on", "12", "mats", "naïve", "日本", "don't", "def f(x):", "\n", "return", "x\n"]


def texts(number: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [f"{n} " + " ".join(chance.choices(WORDS, k=chance.randrange(3, 60))) for n in range(number)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> tuple[Any, str]:
    folder = tmp_path_factory.mktemp("tokenizer")
    made = train_tokenizer(texts(300), 400)
    save_tokenizer(made, folder)
    return made, str(folder)


@pytest.fixture(scope="module")
def documents(tokenizer) -> list[list[int]]:
    return encode_documents(tokenizer[0], texts(400))


def in_batches(documents: list[list[int]]) -> IdDocuments:
    marked = [[*one, EOS] for one in documents]
    return IdDocuments(
        np.array([i for one in marked for i in one], np.uint32), np.cumsum([len(one) for one in marked], dtype=np.int64)
    )


def raw(kind: str) -> Callable[[Path, list[list[int]]], Path]:
    def write(folder: Path, documents: list[list[int]]) -> Path:
        in_batches(documents).ids.astype(kind).tofile(folder / "raw.bin")
        return folder / "raw.bin"

    return write


def _megatron(folder: Path, documents: list[list[int]]) -> Path:
    write_megatron(folder / "a.bin", [in_batches(documents)], 400)
    return folder / "a.idx"


def _datatrove(folder: Path, documents: list[list[int]]) -> Path:
    for number in range(3):  # a file is empty of nothing that is in another
        write_datatrove(folder / f"{number}.ds", [in_batches(documents[number::3])], 400, "x")
    return folder


def _olmo(folder: Path, documents: list[list[int]]) -> Path:
    in_batches(documents).ids.astype("<u2").tofile(folder / "part-0.npy")
    return folder / "part-0.npy"


def _numpy(folder: Path, documents: list[list[int]]) -> Path:
    np.save(folder / "a.npy", in_batches(documents).ids.astype(np.int64))
    return folder / "a.npy"


def _parquet(folder: Path, documents: list[list[int]]) -> Path:
    from pyarrow import parquet

    parquet.write_table(pa.table({"input_ids": documents}), folder / "a.parquet", row_group_size=50)
    return folder / "a.parquet"


def _saved_dataset(folder: Path, documents: list[list[int]]) -> Path:
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
    (folder / "dataset_info.json").write_text("{}")
    table = pa.table({"input_ids": documents, "attention_mask": [[1] * len(one) for one in documents]})
    with pa.ipc.new_stream(str(folder / "data-0.arrow"), table.schema) as writer:
        writer.write_table(table, 50)
    return folder


WRITERS: dict[str, tuple[Callable[[Path, list[list[int]]], Path], dict[str, Any]]] = {
    "Megatron": (_megatron, {}),
    "datatrove": (_datatrove, {}),
    "nanoGPT": (raw("<u2"), {}),
    "raw uint32": (raw("<u4"), {"dtype": "uint32"}),
    "raw int64": (raw("<i8"), {"dtype": "int64"}),
    "OLMo": (_olmo, {}),
    "numpy": (_numpy, {}),
    "Parquet": (_parquet, {}),
    "a saved dataset": (_saved_dataset, {}),
}


def config_of(path: Path, tokenizer: str, options: dict[str, Any], **changes: Any) -> CorpusConfig:
    source = SourceConfig(kind="tokens", path=str(path), options=options)
    values: dict[str, Any] = {"sequence_length": 32, "train_tokens": 9_600, "heldout_tokens": 320}
    return CorpusConfig(sources={"given": source}, tokenizer=tokenizer, **(values | changes))


def whole_documents(corpus: Corpus, split: str) -> list[tuple[int, ...]]:
    """The documents that begin and end in a split, without marks."""
    ids = getattr(corpus, split).tokens(range(len(getattr(corpus, split)))).ravel()
    begins = np.flatnonzero(ids == corpus.manifest["bos"]).tolist()
    return [tuple(ids[begin + 1 : end - 1].tolist()) for begin, end in pairwise(begins)]


@pytest.mark.parametrize("format_", WRITERS)
def test_every_format_gives_its_documents_whole_and_on_one_side(format_, tokenizer, documents, tmp_path: Path) -> None:
    write, options = WRITERS[format_]
    (tmp_path / "ids").mkdir()
    path = write(tmp_path / "ids", documents)
    corpus = build_corpus(config_of(path, tokenizer[1], options), tmp_path / "corpus")
    known = set(map(tuple, documents))
    found = {split: whole_documents(corpus, split) for split in ("train", "heldout")}
    assert len(found["train"]) > 150 and len(found["heldout"]) > 1
    for split, ones in found.items():
        assert set(ones) <= known and len(set(ones)) == len(ones), split
    assert not set(found["train"]) & set(found["heldout"])


@pytest.mark.parametrize("format_", WRITERS)
@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_parts_give_every_document_once(format_, size: int, tokenizer, documents, tmp_path: Path) -> None:
    write, options = WRITERS[format_]
    path = write(tmp_path, documents)
    source = SourceConfig(kind="tokens", path=str(path), options=options)
    kind, vocabulary = source_kind("tokens"), Vocabulary.of(tokenizer[0])
    assert kind.parts is not None and kind.ids is not None
    parts = kind.parts(source, 0, size)
    found = [tuple(ids.tolist()) for part in parts for batch in kind.ids(source, part, vocabulary) for ids in batch]
    assert sorted(found) == sorted(map(tuple, documents))
    assert parts == kind.parts(source, 0, size)
    told, real = sum(part.size for part in parts), sum(map(len, documents)) * 4
    assert 0.2 * real < told < 10 * real
    assert any(str(path) in name or name.startswith(str(path)) for name, *_ in source_stamps(source))


def test_a_lying_index_beside_the_ids_is_a_change_of_the_source(tokenizer, documents, tmp_path: Path) -> None:
    source = SourceConfig(kind="tokens", path=str(_megatron(tmp_path, documents)))
    assert sorted(Path(name).name for name, *_ in source_stamps(source)) == ["a.bin", "a.idx"]


def test_ids_and_text_stand_in_one_corpus(tokenizer, documents, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for number, text in enumerate(texts(300, seed=1)):
        (tmp_path / "text" / f"{number}.txt").write_text(text)
    sources = {
        "ids": SourceConfig(kind="tokens", path=str(raw("<u2")(tmp_path, documents)), share=0.5),
        "text": SourceConfig(kind="files", path=str(tmp_path / "text"), share=0.5),
    }
    config = CorpusConfig(
        sources=sources, tokenizer=tokenizer[1], sequence_length=32, train_tokens=6400, heldout_tokens=320
    )
    corpus = build_corpus(config, tmp_path / "corpus")
    assert np.bincount(corpus.train.source).tolist() == [100, 100]


@pytest.mark.parametrize("kind", sorted(OPENS_WITH_A_SPACE | {"byte-level", "byte-level, NFC", "Gemma"}))
def test_the_bytes_of_imported_ids_are_those_of_their_text(kind: str, tmp_path: Path) -> None:
    made = KEEPS[kind]()
    save_tokenizer(made, tmp_path / "tokenizer")
    plain = [text.replace("ï", "i").replace("日本", "cat") for text in texts(300)]
    plain = ["".join(letter for letter in text if letter not in "ABCD678:()") for text in plain]
    ids = encode_documents(made, plain)
    _parquet(tmp_path, ids)
    config = config_of(tmp_path / "a.parquet", str(tmp_path / "tokenizer"), {"check": False}, sequence_length=400,
                       train_tokens=4000, heldout_tokens=800)  # fmt: skip
    heldout = build_corpus(config, tmp_path / "corpus").heldout
    tokens, counted = heldout.tokens(range(len(heldout))).ravel(), heldout.token_bytes(range(len(heldout)))
    bytes_T = token_bytes(made)[tokens] if counted is None else counted.ravel()
    by_ids = {tuple(one): len(text.encode()) for one, text in zip(ids, plain, strict=True)}
    begins = np.flatnonzero(tokens == 1).tolist()
    spans = [(begin, end) for begin, end in pairwise(begins)]
    assert len(spans) > 2
    for begin, end in spans:
        assert bytes_T[begin:end].sum() == by_ids[tuple(tokens[begin + 1 : end - 1].tolist())]


def test_ids_of_another_tokenizer_are_refused_and_taken_where_that_is_said(
    tokenizer, documents, tmp_path: Path
) -> None:
    chance = random.Random(1)
    save_tokenizer(
        train_tokenizer(["".join(chance.choices("abcdefgh ", k=99)) for _ in range(99)], 400), tmp_path / "other"
    )
    path = raw("<u2")(tmp_path, documents)
    with pytest.raises(UserError, match=r"raw\.bin: its first documents, read as text by this tokenizer, give \d+%"):
        build_corpus(config_of(path, str(tmp_path / "other"), {}), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
    build_corpus(config_of(path, str(tmp_path / "other"), {"check": False}), tmp_path / "corpus")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ids that are not there": ({"dtype": "uint32"}, r"raw\.bin: token \d+ is \d+, expected an id below"),
    "half an id": ({"dtype": "int64"}, r"which is no whole number of int64 ids"),
    "an unknown dtype": ({"dtype": "float32"}, r"dtype is 'float32', should be 'uint16', 'uint32', 'int32' or 'int64'"),
    "an unknown option": ({"kind": 1}, r"kind is not a field here"),
    "a negative mark": ({"end": -1}, r"end.*is -1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_options_cannot_mean_is_a_sentence(case: str, tokenizer, documents, tmp_path: Path) -> None:
    options, sentence = REFUSED[case]
    path = raw("<u2")(tmp_path, [*documents, [5] * (1 + -(sum(map(len, documents)) + len(documents)) % 4)])
    with pytest.raises(UserError, match=sentence):
        build_corpus(config_of(path, tokenizer[1], options), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_another_mark_ends_documents_where_it_is_named(tokenizer, documents, tmp_path: Path) -> None:
    mark = 2  # of the padding
    flat = [i for one in documents for i in [*one, mark]]
    np.array(flat, "<u2").tofile(tmp_path / "a.bin")
    with pytest.raises(UserError, match=r"holds no id 0 or 1 among its first \d+, .* set options.end"):
        build_corpus(config_of(tmp_path / "a.bin", tokenizer[1], {"check": False}), tmp_path / "corpus")
    corpus = build_corpus(
        config_of(tmp_path / "a.bin", tokenizer[1], {"end": mark, "check": False}), tmp_path / "corpus"
    )
    assert set(whole_documents(corpus, "train")) <= set(map(tuple, documents))


def test_ids_need_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sources\.given holds ids of a tokenizer; set tokenizer to that one"):
        CorpusConfig(sources={"given": SourceConfig(kind="tokens", path=str(tmp_path))})


def test_a_folder_without_ids_is_told_what_was_expected(tokenizer, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a")
    with pytest.raises(UserError, match=r"holds no file of token ids by its name; expected names that end in \.bin"):
        build_corpus(config_of(tmp_path, tokenizer[1], {}), tmp_path / "corpus")


def test_a_file_is_opened_once_for_all_of_its_parts(tokenizer, documents, tmp_path: Path, monkeypatch) -> None:
    opened: list[Path] = []
    real = tokens_source.open_megatron
    monkeypatch.setattr(tokens_source, "open_megatron", lambda path: opened.append(path) or real(path))
    build_corpus(config_of(_megatron(tmp_path, documents), tokenizer[1], {}), tmp_path / "corpus")
    assert len(opened) == 1


def test_a_document_is_on_one_side_whether_it_comes_as_text_or_as_ids(tokenizer, documents, tmp_path: Path) -> None:
    own, place = tokenizer
    (tmp_path / "ids").mkdir()
    (tmp_path / "texts").mkdir()
    texts = [own.decode(ids) for ids in documents]
    for number, text in enumerate(texts):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    ids = config_of(_megatron(tmp_path / "ids", encode_documents(own, texts)), place, {})
    given = {**ids.sources, "said": SourceConfig(kind="files", path=str(tmp_path / "texts"), max_document_chars=10**5)}
    sides = {}
    for name, source in given.items():
        corpus = build_corpus(ids.model_copy(update={"sources": {name: source}}), tmp_path / f"corpus-{name}")
        sides[name] = {split: set(whole_documents(corpus, split)) for split in ("train", "heldout")}
    assert sides["said"]["heldout"] and sides["given"]["heldout"]
    for split, other in (("train", "heldout"), ("heldout", "train")):
        assert not sides["said"][split] & sides["given"][other]
