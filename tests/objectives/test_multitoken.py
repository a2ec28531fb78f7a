"""Multi-token prediction: targets that stop at a document's end, and a loss that is the sum over heads."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from stillroom.config import ObjectiveConfig, RoutingConfig
from stillroom.objectives import look_ahead, token_losses
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError

A0, A1, A2, B0, B1 = 10, 11, 12, 20, 21
NONE = IGNORE_INDEX


def two_documents():
    tokens = torch.tensor([[A0, A1, A2, B0, B1]])
    return Batch(tokens, torch.tensor([[A1, A2, NONE, B1, NONE]]), torch.tensor([[0, 0, 0, 1, 1]], dtype=torch.int32))


def test_future_targets_do_not_cross_documents():
    ahead = look_ahead(two_documents(), 3)
    assert ahead.targets_HN.tolist() == [[A1, A2, NONE, B1, NONE], [A2, NONE, NONE, NONE, NONE], [NONE] * 5]
    assert ahead.source_HN.tolist() == [[0, 1, 2, 3, 4], [1, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


def test_depth_one_equals_next_token_prediction():
    batch = two_documents()
    assert torch.equal(look_ahead(batch, 1).targets_HN[0], batch.targets_BT[0])


def test_more_heads_than_tokens_are_harmless():
    assert (look_ahead(two_documents(), 9).targets_HN[5:] == NONE).all()


def problem(heads):
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(heads, 5, 6, generator=g).double().requires_grad_()
    weight = torch.randn(30, 6, generator=g).double().requires_grad_()
    ids = torch.rand(5, 30, generator=g).argsort(-1)[:, :4]
    labels = SoftLabels(
        ids, torch.full((5, 4), 0.25).double(), torch.rand(5, generator=g), torch.zeros(5), torch.zeros(5).int()
    )
    return hidden, weight, labels


def test_loss_is_the_sum_over_heads_and_its_terms_are_apart():
    hidden, weight, _ = problem(3)
    batch = two_documents()
    out = token_losses(hidden, weight, batch, ObjectiveConfig(heads=3))
    targets = look_ahead(batch, 3).targets_HN
    each = torch.stack(
        [cross_entropy(h @ weight.t(), t, reduction="none") for h, t in zip(hidden, targets, strict=True)]
    )
    torch.testing.assert_close(out.loss_N, each.sum(0))
    torch.testing.assert_close(
        torch.autograd.grad(out.loss_N.sum(), [hidden, weight]), torch.autograd.grad(each.sum(), [hidden, weight])
    )
    assert [float(out.terms[name][1].sum()) for name in ("ce", "ce_2", "ce_3")] == [3, 1, 0]


def test_soft_labels_are_shifted_with_the_targets():
    """Head 2 at A0 predicts A2 and learns from the label that the teacher gave at A1, unless that one is routed."""
    hidden, weight, labels = problem(2)
    batch = two_documents()
    logp = [(h @ weight.t()).log_softmax(-1) for h in hidden]
    out = token_losses(hidden, weight, batch, ObjectiveConfig(alpha=0.75, heads=2), labels)
    second = -0.25 * logp[1][0, A2] - 0.75 * 0.25 * logp[1][0, labels.ids[1]].sum()
    first = -0.25 * logp[0][0, A1] - 0.75 * 0.25 * logp[0][0, labels.ids[0]].sum()
    torch.testing.assert_close(out.loss_N[0], first + second)

    labels.gold_logprob[1] = -9.0
    routing = RoutingConfig(rule="low-gold-probability", share=0.34)
    out = token_losses(hidden, weight, batch, ObjectiveConfig(alpha=0.75, heads=2, routing=routing), labels)
    assert out.routed_N.tolist() == [False, True, False, False, False]
    torch.testing.assert_close(out.loss_N[0], first - logp[1][0, A2])


def test_hidden_states_of_the_wrong_number_of_heads_are_named():
    hidden, weight, _ = problem(2)
    with pytest.raises(UserError, match=r"objective\.heads: is 3 for 5 positions"):
        token_losses(hidden, weight, two_documents(), ObjectiveConfig(heads=3))
