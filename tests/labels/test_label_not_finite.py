"""A teacher whose scores are no distribution ends in one sentence, whatever the codec, and nothing of it is written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.config import LabelsConfig
from stillroom.labels import LabelStore, label
from stillroom.labels import write as writers
from stillroom.labels.ragged import RaggedLabels, check_labels
from stillroom.labels.reading import NotFinite, read_labels
from stillroom.labels.settings import settings_of
from stillroom.models import unembedding
from stillroom.teachers import ExactScores, LiveLabels, MixtureScores, ModelScores
from stillroom.types import Batch, SoftLabels, UserError
from tiny_labels import IDENTITY, LENGTH, VOCAB, TinySequences, contents, make, tiny_teacher

NAN, INF = float("nan"), float("inf")
CODECS = [
    LabelsConfig(),
    LabelsConfig(codec="top-k", k=4),
    LabelsConfig(codec="top-k", k=VOCAB),
    LabelsConfig(codec="top-p", k=9),
    LabelsConfig(temperature=0.5),
]


def read(scores_nV: torch.Tensor, config: LabelsConfig, gold: int = 3) -> RaggedLabels:
    count = len(scores_nV)
    offset = torch.full((count,), 0.5, dtype=torch.float64)
    return read_labels(scores_nV.clone(), torch.full((count,), gold), offset, settings_of(config))


@pytest.mark.parametrize("config", CODECS)
@pytest.mark.parametrize(
    ("value", "is_alone", "found"),
    [
        (NAN, False, "NaN"), (NAN, True, "NaN"), (INF, False, "inf"), (INF, True, "inf"),
        (-INF, False, "nothing but -inf"),
    ],
)  # fmt: skip
def test_one_position_among_many_is_named(config, value, is_alone, found):
    scores = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    scores[17, 5 if is_alone else slice(None)] = value
    with pytest.raises(NotFinite, match=rf"^teacher: {found} among its scores at position 17,.* expected finite"):
        read(scores, config)


@pytest.mark.parametrize("config", CODECS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_impossible_tokens_get_no_mass_and_the_rest_is_as_without_them(config, data):
    """Ids that have -inf are as if the vocabulary did not hold them."""
    seed, possible = data.draw(st.integers(0, 999)), data.draw(st.integers(4, 49))
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(seed)) * 3
    masked = torch.cat((scores[:, :possible], torch.full((3, 50 - possible), -INF)), 1)
    alone, rows = read(scores[:, :possible], config), read(masked, config)
    check_labels(rows, 50)
    assert np.array_equal(alone.num_N, rows.num_N) and np.array_equal(np.sort(alone.ids_E), np.sort(rows.ids_E))
    assert rows.ids_E.max() < possible
    assert np.allclose(alone.entropy_N, rows.entropy_N, atol=1e-5)
    assert np.allclose(alone.gold_logprob_N, rows.gold_logprob_N, atol=1e-5)
    if possible < 50:
        impossible = read(masked, config, gold=49)
        assert np.allclose(impossible.gold_logprob_N, -44.195374) and (impossible.gold_rank_N == possible).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_overflow_of_half_precision_is_named(dtype):
    scores = torch.randn(4, 50).to(dtype)
    scores[2] *= float(torch.finfo(dtype).max)
    assert not scores[2].isfinite().all()
    with pytest.raises(NotFinite, match="position 2"):
        read(scores.float(), LabelsConfig())


def scores_with(value: float, sequence: int, position: int, sequences: TinySequences) -> ExactScores:
    """Scores that hold a value at one position of one sequence of the corpus."""
    wanted = sequences.batch([sequence]).tokens_BT[0]

    def log_probs(batch: Batch) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        scores = torch.randn(VOCAB, VOCAB, generator=generator)[batch.tokens_BT]
        for row, tokens_T in enumerate(batch.tokens_BT):
            if torch.equal(tokens_T, wanted):
                scores[row, position, 7] = value
        return scores

    return ExactScores(log_probs)


@pytest.mark.parametrize("codec", ["sampled", "top-k", "top-p"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_labelling_names_sequence_and_position_and_leaves_no_trace(corpus, tmp_path, codec, value):
    config = LabelsConfig(codec=codec, shard_sequences=8)
    with pytest.raises(UserError, match=r"at position 9 of sequence 5 of the corpus"):
        label(scores_with(value, 5, 9, corpus), corpus, config, tmp_path / "labels", identity=IDENTITY)
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("codec", ["sampled", "top-k", "top-p"])
def test_after_the_codebooks_sample_what_was_complete_is_kept(corpus, tmp_path, monkeypatch, codec):
    monkeypatch.setattr(writers, "SAMPLE_TOKENS", 4 * LENGTH)
    monkeypatch.setattr("stillroom.labels.write.FORWARD_TOKENS", 4 * LENGTH)
    config = LabelsConfig(codec=codec, shard_sequences=8)
    folder = tmp_path / "labels"
    with pytest.raises(UserError, match=r"NaN among its scores at position 30 of sequence 21 of the corpus"):
        label(scores_with(NAN, 21, 30, corpus), corpus, config, folder, identity=IDENTITY)
    assert sorted(path.name for path in (folder / "shards").iterdir()) == ["00000000.bin", "00000001.bin"]
    assert not (folder / "manifest.json").exists()
    label(scores_with(0.0, 0, 0, corpus), corpus, config, folder, identity=IDENTITY)  # a teacher that was mended
    assert sum(1 for _ in LabelStore.open(folder).verify()) == 3


def test_a_broken_model_is_named_by_label_and_live(corpus, tmp_path):
    model = tiny_teacher()
    with torch.no_grad():
        unembedding(model)[0][200, 3] = NAN
    with pytest.raises(UserError, match="NaN among its scores at position 0 of sequence 0 of the corpus"):
        make(model, corpus, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()
    with pytest.raises(UserError, match="NaN among its scores at position 0 of sequence 0 of the batch"):
        LiveLabels(ModelScores(model, VOCAB, precision="fp32"), LabelsConfig()).labels(corpus.batch([3, 4]))


def test_a_world_may_know_that_tokens_are_impossible(corpus, tmp_path):
    rows = torch.zeros(VOCAB, VOCAB)
    for token in range(VOCAB):
        rows[token, [(token + 1) % VOCAB, (token + 5) % VOCAB]] = torch.tensor([0.25, 0.75])

    def log_probs(batch: Batch) -> torch.Tensor:
        return rows[batch.tokens_BT].log()

    for codec in ("sampled", "top-k"):
        config = LabelsConfig(codec=codec, shard_sequences=8)
        live = LiveLabels(ExactScores(log_probs), config).labels(corpus.batch([3]))
        label(ExactScores(log_probs), corpus, config, tmp_path / codec, identity=IDENTITY)
        store = LabelStore.open(tmp_path / codec)
        stored = store.lookup(corpus.batch([3]).tokens_BT)
        for found in (live, stored):
            dense = torch.zeros(1, LENGTH, VOCAB).scatter_add(2, found.ids, found.weights)
            assert (dense - rows[corpus.batch([3]).tokens_BT]).abs().max() < 0.02 + 1e-6
            assert (found.entropy - (-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))).abs().max() < 0.01
            assert bool(found.gold_logprob.isfinite().all())
        assert math.isfinite(store.manifest.teacher_ce_nats)


def test_a_teacher_that_knows_nothing_is_labelled(corpus, tmp_path):
    """Its gradient for a student that knows nothing is 0, so that no error relative to it exists."""
    flat = ExactScores(lambda batch: torch.zeros(*batch.tokens_BT.shape, VOCAB))
    manifest = label(flat, corpus, LabelsConfig(shard_sequences=8), tmp_path / "labels", identity=IDENTITY)
    assert "gradient_error" not in manifest.fidelity or math.isfinite(float(manifest.fidelity["gradient_error"]))


@pytest.mark.parametrize("rule", ["average", "position", "domain"])
@pytest.mark.parametrize("weights", [None, (1.0, 1e-300)])
def test_a_mixture_names_its_broken_member(corpus, rule, weights):
    good, bad = scores_with(0.0, 0, 0, corpus), scores_with(NAN, 1, 9, corpus)
    members = (lambda tokens_BT: [1] * len(tokens_BT)) if rule == "domain" else None
    mixture = MixtureScores((good, bad), rule, weights, members)
    with pytest.raises(UserError, match=r"teacher\.mixture: member 1 of 2 gives NaN"):
        list(mixture.chunks(corpus.batch([0, 1])))


def test_a_mixture_of_teachers_that_hold_tokens_for_impossible(corpus):
    one = scores_with(-INF, 1, 9, corpus)
    for rule in ("average", "position"):
        mixed = torch.cat(list(MixtureScores((one, one), rule).chunks(corpus.batch([0, 1]))))
        alone = torch.cat(list(one.chunks(corpus.batch([0, 1])))).log_softmax(-1)
        torch.testing.assert_close(mixed, alone)


@pytest.mark.parametrize("weight", [0.0, -1.0, NAN, INF])
def test_weights_of_a_mixture_are_numbers_above_zero(corpus, weight):
    one = scores_with(0.0, 0, 0, corpus)
    with pytest.raises(ValueError, match="weights above 0"):
        MixtureScores((one, one), weights=(1.0, weight))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ids_E": np.array([1, VOCAB], np.int32)}, "ids outside 0 to 299"),
        ({"ids_E": np.array([1, -1], np.int32)}, "ids outside"),
        ({"values_E": np.array([0.5, NAN], np.float32)}, "weights that are no numbers"),
        ({"values_E": np.array([0.5, -0.1], np.float32)}, "weights that are no numbers"),
        ({"values_E": np.array([0.5, INF], np.float32)}, "weights that are no numbers"),
        ({"values_E": np.array([0.7, 0.4], np.float32)}, "more than 1 together"),
        ({"num_N": np.array([2, 0], np.uint16)}, "a position without ids"),
        ({"entropy_N": np.array([NAN], np.float32)}, "an entropy"),
        ({"entropy_N": np.array([-0.1], np.float32)}, "an entropy"),
        ({"gold_logprob_N": np.array([0.1], np.float32)}, "a log-probability"),
        ({"gold_logprob_N": np.array([-INF], np.float32)}, "a log-probability"),
        ({"gold_rank_N": np.array([-2], np.int32)}, "a rank"),
        ({"tail_N": np.array([NAN], np.float32)}, "a tail"),
        ({"tail_N": np.array([1.5], np.float32)}, "a tail"),
    ],
)
def test_labels_that_no_distribution_gives_are_not_written(corpus, tmp_path, change, sentence):
    good: dict[str, Any] = {
        "num_N": np.array([2], np.uint16), "ids_E": np.array([1, 5], np.int32),
        "values_E": np.array([0.5, 0.4], np.float32), "entropy_N": np.array([0.5], np.float32),
        "gold_logprob_N": np.array([-0.5], np.float32), "gold_rank_N": np.array([0], np.int32),
        "tail_N": np.array([0.1], np.float32),
    }  # fmt: skip
    check_labels(RaggedLabels(**good), VOCAB)
    with pytest.raises(UserError, match=sentence):
        check_labels(RaggedLabels(**(good | change)), VOCAB)


@pytest.mark.parametrize("value", [-1, VOCAB, VOCAB + 5])
def test_a_corpus_of_another_tokenizer_is_named(teacher, tmp_path, value):
    class Other(TinySequences):
        def _one(self, index: int) -> torch.Tensor:
            tokens_T = super()._one(index)
            tokens_T[3] = value
            return tokens_T

    with pytest.raises(UserError, match=rf"token id {value} found but the tokenizer has 300 tokens"):
        make(teacher, Other(), tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_a_teacher_of_fewer_tokens_than_come_next_is_named(teacher, corpus):
    with pytest.raises(UserError, match=r"scores 50 tokens but token id 5\d comes next"):
        LiveLabels(ModelScores(teacher, 50, precision="fp32"), LabelsConfig()).labels(corpus.batch([0]))


def same(first: SoftLabels, second: SoftLabels) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("ids", "weights", "entropy"))


def test_nothing_changed_for_scores_that_are_finite(teacher, corpus, made, tmp_path):
    """The bytes of a store, and of one whose labelling was begun and went on, are those of one made at once."""
    make(teacher, corpus, tmp_path / "labels")
    assert contents(tmp_path / "labels") == contents(made)
    scores = ModelScores(teacher, VOCAB, precision="fp32")
    live = LiveLabels(ModelScores(teacher, VOCAB, precision="fp32"), LabelsConfig()).labels(corpus.batch([2]))
    assert scores.device.type == "cpu" and same(live, live)


def test_folders_of_the_session_hold_no_scratch(made: Path):
    assert not [path for path in made.rglob(".*")]
