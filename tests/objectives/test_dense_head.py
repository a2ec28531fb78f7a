"""A live teacher against a float64 oracle: every divergence, its gradient, and what it must be equal to."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from stillroom.objectives import DenseTarget, SparseTarget, TeacherLogits, fused_linear_cross_entropy, hard_target
from stillroom.objectives.targets import smoothed_target
from stillroom.types import IGNORE_INDEX, UserError

N, V, D, E = 19, 41, 8, 6
DIVERGENCES = ["cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"]


def problem(seed=0):
    g = torch.Generator().manual_seed(seed)
    student = [torch.randn(shape, generator=g).double() for shape in ((N, D), (V, D), (V,))]
    teacher = [torch.randn(shape, generator=g).double() for shape in ((N, E), (V, E), (V,))]
    targets = torch.randint(0, V, (N,), generator=g)
    targets[4] = IGNORE_INDEX
    weight = torch.rand(N, generator=g).double()
    weight[2] = 0
    return [part.requires_grad_() for part in student], teacher, targets, weight


def divergence(log_p, log_q, kind, beta):
    q, p = log_q.exp(), log_p.exp()
    if kind == "cross-entropy":
        return -(q * log_p).sum(-1)
    if kind == "forward-kl":
        return (q * (log_q - log_p)).sum(-1)
    if kind == "reverse-kl":
        return (p * (log_p - log_q)).sum(-1)
    log_m = ((1 - beta) * p + beta * q).log()
    return beta * (q * (log_q - log_m)).sum(-1) + (1 - beta) * (p * (log_p - log_m)).sum(-1)


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("hard", [True, False])
def test_value_and_gradient_equal_the_oracle(kind, temperature, softcap, uniform, hard):
    (hidden, unembedding, bias), teacher, targets, weight = problem()
    hard_part = hard_target(targets, 0.25) if hard else None
    target = DenseTarget(TeacherLogits(*teacher, softcap=softcap), weight, hard_part, temperature, kind, beta=0.3)
    out = fused_linear_cross_entropy(hidden, unembedding, target, bias=bias, softcap=softcap, z_loss=0.01, chunk_size=5)
    z, u = hidden @ unembedding.t() + bias, teacher[0] @ teacher[1].t() + teacher[2]
    if softcap:
        z, u = softcap * torch.tanh(z / softcap), softcap * torch.tanh(u / softcap)
    log_q = (u / temperature).log_softmax(-1)
    expected = weight * divergence(z.log_softmax(-1), log_q, kind, 0.3)
    if hard:
        expected = expected + 0.25 * cross_entropy(z, targets, reduction="none")
    expected = expected + 0.01 * z.logsumexp(-1).square() * target.active_N
    torch.testing.assert_close(out.loss_N, expected, rtol=1e-9, atol=1e-9)
    factor = torch.ones(()).expand(N) if uniform else torch.linspace(-1, 2, N).double()
    ours = torch.autograd.grad(out.loss_N, [hidden, unembedding, bias], factor.double())
    theirs = torch.autograd.grad(expected, [hidden, unembedding, bias], factor.double())
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    active = target.active_N
    entropy = -(log_q.exp() * log_q).sum(-1)
    torch.testing.assert_close(out.teacher_entropy_N[active], entropy[active])
    torch.testing.assert_close(
        out.teacher_ce_N[active], divergence(z.log_softmax(-1), log_q, "cross-entropy", 0)[active]
    )


@pytest.mark.parametrize("kind", DIVERGENCES[1:])
def test_divergence_of_p_with_itself_is_zero_and_so_is_its_gradient(kind):
    (hidden, unembedding, bias), _, _, _ = problem()
    teacher = TeacherLogits(hidden.detach(), unembedding.detach(), bias.detach())
    out = fused_linear_cross_entropy(
        hidden, unembedding, DenseTarget(teacher, torch.ones(N), divergence=kind), bias=bias
    )
    assert out.loss_N.abs().max() < 1e-14
    assert all(g.abs().max() < 1e-14 for g in torch.autograd.grad(out.total, [hidden, unembedding, bias]))


def test_reverse_is_forward_with_the_models_swapped():
    (hidden, unembedding, bias), teacher, _, _ = problem()
    student = TeacherLogits(hidden.detach(), unembedding.detach(), bias.detach())
    forward = fused_linear_cross_entropy(
        hidden, unembedding, DenseTarget(TeacherLogits(*teacher), torch.ones(N), divergence="forward-kl"), bias=bias
    )
    swapped = fused_linear_cross_entropy(
        teacher[0], teacher[1], DenseTarget(student, torch.ones(N), divergence="reverse-kl"), bias=teacher[2]
    )
    torch.testing.assert_close(forward.loss_N.detach(), swapped.loss_N)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_teacher_may_be_certain_of_zero(kind):
    """Logits of -inf (a world's exact zeros) give finite values wherever the divergence itself is finite."""
    (hidden, unembedding, bias), _, _, _ = problem()
    logits = torch.full((N, V), -torch.inf).double()
    logits[:, 3:5] = 0.0
    target = DenseTarget(TeacherLogits(logits, None), torch.ones(N), divergence=kind)
    out = fused_linear_cross_entropy(hidden, unembedding, target, bias=bias)
    torch.testing.assert_close(out.teacher_entropy_N, torch.full((N,), math.log(2)).double())
    if kind != "reverse-kl":  # infinite by definition
        assert out.loss_N.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(out.total, [hidden, unembedding]))


