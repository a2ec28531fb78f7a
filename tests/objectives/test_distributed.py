"""Two processes on gloo: the vocabulary cut in two, and FSDP2 around a model whose loss is computed inside."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

from forked import SERVER
from stillroom.config import ObjectiveConfig
from stillroom.objectives import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    fused_linear_cross_entropy,
    hard_target,
    mix,
    row_statistics,
    token_losses,
)
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels

N, V, D, K = 14, 31, 8, 4
CUT = 17  # the parts of the vocabulary differ in size

pytestmark = pytest.mark.filterwarnings("ignore")


def spawn(work):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [SERVER.Process(target=_start, args=(rank, port, work)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(280)
    assert [process.exitcode for process in processes] == [0, 0]  # what failed is in the captured stderr


def _start(rank, port, work):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), USE_LIBUV="0")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        work(rank)
    finally:
        dist.destroy_process_group()


def tensors(*shapes, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g).double() for shape in shapes]


def targets_of(kind):
    g = torch.Generator().manual_seed(5)
    gold = torch.randint(0, V, (N,), generator=g)
    gold[2] = IGNORE_INDEX
    if kind in ("sparse", "tail"):
        ids = torch.rand(N, V, generator=g).argsort(-1)[:, :K]
        tail = torch.rand(N, generator=g).double() if kind == "tail" else None
        soft = SparseTarget(ids, torch.rand(N, K, generator=g).double(), tail)
        return lambda part: mix(gold, torch.full((N,), 0.25), soft)
    hidden, weight, bias = tensors((N, D), (V, D), (V,), seed=9)
    return lambda part: DenseTarget(
        TeacherLogits(hidden, weight[part], bias[part]), torch.full((N,), 0.75), hard_target(gold, 0.25), 1.5, kind, 0.3
    )


def check_sharded_head(rank, kind, varied):
    part = slice(0, CUT) if rank == 0 else slice(CUT, V)
    target = targets_of(kind)
    factor = torch.linspace(0.5, 2, N).double() if varied else torch.ones(N).double()

    def gradients(part, group):
        hidden, weight, bias = (value.requires_grad_() for value in tensors((N, D), (V, D), (V,)))
        out = fused_linear_cross_entropy(
            hidden, weight[part], target(part), bias=bias[part], softcap=6.0, z_loss=0.01, chunk_size=5, group=group
        )
        (out.loss_N * factor).sum().backward()
        return out, hidden.grad, weight.grad, bias.grad

    whole, *expected = gradients(slice(0, V), None)
    ours, hidden, weight, bias = gradients(part, dist.group.WORLD)
    torch.testing.assert_close(ours.loss_N, whole.loss_N)
    torch.testing.assert_close(ours.nll_NK, whole.nll_NK)
    torch.testing.assert_close(hidden, expected[0])
    torch.testing.assert_close(weight[part], expected[1][part])
    torch.testing.assert_close(bias[part], expected[2][part])


def check_statistics(rank):
    part = slice(0, CUT) if rank == 0 else slice(CUT, V)
    hidden, weight, bias = tensors((N, D), (V, D), (V,))
    gold = torch.arange(N)
    ours = row_statistics(TeacherLogits(hidden, weight[part], bias[part]), gold, group=dist.group.WORLD)
    whole = row_statistics(TeacherLogits(hidden, weight, bias), gold)
    torch.testing.assert_close(ours.entropy_N, whole.entropy_N)
    torch.testing.assert_close(ours.gold_logprob_N, whole.gold_logprob_N)


def check_tensor_parallel_parameter():
    """An unembedding that tensor parallelism holds as a DTensor, cut along the vocabulary."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    hidden, weight = (value.requires_grad_() for value in tensors((N, D), (V, D)))
    target = targets_of("sparse")(None)
    cut = nn.Parameter(distribute_tensor(weight.detach(), mesh, [Shard(0)]))
    out = fused_linear_cross_entropy(hidden, cut.to_local(), target, group=mesh.get_group())
    out.loss_N.sum().backward()
    whole = fused_linear_cross_entropy(hidden, weight, target)
    torch.testing.assert_close(out.loss_N, whole.loss_N)
    of_hidden, of_weight = torch.autograd.grad(whole.total, [hidden, weight])
    torch.testing.assert_close(hidden.grad, of_hidden)
    torch.testing.assert_close(cut.grad.full_tensor(), of_weight)


