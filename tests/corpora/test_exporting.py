"""A corpus as files of other software, read back by us and by their own readers."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillroom.corpora import Corpus
from stillroom.corpora.corpus import SequenceSet
from stillroom.corpora.exchange import exporting
from stillroom.corpora.exchange.datatrove import open_datatrove
from stillroom.corpora.exchange.exporting import export_corpus
from stillroom.corpora.exchange.megatron import open_megatron
from stillroom.types import UserError

BOS, EOS = 0, 1
U16 = np.dtype("<u2")


def sequences(stream: list[int], length: int, bos: int, eos: int) -> SequenceSet:
    rows = np.array(stream, np.uint16)[: len(stream) // length * length].reshape(-1, length)
    none = np.zeros(len(rows), np.uint32)
    return SequenceSet((rows,), none.astype(np.uint8), none, bos, len(rows), eos)


@pytest.mark.parametrize("at_once", [1, 6, 1 << 20])
@pytest.mark.parametrize(
    ("bos", "eos", "stream", "wanted"),
    [
        (0, 1, [0, 5, 6, 1, 0, 7, 1, 0, 8, 9, 9, 9, 9, 1, 0], [[0, 5, 6, 1], [0, 7, 1], [0, 8, 9, 9, 9, 9, 1]]),
        (0, 0, [0, 5, 6, 0, 7, 0, 8, 9, 9, 9, 9, 0], [[5, 6, 0], [7, 0], [8, 9, 9, 9, 9, 0]]),
        (0, 1, [6, 1, 0, 7, 1, 0, 8, 9, 9], [[6, 1], [0, 7, 1], [0, 8, 9, 9]]),
    ],
    ids=["two marks", "one mark", "cut at both ends"],
)
def test_documents_are_whole_across_sequences(bos, eos, stream, wanted, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "TOKENS_AT_ONCE", at_once)
    found = exporting._documents(sequences(stream, 3, bos, eos), 0, whole=False)
    assert [part.tolist() for one in found for part in one] == wanted


@pytest.mark.parametrize("at_once", [1, 8, 1 << 20])
def test_documents_that_were_fitted_into_sequences_do_not_run_on(at_once: int, monkeypatch) -> None:
    """A sequence that is full, one that is the rest of a longer document, and padding, which is no document."""
    monkeypatch.setattr(exporting, "TOKENS_AT_ONCE", at_once)
    stream = [0, 5, 6, 7, 0, 8, 1, 0, 9, 1, 0, 0, 0, 4, 1, 0]
    found = exporting._documents(sequences(stream, 4, 0, 1), 0, whole=True)
    assert [part.tolist() for one in found for part in one] == [[0, 5, 6, 7], [0, 8, 1], [9, 1], [0, 4, 1]]


def documents_of(corpus: Corpus, split: str, source: str) -> list[list[int]]:
    """The documents that a split has of a source, read off its sequences."""
    part: SequenceSet = getattr(corpus, split)
    rows = np.flatnonzero(part.source == corpus.source_names.index(source))
    ids = part.tokens(rows.tolist()).ravel()
    cuts = [0, *np.flatnonzero(ids == corpus.manifest["bos"]).tolist(), len(ids)]
    return [ids[start:stop].tolist() for start, stop in pairwise(sorted(set(cuts))) if stop - start > 1]


@pytest.mark.parametrize("kind", ["megatron", "datatrove"])
def test_an_exported_corpus_holds_the_documents_of_every_split_and_source(
    kind: Any, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    written = export_corpus(tiny_corpus, tmp_path / "out", kind, lambda done, total: told.append((done, total)))
    total = 0
    for split in ("train", "heldout"):
        for name in tiny_corpus.source_names:
            place = tmp_path / "out" / split / name
            opened = (
                open_megatron(place / "tokens.bin") if kind == "megatron" else open_datatrove(place / "tokens.ds", U16)
            )
            assert opened.bounds is not None
            bounds = opened.bounds(0, opened.num_documents).tolist()
            found = [opened.ids[start:stop].tolist() for start, stop in pairwise(bounds)]
            assert found == documents_of(tiny_corpus, split, name)
            total += len(opened.ids)
    assert total == written == told[-1][0] <= told[-1][1]
    assert (tmp_path / "out" / "tokenizer" / "tokenizer.json").is_file()


def test_a_folder_that_holds_something_is_not_written_over(tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="is there already; name a folder that is new or empty"):
        export_corpus(tiny_corpus, tmp_path, "megatron")


@pytest.mark.real
def test_megatron_reads_what_is_exported(tiny_corpus: Corpus, tmp_path: Path) -> None:
    reader = _peer("megatron.core.datasets.indexed_dataset").IndexedDataset
    export_corpus(tiny_corpus, tmp_path / "out", "megatron")
    for split in ("train", "heldout"):
        for name in tiny_corpus.source_names:
            read = reader(str(tmp_path / "out" / split / name / "tokens"))
            documents = documents_of(tiny_corpus, split, name)
            assert [read[number].tolist() for number in range(len(read))] == documents
            assert read.document_indices.tolist() == list(range(len(documents) + 1))


@pytest.mark.real
def test_datatrove_reads_what_is_exported(tiny_corpus: Corpus, tmp_path: Path) -> None:
    reader = _peer("datatrove.utils.dataset").DatatroveFileDataset
    export_corpus(tiny_corpus, tmp_path / "out", "datatrove")
    for split in ("train", "heldout"):
        for name in tiny_corpus.source_names:
            file = tmp_path / "out" / split / name / "tokens.ds"
            read = reader(str(file), seq_len=31, token_size=2, return_positions=True)
            windows = [read[number] for number in range(len(read))]
            ids = np.concatenate([one["input_ids"].numpy() for one in windows])
            documents = documents_of(tiny_corpus, split, name)
            assert ids.tolist() == [i for document in documents for i in document][: len(ids)] and len(ids) >= 32
            lengths = [len(document) for document in documents]
            places = np.concatenate([np.arange(length) for length in lengths])[: len(ids)]
            begins = np.concatenate([one["positions"].numpy() for one in windows]) == 0
            inside = np.arange(len(ids)) % 32 != 0  # every window begins at 0 there
            assert (begins == (places == 0))[inside].all()


@pytest.mark.real
@pytest.mark.parametrize("size", [2, 4])
def test_what_datatrove_writes_is_read(size: int, tmp_path: Path) -> None:
    documents = [[5, 6, EOS], [7, EOS], [300 if size == 2 else 70_000, EOS]]
    written = _peer("datatrove.pipeline.tokens.tokenizer").TokenizedFile(
        str(tmp_path), "a.ds", token_size=size, save_final_metadata=True, tokenizer_name_or_path="some/tokenizer"
    )
    for document in documents:
        written.write(document, None)
    written.close()
    indexed = _peer("datatrove.pipeline.tokens.megatron_tokenizer").MegatronTokenizedFile(
        str(tmp_path), "a", token_size=size
    )
    for document in documents:
        indexed.write(document)
    indexed.close()
    for opened in (open_datatrove(tmp_path / "a.ds", U16), open_megatron(tmp_path / "a.bin")):
        found = [part.tolist() for one in opened.indexed(0, 3, (EOS,)) for part in one]
        assert found == [document[:-1] for document in documents]


@pytest.mark.real
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "int64"])
def test_what_megatron_writes_is_read(kind: str, tmp_path: Path) -> None:
    builder = _peer("megatron.core.datasets.indexed_dataset").IndexedDatasetBuilder(
        str(tmp_path / "a.bin"), dtype=getattr(np, kind)
    )
    builder.add_document(np.array([5, 6, 7, 8, EOS]), [2, 3])  # two sequences, one document
    builder.add_document(np.array([9, EOS]), [2])
    builder.finalize(str(tmp_path / "a.idx"))
    found = open_megatron(tmp_path / "a.bin").indexed(0, 2, (EOS,))
    assert [part.tolist() for one in found for part in one] == [[5, 6, 7, 8], [9]]


def _peer(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)
