"""A live teacher gives what its store gives, wherever it is, and never becomes part of a student."""

from __future__ import annotations

import pytest
import torch

from stillroom.config import LabelsConfig
from stillroom.labels import LabelStore, label
from stillroom.teachers import ExactScores, LiveLabels, ModelScores
from stillroom.types import Batch, SoftLabels, UserError
from tiny_labels import IDENTITY, VOCAB, TinySequences, contents, make, scores_of, tiny_teacher


def dense(labels: SoftLabels) -> torch.Tensor:
    return torch.zeros(*labels.ids.shape[:2], VOCAB).scatter_add(2, labels.ids, labels.weights)


@pytest.mark.parametrize("codec", ["sampled", "top-k"])
def test_stored_is_live(teacher, corpus, tmp_path, codec):
    make(teacher, corpus, tmp_path / "labels", codec=codec, k=VOCAB)
    batch = corpus.batch([4, 11])
    stored = LabelStore.open(tmp_path / "labels").labels(batch)
    live = LiveLabels(ModelScores(teacher, VOCAB, precision="fp32"), LabelsConfig(codec=codec, k=VOCAB)).labels(batch)
    assert torch.equal(stored.gold_rank, live.gold_rank)
    assert torch.allclose(dense(stored), dense(live), atol=1e-6 if codec == "sampled" else 0.05)


def test_a_teacher_is_never_trained_and_never_in_train_mode(teacher, corpus):
    model = tiny_teacher().train()
    live = LiveLabels(ModelScores(model, VOCAB), LabelsConfig())

    class Student(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = torch.nn.Linear(2, 2)
            self.teacher = live

    assert {name for name, _ in Student().named_parameters()} == {"own.weight", "own.bias"}
    labels = live.labels(corpus.batch([0]))
    assert not model.training
    assert not labels.weights.requires_grad


def test_documents_are_isolated_for_the_teacher(teacher, corpus):
    batch = corpus.batch([1])
    changed = batch.tokens_BT.clone()
    boundary = int((batch.document_BT[0] > 0).nonzero()[0])
    changed[0, 1:boundary] = (changed[0, 1:boundary] + 1) % 59 + 1
    other = Batch(changed, batch.targets_BT, batch.document_BT)
    live = LiveLabels(ModelScores(teacher, VOCAB, precision="fp32"), LabelsConfig(codec="top-k", k=VOCAB))
    first, second = (live.labels(one).entropy[0, boundary:] for one in (batch, other))
    assert boundary < corpus.sequence_length and torch.allclose(first, second, atol=1e-5)
    mixed = LiveLabels(ModelScores(teacher, VOCAB, False, "fp32"), LabelsConfig(codec="top-k", k=VOCAB))
    assert not torch.allclose(mixed.labels(batch).entropy[0, boundary:], first, atol=1e-3)


def test_padding_of_the_vocabulary_gets_no_mass(teacher, corpus):
    cut = 200
    batch = corpus.batch([0])
    labels = LiveLabels(ModelScores(teacher, cut, precision="fp32"), LabelsConfig(codec="top-k", k=cut)).labels(batch)
    assert int(labels.ids.max()) < cut
    assert torch.allclose(labels.weights.sum(-1), torch.ones(1, corpus.sequence_length), atol=1e-4)


def test_a_tokenizer_that_is_smaller_than_the_tokens_is_refused(teacher, corpus, tmp_path):
    with pytest.raises(UserError, match=r"token id 59 found but the tokenizer has 50 tokens"):
        label(
            scores_of(teacher),
            corpus,
            LabelsConfig(),
            tmp_path / "labels",
            identity={**IDENTITY, "vocab_size": 50},
        )


def bigram(batch: Batch) -> torch.Tensor:
    """A process in which the next token depends on the current one, as scores over the vocabulary."""
    tables = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)).mul(2)
    return torch.log_softmax(tables, -1)[batch.tokens_BT]


def test_an_exact_teacher_labels_live_and_into_a_store(corpus, tmp_path):
    config = LabelsConfig(codec="top-k", k=VOCAB, shard_sequences=8)
    live = LiveLabels(ExactScores(bigram), config).labels(corpus.batch([3]))
    assert torch.allclose(dense(live), bigram(corpus.batch([3])).exp(), atol=1e-6)
    label(ExactScores(bigram), corpus, config, tmp_path / "labels", identity=IDENTITY)
    stored = LabelStore.open(tmp_path / "labels").labels(corpus.batch([3]))
    assert torch.allclose(stored.entropy, live.entropy, atol=0.02)


def test_batches_of_another_size_read_the_same_store(teacher, corpus, made):
    store = LabelStore.open(made)
    everything = dense(store.lookup(corpus.batch(range(24)).tokens_BT))
    for size in (1, 5, 7):
        for start in range(0, 24, size):
            numbers = range(start, min(start + size, 24))
            assert torch.equal(dense(store.lookup(corpus.batch(numbers).tokens_BT)), everything[start : start + size])


def test_a_corpus_that_holds_the_sequences_among_others_reads_the_same_store(made, corpus):
    store = LabelStore.open(made)
    strangers = TinySequences(seed=9).batch(range(4)).tokens_BT
    mixed = [*corpus.batch([2, 9]).tokens_BT, *strangers]
    assert [one in store for one in mixed] == [True, True, False, False, False, False]


def test_the_same_labels_whatever_the_order_of_labelling(teacher, made, tmp_path):
    class Reversed(TinySequences):
        def _one(self, index: int) -> torch.Tensor:
            return super()._one(self.count - 1 - index)

    make(teacher, Reversed(), tmp_path / "labels")
    tokens = TinySequences().batch(range(24)).tokens_BT
    first, second = (LabelStore.open(folder).lookup(tokens) for folder in (made, tmp_path / "labels"))
    assert torch.equal(dense(first), dense(second))
    assert contents(made) != contents(tmp_path / "labels")
