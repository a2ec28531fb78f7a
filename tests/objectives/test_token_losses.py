"""What a trainer gets: hard and soft terms, routing, and exact zeros where nothing is counted."""

import pytest
import torch

from stillroom.config import ObjectiveConfig, RoutingConfig
from stillroom.objectives import token_losses
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError

B, T, V, D, K = 3, 10, 31, 8, 4


def problem(seed=0):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, V, (B, T), generator=g)
    targets = torch.cat([tokens[:, 1:], torch.full((B, 1), IGNORE_INDEX)], 1)
    targets[1, 4] = IGNORE_INDEX
    batch = Batch(tokens, targets, torch.zeros(B, T, dtype=torch.int32))
    hidden = torch.randn(B * T, D, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(V, D, generator=g, dtype=torch.float64, requires_grad=True)
    ids = torch.rand(B, T, V, generator=g).argsort(-1)[..., :K]
    weights = torch.rand(B, T, K, generator=g).double()
    weights /= weights.sum(-1, keepdim=True)
    labels = SoftLabels(
        ids,
        weights,
        torch.rand(B, T, generator=g),
        -torch.rand(B, T, generator=g),
        torch.zeros(B, T, dtype=torch.int32),
    )
    return hidden, weight, batch, labels


@pytest.mark.parametrize("hard_weight", ["restore", "keep"])
@pytest.mark.parametrize("rule", ["low-entropy", "random", "low-gold-probability"])
def test_mixed_loss_with_routing_equals_the_definition(rule, hard_weight):
    hidden, weight, batch, labels = problem()
    objective = ObjectiveConfig(alpha=0.9, routing=RoutingConfig(rule=rule, share=0.3, hard_weight=hard_weight))
    out = token_losses(hidden, weight, batch, objective, labels, seed=3)
    logp = (hidden @ weight.t()).log_softmax(-1)
    targets = batch.targets_BT.reshape(-1)
    ce = -logp.gather(1, targets.clamp(min=0)[:, None]).squeeze(1)
    soft = -(labels.weights.view(-1, K) * logp.gather(1, labels.ids.view(-1, K))).sum(-1)
    kept = ~out.routed_N
    hard = torch.where(out.routed_N & (hard_weight == "restore"), 1.0, 0.1)
    expected = torch.where(targets == IGNORE_INDEX, 0.0, hard * ce + 0.9 * kept * soft)
    torch.testing.assert_close(out.loss_N, expected)
    assert out.routed_N.view(B, T).sum(1).tolist() == [3, 2, 3]  # round(0.3·9), round(0.3·8)
    assert not (out.routed_N & ~out.counted_N).any()
    torch.testing.assert_close(out.terms["teacher_ce"][0][out.counted_N], soft[out.counted_N])
    ours = torch.autograd.grad(out.loss_N.sum(), [hidden, weight])
    theirs = torch.autograd.grad(expected.sum(), [hidden, weight])
    torch.testing.assert_close(ours, theirs)


def test_alpha_zero_is_the_mean_cross_entropy_of_pytorch():
    hidden, weight, batch, _ = problem()
    out = token_losses(hidden, weight, batch, ObjectiveConfig())
    expected = torch.nn.functional.cross_entropy(hidden @ weight.t(), batch.targets_BT.view(-1), reduction="sum")
    torch.testing.assert_close(out.loss_N.sum(), expected)
    assert out.terms["ce"][1].sum() == (batch.targets_BT != IGNORE_INDEX).sum()


def test_missing_labels_are_named():
    hidden, weight, batch, _ = problem()
    with pytest.raises(UserError, match=r"objective\.alpha: is 0\.9 but no labels"):
        token_losses(hidden, weight, batch, ObjectiveConfig(alpha=0.9))
