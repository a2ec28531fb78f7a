"""This package's ``DistillationTrainer``, which is Hugging Face's ``Trainer`` with its loss.

cd examples/conformance && pytest --distillation-adapter hf_trainer_adapter:adapter
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from stillroom.conformance import Adapter, TrainingTask
from stillroom.integrations import DistillationTrainer
from stillroom.objectives import Objective
from stillroom.types import IGNORE_INDEX, Batch


def _inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """Labels are the tokens themselves here, and positions restart at every document."""
    ignored = torch.full_like(batch.targets_BT[:, :1], IGNORE_INDEX)
    labels = torch.cat([ignored, batch.targets_BT[:, :-1]], 1)
    place = torch.arange(labels.shape[1]).expand(labels.shape)
    begins = torch.nn.functional.pad(batch.document_BT.diff(dim=1) != 0, (1, 0))
    positions = place - torch.where(begins, place, 0).cummax(1).values
    return {"input_ids": batch.tokens_BT, "labels": labels, "position_ids": positions}


class InOrder(DistillationTrainer):
    """Takes the micro-batches of a task as they come."""

    task: TrainingTask

    def get_train_dataloader(self) -> Any:
        """All of them."""
        given = [_inputs(batch) for step in self.task.steps for batch in step]
        return DataLoader(given, batch_size=1, collate_fn=lambda one: one[0])  # type: ignore[arg-type]


def _train(task: TrainingTask) -> None:
    arguments = TrainingArguments(
        output_dir=str(task.folder),
        max_steps=len(task.steps),
        gradient_accumulation_steps=len(task.steps[0]),
        save_steps=len(task.steps),
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    optimizer = task.optimizer(task.student.parameters())
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    objective = Objective(alpha=task.alpha, divergence=task.divergence)
    trainer = InOrder(
        task.student, arguments, objective=objective, teacher=task.teacher, optimizers=(optimizer, constant)
    )
    trainer.task = task
    trainer.train(resume_from_checkpoint=task.resume)


adapter = Adapter(
    "stillroom DistillationTrainer", train=_train, masked=True, hard=True, packs=True, resumes=True, ranks=True
)
