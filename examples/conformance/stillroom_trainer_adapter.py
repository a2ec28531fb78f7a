"""This package's own training loop, with a live teacher.

cd examples/conformance && pytest --distillation-adapter stillroom_trainer_adapter:adapter
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
import torch.distributed as dist

from stillroom.config import ObjectiveConfig, ParallelConfig, TrainingConfig
from stillroom.conformance import Adapter, TrainingTask
from stillroom.teachers import LiveTeacher
from stillroom.training import OPTIMIZERS, Trained, TrainingData, join, train
from stillroom.types import Batch


@dataclass(frozen=True)
class Rows:
    """The task's rows, in order, as a corpus gives its sequences."""

    whole: Batch

    @property
    def sequence_length(self) -> int:
        """T."""
        return self.whole.tokens_BT.shape[1]

    def __len__(self) -> int:
        return len(self.whole.tokens_BT)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Rows by number."""
        whole, rows = self.whole, list(indices)
        return Batch(whole.tokens_BT[rows], whole.targets_BT[rows], whole.document_BT[rows])


def _all_ranks(batches: list[Batch]) -> list[Batch]:
    """The loop shares a step out by itself, so every rank has the whole of it."""
    if not dist.is_initialized():
        return batches
    everyone: list[list[Batch]] = [[]] * dist.get_world_size()
    dist.all_gather_object(everyone, batches)
    return list(chain(*everyone))


def _train(task: TrainingTask) -> None:
    steps = [_all_ranks(list(step)) for step in task.steps]
    batches, ranks = list(chain(*steps)), join(ParallelConfig(), state_bytes=0)
    rows = Rows(
        Batch(
            *(torch.cat([getattr(one, name) for one in batches]) for name in ("tokens_BT", "targets_BT", "document_BT"))
        )
    )

    def theirs(trained: Trained, config: TrainingConfig) -> list[torch.optim.Optimizer]:
        groups = [*trained.groups(trained.matrices, 0.0, 1.0), *trained.plain]
        optimizer = task.optimizer(chain(*(group["params"] for group in groups)))
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
        return [optimizer]

    OPTIMIZERS.register("of the task", theirs)
    config = TrainingConfig(
        steps=len(steps),
        batch_sequences=len(rows) // len(steps),
        micro_batch_sequences=len(batches[0].tokens_BT),
        optimizer="of the task",
        schedule="constant",
        warmup=0.0,
        gradient_clip=0.0,
        validate_every=0,
    )
    data = TrainingData(rows, rows, LiveTeacher(task.teacher), shuffle_sequences=1)
    objective = ObjectiveConfig(alpha=task.alpha, divergence=task.divergence)
    train(task.student, data, config, objective, task.folder, precision_name="fp32", ranks=ranks)


adapter = Adapter(
    "stillroom trainer",
    train=_train,
    masked=True,
    hard=True,
    packs=True,
    resumes=True,
    ranks=True,
)
