"""Facts about the losses that hold for any input, drawn by hypothesis."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.objectives import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    fused_linear_cross_entropy,
    hard_target,
    label_target,
)
from stillroom.types import SoftLabels

N, V, D = 9, 23, 6
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=25, deadline=None)


def models(seed, sharpness=1.0):
    g = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(s, generator=g).double() * sharpness for s in ((N, D), (V, D)))
    return hidden, weight, torch.randn(N, V, generator=g).double() * sharpness


def dense(hidden, weight, logits, kind, **options):
    target = DenseTarget(TeacherLogits(logits, None), torch.ones(N), divergence=kind, **options)
    return fused_linear_cross_entropy(hidden, weight, target)


def truncated(logits, k):
    """Top-k labels of a teacher as a store would hold them."""
    q = logits.softmax(-1)
    weights, ids = q.topk(k, dim=-1)
    entropy = torch.special.entr(q).sum(-1)
    nothing = torch.zeros(len(q))
    return SoftLabels(ids, weights, entropy, nothing, nothing.int(), (1 - weights.sum(-1)).clamp(min=0))


@given(seed=seeds, sharpness=st.floats(0.1, 6))
@few
def test_teacher_ce_minus_entropy_is_forward_kl_and_no_divergence_is_negative(seed, sharpness):
    hidden, weight, logits = models(seed, sharpness)
    out = dense(hidden, weight, logits, "forward-kl")
    torch.testing.assert_close(out.loss_N, out.teacher_ce_N - out.teacher_entropy_N)
    for kind in ("forward-kl", "reverse-kl", "jensen-shannon"):
        assert dense(hidden, weight, logits, kind).loss_N.min() > -1e-12


@given(seed=seeds, beta=st.floats(0.05, 0.95))
@few
def test_jensen_shannon_is_bounded_and_swaps_with_its_beta(seed, beta):
    hidden, weight, logits = models(seed, 4.0)
    loss = dense(hidden, weight, logits, "jensen-shannon", beta=beta).loss_N
    bound = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    assert loss.max() <= bound + 1e-12
    swapped = DenseTarget(TeacherLogits(hidden, weight), torch.ones(N), divergence="jensen-shannon", beta=1 - beta)
    other = fused_linear_cross_entropy(logits, torch.eye(V).double(), swapped).loss_N
    torch.testing.assert_close(loss, other)


@given(seed=seeds, k=st.integers(1, V - 1), sharpness=st.floats(0.1, 5))
@few
def test_tail_bucket_is_a_lower_bound_of_the_true_kl(seed, k, sharpness):
    hidden, weight, logits = models(seed, sharpness)
    target, entropy = label_target(truncated(logits, k), torch.zeros(N).long(), "bucket")
    coarse = fused_linear_cross_entropy(hidden, weight, target).loss_N - entropy
    true = dense(hidden, weight, logits, "forward-kl").loss_N
    assert (coarse <= true + 1e-9).all() and (coarse >= -1e-9).all()


@given(seed=seeds)
@few
def test_truncated_labels_with_all_ids_equal_the_dense_teacher(seed):
    hidden, weight, logits = models(seed)
    for tail in ("bucket", "renormalise", "gold"):
        target, entropy = label_target(truncated(logits, V), torch.zeros(N).long(), tail)
        sparse = fused_linear_cross_entropy(hidden, weight, target)
        torch.testing.assert_close(sparse.loss_N, dense(hidden, weight, logits, "cross-entropy").loss_N)
        torch.testing.assert_close(entropy, torch.special.entr(logits.softmax(-1)).sum(-1))


@given(seed=seeds, k=st.integers(1, 8))
@few
def test_residual_on_gold_keeps_the_whole_mass(seed, k):
    _, _, logits = models(seed)
    gold = torch.arange(N)
    labels = truncated(logits, k)
    target, _ = label_target(labels, gold, "gold")
    torch.testing.assert_close(target.weights_NK.sum(-1), torch.ones(N).double())
    on_gold = (target.weights_NK * (target.ids_NK == gold[:, None])).sum(-1)
    listed = (labels.weights * (labels.ids == gold[:, None])).sum(-1)
    torch.testing.assert_close(on_gold, listed + labels.tail)


@given(seed=seeds)
@few
def test_hard_label_limit_is_cross_entropy(seed):
    hidden, weight, _ = models(seed)
    gold = torch.arange(N)
    certain = torch.full((N, V), -200.0).double().scatter_(1, gold[:, None], 200.0)
    expected = torch.nn.functional.cross_entropy(hidden @ weight.t(), gold, reduction="none")
    torch.testing.assert_close(dense(hidden, weight, certain, "cross-entropy").loss_N, expected)
    torch.testing.assert_close(fused_linear_cross_entropy(hidden, weight, hard_target(gold)).loss_N, expected)


@given(seed=seeds)
@few
def test_repeated_ids_add_up(seed):
    hidden, weight, _ = models(seed)
    hidden.requires_grad_()
    gold = torch.arange(N)
    twice = SparseTarget(torch.stack([gold, gold, gold + 1], 1), torch.tensor([0.25, 0.5, 0.25]).expand(N, 3))
    once = SparseTarget(torch.stack([gold, gold + 1], 1), torch.tensor([0.75, 0.25]).expand(N, 2))
    a, b = (fused_linear_cross_entropy(hidden, weight, target) for target in (twice, once))
    torch.testing.assert_close(a.loss_N, b.loss_N)
    torch.testing.assert_close(torch.autograd.grad(a.total, hidden), torch.autograd.grad(b.total, hidden))


def test_sampled_labels_are_unbiased():
    """Mean over many draws lies within 4.5 standard errors of the full divergence and gradient (all must)."""
    hidden, weight, logits = models(0)
    hidden.requires_grad_()
    full = dense(hidden, weight, logits, "cross-entropy")
    true_gradient = torch.autograd.grad(full.total, hidden)[0]
    g = torch.Generator().manual_seed(1)
    losses, gradients = [], []
    for _ in range(600):
        ids = torch.multinomial(logits.softmax(-1), 8, replacement=True, generator=g)
        out = fused_linear_cross_entropy(hidden, weight, SparseTarget(ids, torch.full((N, 8), 1 / 8).double()))
        losses.append(out.loss_N.detach())
        gradients.append(torch.autograd.grad(out.total, hidden)[0])
    for samples, true in ((torch.stack(losses), full.loss_N), (torch.stack(gradients), true_gradient)):
        error = samples.std(0) / len(samples) ** 0.5
        assert ((samples.mean(0) - true).abs() <= 4.5 * error + 1e-12).all()


def test_renormalised_top_k_is_biased():
    """The same comparison shows the bias of the policy that is named as biased."""
    hidden, weight, logits = models(0)
    hidden.requires_grad_()
    true = torch.autograd.grad(dense(hidden, weight, logits, "cross-entropy").total, hidden)[0]
    target, _ = label_target(truncated(logits, 4), torch.zeros(N).long(), "renormalise")
    biased = torch.autograd.grad(fused_linear_cross_entropy(hidden, weight, target).total, hidden)[0]
    assert (biased - true).norm() > 0.2 * true.norm()


@pytest.mark.parametrize("kind", ["cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_finite_differences_with_temperature_on_both_models(kind, temperature):
    hidden, weight, logits = models(3)
    target = DenseTarget(
        TeacherLogits(logits, None), torch.rand(N), hard_target(torch.arange(N), 0.5), temperature, kind
    )
    bias = torch.zeros(V).double()

    def loss(hidden, weight, bias):
        return fused_linear_cross_entropy(
            hidden, weight, target, bias=bias, softcap=5.0, temperature=temperature, chunk_size=4
        ).loss_N

    inputs = [part.clone().requires_grad_() for part in (hidden, weight, bias)]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)