def test_sparse_with_all_tokens_equals_dense():
    (hidden, unembedding, bias), teacher, _, weight = problem()
    logits = teacher[0] @ teacher[1].t()
    ids = torch.arange(V).expand(N, V)
    sparse = SparseTarget(ids, logits.softmax(-1) * weight[:, None])
    dense = DenseTarget(TeacherLogits(logits, None), weight)
    a = fused_linear_cross_entropy(hidden, unembedding, sparse, bias=bias)
    b = fused_linear_cross_entropy(hidden, unembedding, dense, bias=bias)
    torch.testing.assert_close(a.loss_N, b.loss_N)
    torch.testing.assert_close(
        torch.autograd.grad(a.total, [hidden, unembedding, bias]),
        torch.autograd.grad(b.total, [hidden, unembedding, bias]),
    )


def test_label_smoothing_equals_pytorch():
    (hidden, unembedding, bias), _, targets, _ = problem()
    out = fused_linear_cross_entropy(hidden, unembedding, smoothed_target(targets, 0.1, V), bias=bias)
    expected = cross_entropy(hidden @ unembedding.t() + bias, targets, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(out.loss_N, expected)


def test_padded_vocabulary_gets_no_probability_and_no_gradient():
    (hidden, unembedding, bias), teacher, targets, weight = problem()
    real = 30
    target = DenseTarget(TeacherLogits(*teacher), weight, hard_target(targets.clamp(max=real - 1), 0.5))
    out = fused_linear_cross_entropy(hidden, unembedding, target, bias=bias, vocab_size=real)
    cut = DenseTarget(TeacherLogits(teacher[0], teacher[1][:real], teacher[2][:real]), weight, target.hard)
    same = fused_linear_cross_entropy(hidden, unembedding[:real], cut, bias=bias[:real])
    torch.testing.assert_close(out.loss_N, same.loss_N)
    gradient = torch.autograd.grad(out.total, unembedding)[0]
    assert (gradient[real:] == 0).all() and (gradient[:real] != 0).any()
    with pytest.raises(UserError, match="41 logits, the student 30"):
        fused_linear_cross_entropy(hidden, unembedding[:real], target, bias=bias[:real])


def test_gradient_reaches_the_student_and_not_the_teacher():
    (hidden, unembedding, _), teacher, _, weight = problem()
    for part in teacher:
        part.requires_grad_()
    out = fused_linear_cross_entropy(hidden, unembedding, DenseTarget(TeacherLogits(*teacher), weight))
    out.total.backward()
    assert hidden.grad is not None and unembedding.grad is not None
    assert all(part.grad is None for part in teacher)
