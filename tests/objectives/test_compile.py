"""The head inside ``torch.compile``: one graph, the same numbers as in eager mode."""

import shutil

import pytest
import torch

from stillroom.config import ObjectiveConfig
from stillroom.objectives import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    fused_linear_cross_entropy,
    hard_target,
    mix,
    token_losses,
)
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels

N, V, D, K = 12, 29, 8, 3

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*lru_cache.*")


def parts():
    g = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(s, generator=g).requires_grad_() for s in ((N, D), (V, D), (V,)))
    targets = torch.randint(0, V, (N,), generator=g)
    targets[3] = IGNORE_INDEX
    soft = SparseTarget(torch.rand(N, V, generator=g).argsort(-1)[:, :K], torch.rand(N, K, generator=g))
    tailed = SparseTarget(soft.ids_NK, soft.weights_NK, torch.rand(N, generator=g))
    teacher = TeacherLogits(torch.randn(N, D, generator=g), torch.randn(V, D, generator=g), softcap=5.0)
    dense = DenseTarget(teacher, torch.rand(N, generator=g), hard_target(targets, 0.5), 1.5, "jensen-shannon", 0.3)
    hard = torch.full((N,), 0.3)
    return (hidden, weight, bias), [mix(targets, hard, soft), mix(targets, hard, tailed), dense]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("varied", [False, True])
def test_graph_of_the_head_equals_eager(which, varied):
    """Through the tracer and autograd's graph capture; no machine code, so this stays quick."""
    torch._dynamo.reset()
    inputs, targets = parts()
    factor = torch.linspace(0.5, 2, N) if varied else torch.full((), 0.1).expand(N)

    def step(hidden, weight, bias):
        out = fused_linear_cross_entropy(
            torch.tanh(hidden), weight, targets[which], bias=bias, softcap=4.0, z_loss=0.01
        )
        return (out.loss_N * factor).sum() + 0.3 * out.total, out.nll_NK

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    ours, theirs = compiled(*inputs), step(*inputs)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours[0], inputs), torch.autograd.grad(theirs[0], inputs))


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor:UserWarning"
)  # the tracer's own look at what it is given
def test_a_vocabulary_in_parts_is_left_as_it_is_and_traced_once(tmp_path):
    torch._dynamo.reset()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        (hidden, weight, bias), targets = parts()

        def step(hidden):
            options = {"bias": bias, "group": torch.distributed.group.WORLD}
            return fused_linear_cross_entropy(torch.tanh(hidden), weight, targets[0], **options).loss_N.sum()

        compiled = torch.compile(step, backend="eager")
        for _ in range(12):  # more than the recompilations that torch allows
            ours, theirs = compiled(hidden), step(hidden)
            torch.testing.assert_close(ours, theirs)
            torch.testing.assert_close(torch.autograd.grad(ours, hidden), torch.autograd.grad(theirs, hidden))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_runs_the_whole_distillation_step_in_one_graph():
    torch._dynamo.reset()
    g = torch.Generator().manual_seed(0)
    (hidden, weight, bias), _ = parts()
    tokens = torch.randint(3, V, (2, N // 2), generator=g)
    targets = torch.cat([tokens[:, 1:], torch.full((2, 1), IGNORE_INDEX)], 1)
    batch = Batch(tokens, targets, torch.zeros_like(tokens, dtype=torch.int32))
    ids = torch.rand(N, V, generator=g).argsort(-1)[:, :K]
    labels = SoftLabels(
        ids, torch.full((N, K), 1 / K), torch.rand(N, generator=g), torch.zeros(N), torch.zeros(N, dtype=torch.int32)
    )
    objective = ObjectiveConfig(alpha=0.9)

    def step(hidden, weight, bias):
        return token_losses(torch.tanh(hidden), weight, batch, objective, labels, bias=bias).loss_N.sum()

    compiled = torch.compile(step, fullgraph=True)(hidden, weight, bias)
    torch.testing.assert_close(compiled, step(hidden, weight, bias))
    ours = torch.autograd.grad(compiled, [hidden, weight, bias])
    torch.testing.assert_close(ours, torch.autograd.grad(step(hidden, weight, bias), [hidden, weight, bias]))
