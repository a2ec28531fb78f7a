"""A vocabulary that is cut over a process group: which ids are here, and sums over all parts.

Letters: n positions, K listed ids. Imports nothing of stillroom.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Rows [offset, offset + size) of the vocabulary; without a group, all of it."""

    size: int
    offset: int = 0
    group: dist.ProcessGroup | None = None

    @classmethod
    def of(cls, size: int, group: dist.ProcessGroup | None, device: torch.device) -> Shard:
        """This rank's part; parts may differ in size and follow each other in rank order."""
        if group is None:
            return cls(size)
        sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size(group))]
        dist.all_gather(sizes, torch.tensor([size], device=device), group=group)
        return cls(size, int(torch.cat(sizes)[: dist.get_rank(group)].sum()), group)

    def local(self, ids_nK: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids as rows of this part, and which of them are here (None: all)."""
        if self.group is None:
            return ids_nK, None
        local = ids_nK - self.offset
        return local.clamp(0, self.size - 1), (local >= 0) & (local < self.size)

    def sum_(self, values: Tensor) -> Tensor:
        """The sum over all parts, in place."""
        if self.group is not None:
            dist.all_reduce(values, op=dist.ReduceOp.SUM, group=self.group)
        return values

    def logsumexp(self, lse_n: Tensor) -> Tensor:
        """logsumexp over the vocabulary from the parts' own."""
        if self.group is None:
            return lse_n
        highest = lse_n.clone()
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=self.group)
        return highest + self.sum_((lse_n - highest).exp()).log()
