"""A store gives back what the teacher said, for any sequences that were labelled, in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from stillroom.config import LabelsConfig
from stillroom.labels import LabelStore, label_part
from stillroom.models import hidden_states, unembedding
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError
from tiny_labels import IDENTITY, VOCAB, TinySequences, contents, make, scores_of


def dense(labels: SoftLabels) -> torch.Tensor:
    """Weights over the whole vocabulary, (B, T, V)."""
    shape = (*labels.ids.shape[:2], VOCAB)
    return torch.zeros(shape).scatter_add(2, labels.ids, labels.weights)


def live_log_probs(teacher: PreTrainedModel, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        hidden = hidden_states(teacher, batch)
        return torch.log_softmax(hidden @ unembedding(teacher)[0].T, -1)


def test_sampled_weights_are_within_one_count_of_the_teachers(teacher, corpus, made):
    batch = corpus.batch([3, 17, 8])
    labels = LabelStore.open(made).lookup(batch.tokens_BT)
    exact = live_log_probs(teacher, batch).exp()
    assert torch.allclose(labels.weights.sum(-1), torch.ones(3, corpus.sequence_length))
    assert ((dense(labels) - exact).abs() < 1 / 50 + 1e-5).all()


def test_side_columns_are_of_the_full_distribution(teacher, corpus, made):
    batch = corpus.batch([0, 9])
    labels = LabelStore.open(made).lookup(batch.tokens_BT)
    log_probs = live_log_probs(teacher, batch)
    has_gold = batch.targets_BT != IGNORE_INDEX
    gold = log_probs.gather(2, batch.targets_BT.clamp(min=0)[..., None])
    rank = (log_probs > gold).sum(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    assert ((labels.entropy - entropy).abs() <= entropy.sqrt() / 128 + 1e-4).all()
    exact = gold.squeeze(2)[has_gold]
    error = (labels.gold_logprob[has_gold] - exact).abs()
    assert (error[exact > -12] <= (-exact[exact > -12]).sqrt() / 128 + 1e-4).all() and (error <= 0.26).all()
    assert torch.equal(labels.gold_rank[has_gold].long(), rank[has_gold])
    assert (labels.gold_rank[~has_gold] == -1).all() and (labels.gold_logprob[~has_gold] == 0).all()


def test_a_record_does_not_depend_on_who_it_is_looked_up_with(corpus, made):
    store = LabelStore.open(made)
    alone = dense(store.lookup(corpus.batch([7]).tokens_BT))
    together = dense(store.lookup(corpus.batch([2, 7, 7, 21]).tokens_BT))
    assert torch.equal(alone[0], together[1]) and torch.equal(alone[0], together[2])


def test_a_missing_record_names_the_sequence_and_the_command(made):
    stranger = TinySequences(seed=5).batch([0]).tokens_BT
    with pytest.raises(UserError, match=rf"begins {stranger[0, 0]} {stranger[0, 1]}.*stillroom label"):
        LabelStore.open(made).lookup(stranger)


@pytest.mark.parametrize("field", ["teacher", "tokenizer", "corpus"])
def test_a_changed_input_is_refused_by_name(teacher, corpus, made, field):
    with pytest.raises(UserError, match=f"identity.{field} .*0.*changed"):
        label_part(
            scores_of(teacher),
            corpus,
            LabelsConfig(shard_sequences=8),
            made,
            identity={**IDENTITY, field: "changed"},  # pyright: ignore[reportArgumentType]
        )


def test_a_changed_codec_is_refused_by_name(teacher, corpus, made):
    with pytest.raises(UserError, match=r"labels.num_samples 50 but 20"):
        make(teacher, corpus, made, num_samples=20)


def test_ranks_that_never_talk_make_the_store_that_one_process_makes(teacher, corpus, made, tmp_path):
    config = LabelsConfig(shard_sequences=8)
    folder = tmp_path / "labels"
    results = [
        label_part(scores_of(teacher), corpus, config, folder, identity=IDENTITY, rank=rank, world_size=2)
        for rank in (1, 0)
    ]
    assert results[0] is None and results[1] == LabelStore.open(made).manifest
    assert contents(folder) == contents(made)


def test_labelling_resumes_at_the_first_missing_shard(teacher, corpus, made, tmp_path):
    folder = tmp_path / "labels"

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Stopped

    with pytest.raises(Stopped):
        label_part(
            scores_of(teacher), corpus, LabelsConfig(shard_sequences=8), folder, identity=IDENTITY, progress=stop
        )
    with pytest.raises(UserError, match="no finished label store"):
        LabelStore.open(folder)
    heard: list[int] = []
    label_part(
        scores_of(teacher),
        corpus,
        LabelsConfig(shard_sequences=8),
        folder,
        identity=IDENTITY,
        progress=lambda done, total: heard.append(done),
    )
    assert heard[0] == 8 * corpus.sequence_length
    assert contents(folder) == contents(made)


def test_a_repeated_sequence_is_indexed_once(teacher, tmp_path):
    class Twice(TinySequences):
        def _one(self, index: int) -> torch.Tensor:
            return super()._one(index % 8)

    manifest = make(teacher, Twice(16), tmp_path / "labels")
    assert (manifest.num_records, manifest.num_sequences) == (8, 16)
    assert len(LabelStore.open(tmp_path / "labels").lookup(Twice(16).batch([9]).tokens_BT).ids) == 1


def test_moving_to_a_device_keeps_the_columns(corpus, made):
    batch = corpus.batch([1])
    labels = LabelStore.open(made).labels(batch)
    assert replace(labels).to("cpu").ids.equal(labels.ids)
