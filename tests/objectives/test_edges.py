"""Precision, empty and masked input, large vocabularies, and what happens to gradients in unusual use."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from stillroom.objectives import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    fused_linear_cross_entropy,
    hard_target,
    mix,
    row_statistics,
)
from stillroom.objectives.head import _call
from stillroom.types import IGNORE_INDEX, UserError


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def relative(a, b):
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    ("dtype", "autocast", "tolerance"),
    [
        (torch.float32, False, 2e-6),
        (torch.bfloat16, False, 1e-2),
        (torch.bfloat16, True, 1e-2),
        (torch.float16, False, 2e-3),
        (torch.float16, True, 2e-3),
    ],
)
def test_low_precision_stays_near_float64(dtype, autocast, tolerance):
    """Hidden states and weights in each precision, and float32 ones under autocast, against float64 on the same values.

    The bound is the rounding of the matmuls' inputs and outputs; softmax, sums and the weight's gradient are float32.
    """
    n, v, d = 96, 257, 32
    hidden, weight = normal(n, d).to(dtype), normal(v, d, seed=1).to(dtype)
    gold = torch.arange(n) % v
    soft = SparseTarget(normal(n, v, seed=2).argsort(-1)[:, :12], torch.full((n, 12), 0.075), torch.full((n,), 0.05))
    target = mix(gold, torch.full((n,), 0.1), soft)
    exact = [part.double().requires_grad_() for part in (hidden, weight)]
    inputs = [part.float() if autocast else part.clone() for part in (hidden, weight)]
    inputs = [part.requires_grad_() for part in inputs]
    with torch.autocast("cpu", dtype=dtype if autocast else None, enabled=autocast):
        out = fused_linear_cross_entropy(*inputs, target, chunk_size=17)
    expected = fused_linear_cross_entropy(*exact, target)
    assert out.loss_N.dtype == torch.float32
    assert relative(out.loss_N, expected.loss_N) < tolerance
    ours = torch.autograd.grad(out.total, inputs)
    theirs = torch.autograd.grad(expected.total, exact)
    for a, b, given in zip(ours, theirs, inputs, strict=True):
        assert a.dtype == given.dtype
        assert relative(a, b) < tolerance


def test_weight_gradient_is_accumulated_in_float32():
    """Many small chunks in bf16: rounding the sum after each would lose what is added late."""
    n, v, d = 512, 8, 4
    hidden = torch.ones(n, d, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.zeros(v, d, dtype=torch.bfloat16, requires_grad=True)
    out = fused_linear_cross_entropy(hidden, weight, hard_target(torch.zeros(n).long()), chunk_size=1)
    gradient = torch.autograd.grad(out.total, weight)[0]
    torch.testing.assert_close(gradient[1:].float(), torch.full((v - 1, d), n / v))


def test_ids_beyond_two_to_the_seventeen():
    v = 2**17 + 300
    hidden, weight = normal(3, 4).requires_grad_(), normal(v, 4, seed=1).requires_grad_()
    gold = torch.tensor([v - 1, 2**17, 5])
    out = fused_linear_cross_entropy(
        hidden, weight, mix(gold, torch.full((3,), 0.5), SparseTarget(gold[:, None] - 1, torch.full((3, 1), 0.5)))
    )
    logp = (hidden @ weight.t()).log_softmax(-1)
    expected = -0.5 * (logp.gather(1, gold[:, None]) + logp.gather(1, gold[:, None] - 1)).squeeze(1)
    torch.testing.assert_close(out.loss_N, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out.total, weight)[0], torch.autograd.grad(expected.sum(), weight)[0], atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("num", [0, 5])
def test_empty_and_all_masked_batches_give_zero_and_no_nan(num):
    hidden, weight = normal(num, 4).requires_grad_(), normal(11, 4, seed=1).requires_grad_()
    masked = torch.full((num,), IGNORE_INDEX)
    teacher = TeacherLogits(normal(num, 4), normal(11, 4))
    for target in (
        hard_target(masked),
        SparseTarget(torch.zeros(num, 3).long(), torch.zeros(num, 3), torch.zeros(num)),
        DenseTarget(teacher, torch.zeros(num), hard_target(masked)),
    ):
        out = fused_linear_cross_entropy(hidden, weight, target, z_loss=0.1)
        assert out.loss_N.shape == (num,) and (out.loss_N == 0).all() and out.total == 0
        assert (out.tail_nll_N is None) == (not isinstance(target, SparseTarget) or target.tail_N is None)
        assert (out.teacher_ce_N is None) == isinstance(target, SparseTarget)
        for gradient in torch.autograd.grad(out.total, [hidden, weight]):
            assert (gradient == 0).all()


def test_masked_positions_do_not_matter_and_are_not_computed():
    """Not even where their hidden states are not numbers."""
    hidden, weight = normal(6, 4), normal(11, 4, seed=1).requires_grad_()
    gold = torch.tensor([1, IGNORE_INDEX, 2, 3, IGNORE_INDEX, 4])
    kept = gold != IGNORE_INDEX
    alone = fused_linear_cross_entropy(hidden[kept], weight, hard_target(gold[kept]))
    hidden[~kept] = torch.nan
    out = fused_linear_cross_entropy(hidden.requires_grad_(), weight, hard_target(gold))
    assert torch.equal(out.loss_N[kept], alone.loss_N) and (out.loss_N[~kept] == 0).all()
    of_hidden, of_weight = torch.autograd.grad(out.loss_N.sum(), [hidden, weight])
    assert torch.equal(of_weight, torch.autograd.grad(alone.loss_N.sum(), weight)[0])
    assert (of_hidden[~kept] == 0).all()


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[1e4], [-1e4], [0.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    target = SparseTarget(torch.tensor([[2], [2], [0]]), torch.full((3, 1), 0.5), torch.full((3,), 0.5))
    out = fused_linear_cross_entropy(hidden, weight, target)
    assert out.loss_N.isfinite().all()
    assert all(part.isfinite().all() for part in torch.autograd.grad(out.total, [hidden, weight]))


class Passes:
    """Counts the passes over the chunks."""

    def __init__(self, monkeypatch):
        self.needs = []
        run = _call.one_pass

        def counting(*args):
            self.needs.append(args[6])
            return run(*args)

        monkeypatch.setattr(_call, "one_pass", counting)


@pytest.mark.parametrize(
    ("reduce", "passes"),
    [
        (lambda out: out.loss_N.sum(), 1),
        (lambda out: out.loss_N.mean() * 3, 1),
        (lambda out: out.loss_N.view(2, -1).sum() / 7, 1),
        (lambda out: out.total, 1),
        (lambda out: out.total + out.loss_N.mean(), 1),
        (lambda out: (out.loss_N * torch.tensor([1.0, 9, 1, 1])).sum(), 1),  # differs where nothing is trained only
        (lambda out: (out.loss_N * torch.arange(4.0)).sum(), 2),
    ],
)
def test_second_pass_only_where_the_upstream_gradient_varies(monkeypatch, reduce, passes):
    counter = Passes(monkeypatch)
    hidden, weight = normal(4, 3).requires_grad_(), normal(7, 3, seed=1).requires_grad_()
    gold = torch.tensor([1, IGNORE_INDEX, 2, 3])
    out = fused_linear_cross_entropy(hidden, weight, hard_target(gold))
    ours = torch.autograd.grad(reduce(out), [hidden, weight])
    assert len(counter.needs) == passes
    losses = cross_entropy(hidden @ weight.t(), gold, reduction="none")
    expected = type(out)(losses, losses.sum(), out.nll_NK, out.lse_N)
    torch.testing.assert_close(ours, torch.autograd.grad(reduce(expected), [hidden, weight]))


def test_backward_twice_gives_the_same_gradient():
    hidden, weight = normal(4, 3).requires_grad_(), normal(7, 3, seed=1).requires_grad_()
    loss = fused_linear_cross_entropy(hidden, weight, hard_target(torch.arange(4))).loss_N.mean()
    first = torch.autograd.grad(loss, [hidden, weight], retain_graph=True)
    torch.testing.assert_close(first, torch.autograd.grad(loss, [hidden, weight]))


def test_no_gradient_work_where_none_is_wanted(monkeypatch):
    counter = Passes(monkeypatch)
    hidden, weight = normal(4, 3).requires_grad_(), normal(7, 3, seed=1)
    target = hard_target(torch.arange(4))
    fused_linear_cross_entropy(hidden, weight, target).total.backward()  # a frozen unembedding
    with torch.no_grad():
        out = fused_linear_cross_entropy(hidden, weight, target)
    assert counter.needs == [(True, False, False), (False, False, False)]
    assert not out.loss_N.requires_grad


def test_statistics_equal_their_definition():
    hidden, weight = normal(5, 3, dtype=torch.float64), normal(9, 3, seed=1, dtype=torch.float64)
    gold = torch.tensor([0, 3, IGNORE_INDEX, 8, 1])
    found = row_statistics(TeacherLogits(hidden, weight, softcap=4.0), gold, temperature=1.5, chunk_size=2)
    logp = (4 * torch.tanh(hidden @ weight.t() / 4) / 1.5).log_softmax(-1)
    torch.testing.assert_close(found.entropy_N, torch.special.entr(logp.exp()).sum(-1))
    expected = torch.where(gold < 0, 0.0, logp.gather(1, gold.clamp(min=0)[:, None]).squeeze(1))
    torch.testing.assert_close(found.gold_logprob_N, expected)


@pytest.mark.parametrize(
    ("hidden", "positions", "message"), [((2, 3, 4), 6, "flatten batch and time"), ((6, 4), 5, "the target has 5")]
)
def test_shapes_that_do_not_fit_are_named(hidden, positions, message):
    with pytest.raises(UserError, match=message):
        fused_linear_cross_entropy(normal(*hidden), normal(9, 4), hard_target(torch.zeros(positions).long()))
