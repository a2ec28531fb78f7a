"""Labels are bound to token ids: whoever's file these come from or go to, a store finds its sequences there."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from stillroom.config import CorpusConfig, LabelsConfig, ModelConfig, SourceConfig
from stillroom.corpora import Corpus, build_corpus, train_tokenizer
from stillroom.corpora.exchange.datatrove import open_datatrove, write_datatrove
from stillroom.corpora.exchange.exporting import export_corpus
from stillroom.corpora.exchange.id_documents import IdDocuments
from stillroom.corpora.exchange.megatron import open_megatron, write_megatron
from stillroom.corpora.tokenizer import save_tokenizer
from stillroom.labels import LabelStore, label
from stillroom.models import build_model
from stillroom.study.label_stage import identity_in
from stillroom.teachers import ModelScores
from stillroom.types import UserError
from stillroom.vocabulary import encode_documents

LENGTH = 32


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    """The same ids as a corpus imported from ``.bin`` and from ``.ds``."""
    folder, chance = tmp_path_factory.mktemp("ids"), random.Random(0)
    texts = [f"{n} " + " ".join(chance.choices(["the", "cat", "sat", "on", "12", "mats"], k=20)) for n in range(160)]
    tokenizer = train_tokenizer(texts, 300)
    save_tokenizer(tokenizer, folder / "tokenizer")
    ends = [[*one, 1] for one in encode_documents(tokenizer, texts)]
    ids = IdDocuments(np.concatenate(ends).astype(np.uint32), np.cumsum([len(one) for one in ends], dtype=np.int64))
    write_megatron(folder / "a.bin", [ids], 300)
    write_datatrove(folder / "a.ds", [ids], 300, "x")
    made: dict[str, Any] = {}
    for name in ("a.bin", "a.ds"):
        sources = {"given": SourceConfig(kind="tokens", path=str(folder / name))}
        sizes: dict[str, Any] = {"sequence_length": LENGTH, "train_tokens": 2048, "heldout_tokens": 64}
        config = CorpusConfig(sources=sources, tokenizer=str(folder / "tokenizer"), **sizes)
        made[name] = build_corpus(config, folder / f"corpus-{name}")
    return made


@pytest.fixture(scope="module")
def bound(imported: dict[str, Corpus], tmp_path_factory: pytest.TempPathFactory) -> LabelStore:
    """A store over the corpus of the ``.bin``."""
    corpus, folder = imported["a.bin"], tmp_path_factory.mktemp("bound") / "labels"
    shape = ModelConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2)
    scores = ModelScores(build_model(shape, corpus.vocab_size, seed=0).eval(), corpus.vocab_size, precision="fp32")
    label(scores, corpus.train, LabelsConfig(num_samples=8), folder, identity=identity_in(corpus, "t"))
    return LabelStore.open(folder)


@pytest.mark.parametrize("name", ["a.bin", "a.ds"])
def test_a_store_finds_every_sequence_of_a_corpus_of_the_same_ids(name: str, imported, bound) -> None:
    corpus = imported[name]
    assert bound.lookup(corpus.train.batch(range(len(corpus.train))).tokens_BT).ids.shape[0] == len(corpus.train)
    assert bound.manifest.identity["tokenizer"] == corpus.manifest["tokenizer_hash"]


@pytest.mark.parametrize("kind", ["megatron", "datatrove"])
def test_a_store_finds_the_windows_of_what_its_corpus_is_exported_to(kind: Any, imported, bound, tmp_path) -> None:
    export_corpus(imported["a.bin"], tmp_path / "out", kind)
    place = tmp_path / "out/train/given"
    megatron = kind == "megatron"
    file = open_megatron(place / "tokens.bin") if megatron else open_datatrove(place / "tokens.ds", np.dtype("<u2"))
    whole = len(file.ids) // LENGTH * LENGTH  # a document of which the corpus holds only the mark is left out
    windows = torch.from_numpy(np.asarray(file.ids[:whole], np.int64)).view(-1, LENGTH)
    assert len(windows) >= len(imported["a.bin"].train) - 1 and bound.lookup(windows).entropy.shape == windows.shape
    with pytest.raises(UserError, match="has no labels for the sequence"):  # as a reader at another place would ask
        bound.lookup(windows.flatten()[1 : 1 + LENGTH][None])
