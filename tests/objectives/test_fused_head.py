"""The fused head against a float64 oracle written with autograd on whole logits."""

import pytest
import torch

from stillroom.objectives import SparseTarget, fused_linear_cross_entropy

N, V, D, K = 23, 37, 8, 5


def problem(dtype=torch.float64, seed=0, tail=False):
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=g, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, generator=g, dtype=dtype, requires_grad=True)
    bias = torch.randn(V, generator=g, dtype=dtype, requires_grad=True)
    ids = torch.rand(N, V, generator=g).argsort(-1)[:, :K]
    weights = torch.rand(N, K, generator=g, dtype=dtype)
    weights[3] = 0
    weights[:, -1] *= torch.rand(N, generator=g) > 0.5
    tail_N = torch.rand(N, generator=g, dtype=dtype) if tail else None
    if tail_N is not None:
        tail_N[3:5] = 0
    return hidden, weight, bias, SparseTarget(ids, weights, tail_N)


def oracle(hidden, weight, target, bias=None, softcap=None, z_loss=0.0):
    """The definition: log-softmax of whole logits, one term after another."""
    logits = hidden.double() @ weight.double().t()
    if bias is not None:
        logits = logits + bias.double()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    lse = logits.logsumexp(-1)
    logp = logits - lse[:, None]
    loss = -(target.weights_NK * logp.gather(1, target.ids_NK)).sum(-1)
    if target.tail_N is not None:
        listed = torch.zeros_like(logp, dtype=torch.bool)
        for row in range(len(loss)):
            listed[row, target.ids_NK[row][target.outside_tail_NK[row]]] = True
        rest = logp.masked_fill(listed, -torch.inf).logsumexp(-1)
        loss = loss - target.tail_N * rest
    return loss + z_loss * lse.square() * target.active_N


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_value_and_gradient_equal_the_oracle(tail, softcap, z_loss, uniform, chunk_size):
    hidden, weight, bias, target = problem(tail=tail)
    out = fused_linear_cross_entropy(
        hidden, weight, target, bias=bias, softcap=softcap, z_loss=z_loss, chunk_size=chunk_size
    )
    expected = oracle(hidden, weight, target, bias, softcap, z_loss)
    torch.testing.assert_close(out.loss_N, expected, rtol=1e-10, atol=1e-10)
    factor = 0.7 if uniform else torch.linspace(-1, 2, N, dtype=torch.float64)
    ours = torch.autograd.grad(
        (out.loss_N * factor).sum() if not uniform else out.loss_N.sum() * factor, [hidden, weight, bias]
    )
    theirs = torch.autograd.grad((expected * factor).sum(), [hidden, weight, bias])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
