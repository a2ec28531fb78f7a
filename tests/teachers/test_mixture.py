"""Mixtures of teachers: equal to what is worked out by hand, stored and live alike."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from stillroom.config import LabelsConfig, ModelConfig
from stillroom.labels import LabelStore, label
from stillroom.models import build_model
from stillroom.teachers import Domains, ExactScores, LiveLabels, MixtureScores, ModelScores
from stillroom.types import IGNORE_INDEX, Batch, UserError
from tiny_labels import IDENTITY, LENGTH, VOCAB, TinySequences, tiny_teacher


def hand_teacher(rows: list[list[float]]):
    """A teacher whose distribution depends on the current token alone."""
    table = torch.tensor(rows, dtype=torch.float64).log().float()
    return ExactScores(lambda batch: table[batch.tokens_BT])


FIRST = hand_teacher([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.25, 0.25]])
SECOND = hand_teacher([[0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.25, 0.5, 0.25]])
BATCH = Batch(
    tokens_BT=torch.tensor([[0, 1, 2], [2, 0, 1]]),
    targets_BT=torch.tensor([[1, 2, IGNORE_INDEX], [0, 1, IGNORE_INDEX]]),
    document_BT=torch.zeros(2, 3, dtype=torch.int32),
)


def probabilities(mixture: MixtureScores) -> torch.Tensor:
    return torch.cat(list(mixture.chunks(BATCH))).double().exp()


def test_an_average_is_that_of_the_probabilities():
    found = probabilities(MixtureScores((FIRST, SECOND), "average", (3.0, 1.0)))
    assert found[0].tolist() == pytest.approx([0.75 * 0.7 + 0.25 * 0.1, 0.3, 0.15], abs=1e-6)
    assert found[1].tolist() == pytest.approx([0.15, 0.15, 0.7], abs=1e-6)
    assert torch.allclose(found.sum(-1), torch.ones(6, dtype=torch.float64), atol=1e-6)


def test_by_position_the_teacher_with_the_lower_cross_entropy_speaks():
    found = probabilities(MixtureScores((FIRST, SECOND), "position"))
    assert found[0].tolist() == pytest.approx([0.1, 0.6, 0.3], abs=1e-6)  # token 0, gold 1: the second's 0.6
    assert found[1].tolist() == pytest.approx([0.1, 0.1, 0.8], abs=1e-6)  # token 1, gold 2: the first's 0.8
    assert found[2].tolist() == pytest.approx([0.375, 0.375, 0.25], abs=1e-6)  # no target: the average
    assert found[3].tolist() == pytest.approx([0.5, 0.25, 0.25], abs=1e-6)


def test_by_domain_only_the_sequence_s_own_teacher_runs():
    asked = []

    def spy(name, scores):
        return ExactScores(lambda batch: (asked.append((name, len(batch.tokens_BT))), scores.log_probs(batch))[1])

    mixture = MixtureScores((spy("a", FIRST), spy("b", SECOND)), "domain", member_of=lambda tokens_BT: [1, 0])
    found = probabilities(mixture)
    assert found[0].tolist() == pytest.approx([0.1, 0.6, 0.3], abs=1e-6)
    assert found[3].tolist() == pytest.approx([0.5, 0.25, 0.25], abs=1e-6)
    assert sorted(asked) == [("a", 1), ("b", 1)]


def test_domains_go_by_content_whatever_the_order_and_refuse_what_they_do_not_know():
    corpus = TinySequences(count=6)
    domains = Domains.of(corpus, [0, 1, 2, 0, 1, 2])
    assert domains(corpus.batch([4, 0, 5]).tokens_BT) == [1, 0, 2]
    with pytest.raises(UserError, match="no known source"):
        domains(TinySequences(count=1, seed=9).batch([0]).tokens_BT)


def two_models() -> tuple[ModelScores, ModelScores]:
    other = build_model(ModelConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2), VOCAB, seed=1)
    return ModelScores(tiny_teacher(), VOCAB, True, "fp32"), ModelScores(other.eval(), VOCAB, True, "fp32")  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["average", "position", "domain"])
def test_a_stored_mixture_is_the_live_one(rule: str, tmp_path: Path):
    corpus = TinySequences(count=8)
    domains = Domains.of(corpus, [number % 2 for number in range(8)])
    mixture = MixtureScores(two_models(), rule, member_of=domains)  # type: ignore[arg-type]
    config = LabelsConfig(codec="top-k", k=8, shard_sequences=4)
    label(mixture, corpus, config, tmp_path / "labels", identity=IDENTITY)
    stored = LabelStore.open(tmp_path / "labels").lookup(corpus.batch([5, 2]).tokens_BT)
    live = LiveLabels(mixture, config).labels(corpus.batch([5, 2]))
    assert (live.gold_rank == stored.gold_rank).all()
    assert torch.allclose(live.entropy, stored.entropy, atol=0.05)
    for row in range(2):
        dense = [torch.zeros(LENGTH, VOCAB).scatter_add_(1, one.ids[row], one.weights[row]) for one in (live, stored)]
        assert (dense[0] - dense[1]).abs().max() < 0.02


def test_the_best_by_position_has_the_lowest_cross_entropy_and_an_average_is_never_worse_than_the_mean():
    corpus, members = TinySequences(count=8), two_models()
    batch = corpus.batch(range(8))
    targets = batch.targets_BT.flatten()
    counted = targets != IGNORE_INDEX

    def losses(scores) -> torch.Tensor:
        logprob = torch.cat(list(scores.chunks(batch))).log_softmax(-1)
        return -logprob.gather(1, targets.clamp(min=0)[:, None])[counted, 0]

    own = torch.stack([losses(member) for member in members])
    best = losses(MixtureScores(members, "position"))
    assert torch.allclose(best, own.min(0).values, atol=1e-5)
    mean = losses(MixtureScores(members, "average"))
    assert (mean <= own.mean(0) + 1e-5).all()  # -log is convex
    assert (mean <= own.min(0).values + math.log(2) + 1e-5).all()


def test_a_mixture_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        MixtureScores(())
    with pytest.raises(ValueError, match="weights"):
        MixtureScores((FIRST, SECOND), "average", (1.0,))
    with pytest.raises(ValueError, match="member_of"):
        MixtureScores((FIRST, SECOND), "domain")
