"""Who takes part in a run: one process, or the ranks that ``torchrun`` started. CPU and gloo take the same path as GPU
and NCCL.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from stillroom.training.training_config import ParallelConfig
from stillroom.types import UserError


@dataclass(frozen=True)
class Ranks:
    """This process's place among the others. Without a mesh it is alone.

    The mesh has the dimensions ``replicate``, ``shard`` and ``tensor``. The first two divide the batch; ranks that
    differ in ``tensor`` alone see the same sequences.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    mesh: DeviceMesh | None = None

    # Slicing a mesh takes a fifth of a millisecond, so what every step asks for is kept.

    @cached_property
    def data_size(self) -> int:
        """Into how many parts the batch is cut."""
        return 1 if self.mesh is None else self.mesh["replicate"].size() * self.mesh["shard"].size()

    @cached_property
    def data_rank(self) -> int:
        """Which of those parts is this process's."""
        if self.mesh is None:
            return 0
        return self.mesh["replicate"].get_local_rank() * self.mesh["shard"].size() + self.mesh["shard"].get_local_rank()

    @cached_property
    def _data_groups(self) -> list[dist.ProcessGroup]:
        """The groups that a sum over the parts of the batch goes through, without those of one rank."""
        if self.mesh is None:
            return []
        parts = (self.mesh["replicate"], self.mesh["shard"])
        return [part.get_group() for part in parts if part.size() > 1]

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the parts of the batch, the same bits on every rank."""
        return self.begin_sum(values)()

    def begin_sum(self, values: Tensor) -> Callable[[], Tensor]:
        """Sends ``values`` off; the function that it returns waits for their ``sum``, so that work fits in between."""
        if not self._data_groups:
            return lambda: values
        total, (group, *others) = values.clone(), self._data_groups
        under_way = dist.all_reduce(total, group=group, async_op=True)

        def finish() -> Tensor:
            if under_way is not None:
                under_way.wait()
            for other in others:
                dist.all_reduce(total, group=other)
            return total

        return finish

    def sum_in_place(self, tensors: Iterable[Tensor]) -> None:
        """Adds up tensors of one dtype over the groups that hold the whole model each, the same bits on every rank.

        They travel in buckets, since a message costs more than the bytes of a small tensor.
        """
        if not self._data_groups:
            return
        (group,) = self._data_groups
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat, group=group)
            torch._foreach_copy_(
                bucket,
                [
                    part.view_as(tensor)
                    for part, tensor in zip(flat.split([tensor.numel() for tensor in bucket]), bucket, strict=True)
                ],
            )

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return self.any_of(flag)[0]

    def any_of(self, *flags: bool) -> list[bool]:
        """For each flag, whether any rank says so; one message for all."""
        if self.mesh is None:
            return list(flags)
        values = torch.tensor([float(flag) for flag in flags], device=self.device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def barrier(self) -> None:
        """Waits for every rank."""
        if self.mesh is not None:
            self.any(False)


def _buckets(tensors: Iterable[Tensor], size: int = 1 << 24) -> Iterator[list[Tensor]]:
    """Neighbours together up to ``size`` elements."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(other.numel() for other in bucket) + tensor.numel() > size:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


ALONE = Ranks()


def launched_size() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """Which of them this is."""
    return int(os.environ.get("RANK", "0"))


def own_device() -> torch.device:
    """The GPU that this process uses where there is one, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def join(config: ParallelConfig, state_bytes: float = math.inf) -> Ranks:
    """The ranks of this run, connected; alone where ``torchrun`` did not start this process.

    ``state_bytes`` is what the run holds (see ``ParallelConfig.num_replicas``). The connection is made once and kept
    until the process ends, so that several runs can follow one another.
    """
    device = own_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        return Ranks(device=device)
    shape = mesh_shape(config, launched_size(), state_bytes)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard", "tensor"))
    return Ranks(dist.get_rank(), dist.get_world_size(), device, mesh)


def mesh_shape(config: ParallelConfig, size: int, state_bytes: float = math.inf) -> tuple[int, int, int]:
    """(replicas, shards, tensor) of ``size`` ranks; a ``UserError`` where they do not divide."""
    replicas = config.num_replicas(size, state_bytes)
    divisor = replicas * config.tensor
    if size % divisor:
        raise UserError(
            f"training.parallel: replicas {replicas} times tensor {config.tensor} is {divisor}, which does not "
            f"divide the {size} processes that were started; start a multiple of {divisor}."
        )
    return replicas, size // divisor, config.tensor
