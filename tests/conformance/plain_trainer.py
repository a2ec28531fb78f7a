"""A distilling trainer in plain PyTorch that is right, and one that is wrong in one way at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from stillroom.conformance import Adapter, TrainingTask
from stillroom.conformance.lessons import random_model
from stillroom.types import IGNORE_INDEX, Batch


def _logits(model, batch: Batch, isolate: bool):
    """Each document in the block of the mask that is its own, unless documents are not isolated."""
    same = batch.document_BT[:, :, None] == batch.document_BT[:, None, :]
    seen = torch.ones_like(same).tril() & (same if isolate else torch.ones_like(same))
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]
    positions = torch.arange(batch.tokens_BT.shape[1]).expand(batch.tokens_BT.shape)
    return model(input_ids=batch.tokens_BT, attention_mask=mask, position_ids=positions).logits


class Plain:
    """The right trainer; a mutant overrides one part."""

    isolate_student = isolate_teacher = True
    teacher_training = False
    teacher_graph = False
    shifted = True
    mean_of_means = False
    drops: str | None = None
    keeps_moments = True
    sums_ranks = True

    def parameters(self, task: TrainingTask):
        return task.student.parameters()

    def teacher(self, task: TrainingTask):
        return task.teacher

    def log_q(self, teacher, batch: Batch):
        with torch.set_grad_enabled(self.teacher_graph):
            return _logits(teacher, batch, self.isolate_teacher).log_softmax(-1)

    def loss(self, task: TrainingTask, teacher, batch: Batch):
        """Σ nats over the counted positions, and how many they are."""
        log_p = _logits(task.student, batch, self.isolate_student).log_softmax(-1)
        log_q = self.log_q(teacher, batch)
        soft = (log_q.exp() * (log_q - log_p)).sum(-1)
        targets = batch.targets_BT if self.shifted else batch.tokens_BT
        hard = -log_p.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
        counted = targets != IGNORE_INDEX
        weights = {"soft": task.alpha, "hard": 1 - task.alpha} | ({self.drops: 0.0} if self.drops else {})
        return (weights["soft"] * soft + weights["hard"] * hard)[counted].sum(), counted.sum()

    def __call__(self, task: TrainingTask):
        teacher = self.teacher(task)
        teacher.train(self.teacher_training)
        task.student.train()
        optimizer = task.optimizer(self.parameters(task))
        first = self.load(task, optimizer) if task.resume else 0
        for micro_batches in task.steps[first:]:
            parts = [self.loss(task, teacher, batch) for batch in micro_batches]
            total = self.over_ranks(sum(counted for _, counted in parts))
            for nats, counted in parts:
                (nats / (counted * len(parts) if self.mean_of_means else total)).backward()
            for parameter in task.student.parameters():
                parameter.grad = self.over_ranks(parameter.grad)
            optimizer.step()
            optimizer.zero_grad()
        self.save(task, optimizer, len(task.steps))
        return None if teacher is task.teacher else teacher

    def over_ranks(self, value: torch.Tensor) -> torch.Tensor:
        if dist.is_initialized() and self.sums_ranks:
            dist.all_reduce(value)
        return value

    def save(self, task: TrainingTask, optimizer, step: int) -> None:
        state = {name: value.contiguous() for name, value in task.student.state_dict().items()}
        for number, moments in optimizer.state_dict()["state"].items():
            if moments.get("momentum_buffer") is not None:
                state[f"moment.{number}"] = moments["momentum_buffer"]
        if os.environ.get("RANK", "0") == "0":
            save_file(state | {"step": torch.tensor(step)}, task.folder / "state.safetensors")

    def load(self, task: TrainingTask, optimizer) -> int:
        state = load_file(task.folder / "state.safetensors")
        names = task.student.state_dict()
        task.student.load_state_dict({name: state[name] for name in names})
        for number, parameter in enumerate(task.student.parameters()):
            if self.keeps_moments:
                optimizer.state[parameter]["momentum_buffer"] = state[f"moment.{number}"]
        return int(state["step"])


def _changed(**parts) -> Plain:
    return type("Mutant", (Plain,), parts)()


RIGHT = Adapter(name="plain", train=Plain(), hard=True, masked=True, packs=True, resumes=True, ranks=True)
MUTANTS: dict[str, tuple[str, Callable]] = {
    "not shifted": ("step", _changed(shifted=False)),
    "teacher's term dropped": ("step", _changed(drops="soft")),
    "next token's term dropped": ("step", _changed(drops="hard")),
    "mean of means": ("accumulation", _changed(mean_of_means=True)),
    "student sees the document before": ("packing", _changed(isolate_student=False)),
    "teacher sees the document before": ("teacher-packing", _changed(isolate_teacher=False)),
    "teacher drawn anew": ("teacher-loaded", _changed(teacher=lambda self, task: random_model(seed=9))),
    "teacher in training mode": ("teacher-eval", _changed(teacher_training=True)),
    "teacher with a graph": ("teacher-gradient", _changed(teacher_graph=True)),
    "teacher in the optimizer": (
        "teacher-optimizer",
        _changed(parameters=lambda self, task: [*task.student.parameters(), *task.teacher.parameters()]),
    ),
    "moments lost": ("resume", _changed(keeps_moments=False)),
    "gradients not summed over ranks": ("ranks", _changed(sums_ranks=False)),
}
"""What is wrong → the property that must break, and the trainer."""
unsynced = replace(RIGHT, train=MUTANTS["gradients not summed over ranks"][1])
