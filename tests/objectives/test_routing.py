"""Routing rules against their definitions, written with loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.config import RoutingConfig
from stillroom.objectives import copyable, last_successor, route
from stillroom.objectives.routing_rules import lowest_share
from stillroom.types import IGNORE_INDEX, Batch, UserError


def make_batch(rows=4, width=24, vocab=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab, (rows, width), generator=g)
    document = (torch.rand(rows, width, generator=g) < 0.15).int().cumsum(1).int()
    targets = torch.full_like(tokens, IGNORE_INDEX)
    same = document[:, 1:] == document[:, :-1]
    targets[:, :-1] = torch.where(same, tokens[:, 1:], IGNORE_INDEX)
    return Batch(tokens, targets, document)


def scores(batch, seed=1):
    g = torch.Generator().manual_seed(seed)
    shape = batch.tokens_BT.shape
    return torch.rand(shape, generator=g) * 3, -torch.rand(shape, generator=g) * 5, torch.rand(shape, generator=g)


@given(seed=st.integers(0, 10_000), vocab=st.integers(1, 6), width=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_copyable_equals_its_definition(seed, vocab, width):
    batch = make_batch(2, width, vocab, seed)
    found, after = copyable(batch), last_successor(batch)
    for b in range(2):
        for t in range(width):
            earlier = [
                s
                for s in range(t)
                if batch.tokens_BT[b, s] == batch.tokens_BT[b, t] and batch.document_BT[b, s] == batch.document_BT[b, t]
            ]
            target = batch.targets_BT[b, t]
            expected = bool(earlier) and target != IGNORE_INDEX and batch.tokens_BT[b, earlier[-1] + 1] == target
            assert bool(found[b, t]) == bool(expected)
            assert after[b, t] == (batch.tokens_BT[b, earlier[-1] + 1] if earlier else -1)


@pytest.mark.parametrize(
    "rule", ["low-entropy", "low-gold-probability", "copy-aware", "student-entropy", "random", "entropy-threshold"]
)
def test_every_rule_routes_only_counted_positions_and_never_more_than_its_share(rule):
    batch = make_batch()
    entropy, gold, student = scores(batch)
    config = RoutingConfig(rule=rule, share=0.3, threshold_nats=1.0 if rule == "entropy-threshold" else None)
    routed = route(config, batch, entropy_BT=entropy, gold_logprob_BT=gold, student_entropy_BT=student, seed=3)
    counted = batch.targets_BT != IGNORE_INDEX
    assert routed.any()
    assert not (routed & ~counted).any()
    if rule == "entropy-threshold":
        assert torch.equal(routed, (entropy < 1.0) & counted)
    elif rule == "copy-aware":
        assert (routed.sum(1) <= (counted.sum(1) * 0.3).round()).all()
        assert not (routed & ~copyable(batch)).any()
    else:
        assert torch.equal(routed.sum(1), (counted.sum(1) * 0.3).round().long())


@pytest.mark.parametrize(("rule", "which"), [("low-entropy", 0), ("low-gold-probability", 1), ("student-entropy", 2)])
def test_the_lowest_scores_of_each_sequence_are_routed(rule, which):
    batch = make_batch()
    values = scores(batch)
    routed = route(
        RoutingConfig(rule=rule, share=0.4),
        batch,
        entropy_BT=values[0],
        gold_logprob_BT=values[1],
        student_entropy_BT=values[2],
    )
    counted = batch.targets_BT != IGNORE_INDEX
    for row in range(len(routed)):
        inside, outside = values[which][row][routed[row]], values[which][row][counted[row] & ~routed[row]]
        assert inside.max() <= outside.min()


def test_copy_aware_routes_the_worst_of_the_teacher_first():
    batch = make_batch(rows=2, width=60, vocab=2)
    _, gold, _ = scores(batch)
    routed = route(RoutingConfig(rule="copy-aware", share=0.1), batch, gold_logprob_BT=gold)
    can = copyable(batch)
    counts = ((batch.targets_BT != IGNORE_INDEX).sum(1) * 0.1).round()
    assert torch.equal(routed.sum(1), counts.long())  # enough copyable positions here
    for row in range(2):
        assert gold[row][routed[row]].max() <= gold[row][can[row] & ~routed[row]].min()


def test_ties_go_to_the_earlier_position():
    eligible = torch.tensor([[True, False, True, True, True]])
    assert lowest_share(torch.zeros(1, 5), eligible, torch.tensor([2])).tolist() == [[True, False, True, False, False]]


def test_random_control_depends_on_the_seed_alone_and_ignores_the_labels():
    batch = make_batch()
    config = RoutingConfig(rule="random", share=0.5)
    assert torch.equal(route(config, batch, seed=1), route(config, batch, seed=1))
    assert not torch.equal(route(config, batch, seed=1), route(config, batch, seed=2))


def test_a_sequence_is_routed_alike_alone_and_in_a_batch():
    batch = make_batch()
    entropy, _, _ = scores(batch)
    config = RoutingConfig(rule="low-entropy", share=0.25)
    whole = route(config, batch, entropy_BT=entropy)
    for row in range(4):
        single = Batch(*(part[row : row + 1] for part in (batch.tokens_BT, batch.targets_BT, batch.document_BT)))
        assert torch.equal(route(config, single, entropy_BT=entropy[row : row + 1]), whole[row : row + 1])


def test_missing_scores_are_named():
    with pytest.raises(UserError, match="low-entropy needs the entropy of every position"):
        route(RoutingConfig(rule="low-entropy"), make_batch())