def check_sharded_vocabulary(rank):
    for kind, varied in (("sparse", False), ("tail", True), ("cross-entropy", False), ("jensen-shannon", True)):
        check_sharded_head(rank, kind, varied)
    check_statistics(rank)
    check_tensor_parallel_parameter()


def test_vocabulary_cut_over_two_ranks_equals_the_whole():
    """Values and gradients of every kind of target, and the entropies that routing needs."""
    spawn(check_sharded_vocabulary)


class Student(nn.Module):
    """A model that computes its losses inside its own forward, where FSDP2 has gathered the unembedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(V, D)
        self.body = nn.Sequential(nn.Linear(D, D), nn.Tanh())
        self.unembedding = nn.Linear(D, V)

    def forward(self, batch, objective, labels):
        hidden = self.body(self.embedding(batch.tokens_BT)).flatten(0, 1)
        head = self.unembedding
        return token_losses(hidden, head.weight, batch, objective, labels, bias=head.bias)


def batch_and_labels(rows):
    g = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, V, (rows, 7), generator=g)
    targets = torch.cat([tokens[:, 1:], torch.full((rows, 1), IGNORE_INDEX)], 1)
    targets[0, :4] = IGNORE_INDEX  # ranks differ in how many positions they count
    batch = Batch(tokens, targets, torch.zeros_like(tokens, dtype=torch.int32))
    ids = torch.rand(rows, 7, V, generator=g).argsort(-1)[..., :K]
    labels = SoftLabels(
        ids, torch.full((rows, 7, K), 1 / K), torch.rand(rows, 7), torch.zeros(rows, 7), torch.zeros(rows, 7).int()
    )
    return batch, labels


def check_fsdp(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    batch, labels = batch_and_labels(4)
    objective = ObjectiveConfig(alpha=0.9)
    count = int((batch.targets_BT != IGNORE_INDEX).sum())
    plain = Student()
    (plain(batch, objective, labels).loss_N.sum() / count).backward()

    mine = slice(2 * rank, 2 * rank + 2)
    part = Batch(batch.tokens_BT[mine], batch.targets_BT[mine], batch.document_BT[mine])
    soft = SoftLabels(
        *(getattr(labels, name)[mine] for name in ("ids", "weights", "entropy", "gold_logprob", "gold_rank"))
    )
    model = Student()
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model.body, mesh=mesh)
    fully_shard(model, mesh=mesh)
    losses = model(part, objective, soft)
    (losses.loss_N.sum() * 2 / count).backward()  # FSDP2 takes the mean over ranks, the count is global
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None, name
        torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad)


def test_gradient_under_fsdp2_equals_one_process():
    spawn(check_fsdp)


def check_smoothed_tail(rank):
    """Label smoothing makes the target dense; the mass outside a top-k label must still be summed over the parts."""
    part = slice(0, CUT) if rank == 0 else slice(CUT, V)
    hidden, weight = tensors((N, D), (V, D))
    g = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, V, (2, N // 2), generator=g)
    batch = Batch(tokens, tokens.roll(-1, 1), torch.zeros(2, N // 2, dtype=torch.int32))
    teacher = torch.randn(N, V, generator=g).double().softmax(-1)
    weights, ids = teacher.topk(K, -1)
    zeros = torch.zeros(N)
    labels = SoftLabels(ids, weights, zeros, zeros, zeros.int(), 1 - weights.sum(-1))
    objective = ObjectiveConfig(alpha=0.75, label_smoothing=0.1)
    whole = token_losses(hidden, weight, batch, objective, labels)
    cut = token_losses(hidden, weight[part], batch, objective, labels, group=dist.group.WORLD)
    torch.testing.assert_close(cut.loss_N, whole.loss_N)


def test_smoothing_with_a_tail_is_the_same_over_a_cut_vocabulary():
    spawn(check_smoothed_tail)
