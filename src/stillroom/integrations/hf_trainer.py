"""Hugging Face's ``Trainer`` with this package's loss: fused head, label store or live teacher, packed documents.

Letters: B sequences, T positions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from stillroom.integrations.wrapped import student_losses
from stillroom.labels import LabelCollator, LabelDataset, LabelStore, batch_of, soft_labels_of
from stillroom.objectives import Objective, Progress, TeacherLogits, objective_at, require_terms
from stillroom.teachers import LabelSource, LiveTeacher
from stillroom.training.step import sums_of
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError

if TYPE_CHECKING:
    from stillroom.objectives.objective import AnyObjective

DPT_90 = Objective(alpha=0.9)
"""What is minimised where nothing else is asked for."""

if importlib.util.find_spec("accelerate") is None:
    raise UserError(
        "DistillationTrainer: transformers' Trainer needs one more package; pip install 'stillroom[trainer]'."
    )


class DistillationTrainer(Trainer):
    """A ``Trainer`` whose loss is an objective's: mean nats per target over the whole global step.

    The mean is over all micro-batches and processes, so how a step is split changes nothing. Batches are those of
    ``LabelCollator`` or ``SequenceCollator``; of others, ``input_ids`` and ``labels`` (as Hugging Face has them), with
    ``position_ids`` that restart where one document follows another in a row, are enough beside a live teacher.

    Beside the loss it logs every term: ``ce`` (of the true token), ``teacher_ce``, ``forward_kl``, ``teacher_entropy``.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: TrainingArguments,
        *,
        objective: AnyObjective = DPT_90,
        teacher: LabelSource | PreTrainedModel | None = None,
        isolate: bool = True,
        **options: Any,
    ):
        """``teacher`` answers where batches do not hold its labels: a model, a ``LiveTeacher``, or a store.

        A store without ``train_dataset`` is also what is trained on. Other ``options`` are those of ``Trainer``.
        """
        _check(model, args, teacher, options)
        source: Any = LiveTeacher(teacher) if isinstance(teacher, PreTrainedModel) else teacher
        if isinstance(source, LabelStore) and options.get("train_dataset") is None:
            options |= {"train_dataset": LabelDataset(source), "data_collator": LabelCollator(source)}
        args.remove_unused_columns = False  # the loss reads what the model's forward pass does not name
        super().__init__(model=model, args=args, **options)
        self.model_accepts_loss_kwargs = True  # older versions divide by the micro-batches otherwise
        self.objective, self.isolate = objective, isolate
        self.teacher: Any = source.to(self.args.device) if isinstance(source, nn.Module) else source
        self._sums: dict[str, dict[str, Tensor]] = {}

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of a step, and the targets among them on all processes together."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = sum((one["labels"][:, 1:] != IGNORE_INDEX).sum() for one in samples)
        return samples, self.accelerator.reduce(torch.as_tensor(count, device=device), "sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: MutableMapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Σ nats of a micro-batch, (), over ``num_items_in_batch``, (), the targets of its step.

        An evaluation's is over its own targets. The outputs hold no logits, as none are formed. Raises ``UserError``
        where the batch, the labels and the objective do not go together.
        """
        fields, batch = dict(inputs), _batch(inputs)
        objective = objective_at(self.objective, self._progress(batch))
        losses = student_losses(
            model, batch, objective, self._labels(fields, batch) if objective.alpha > 0 else None,
            isolate=self.isolate, label_temperature=self._label_temperature, seed=self.state.global_step,
        )  # fmt: skip
        self._add("" if model.training else "eval_", sums_of(losses))
        total = losses.loss_N.sum()
        if num_items_in_batch is None or not model.training:
            loss = total / losses.counted_N.sum().clamp(min=1)
        else:  # wrappers take the mean over processes
            loss = total * (self.accelerator.num_processes / torch.as_tensor(num_items_in_batch).clamp(min=1))
        return (loss, {}) if return_outputs else loss

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """That of ``Trainer``, with sums of its own."""
        self._sums.pop("eval_", None)
        return super().evaluation_loop(*args, **options)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs the terms' means beside the loss; an evaluation's loss is that over all its targets."""
        kind = next((name.removesuffix("loss") for name in logs if name.endswith("_loss") and name != "train_loss"), "")
        if kind or "loss" in logs:
            for name, mean in self._means("eval_" if kind else "").items():
                if kind or name != "loss":
                    logs[f"{kind}{name}"] = mean
        super().log(logs, start_time)

    @property
    def _label_temperature(self) -> float:
        """At which stored labels were made; 1 where a live teacher answers."""
        stores = (self.teacher, getattr(self.data_collator, "store", None))
        return next((one.manifest.settings.temperature for one in stores if isinstance(one, LabelStore)), 1.0)

    def _labels(self, fields: dict[str, Any], batch: Batch) -> SoftLabels | TeacherLogits:
        if "teacher_ids" in fields:
            return soft_labels_of(fields)
        if self.teacher is None:
            raise UserError("teacher: is missing and the batches hold no labels; give a store, a model, or alpha 0.")
        return self.teacher.labels(batch)

    def _progress(self, batch: Batch) -> Progress:
        """Tokens seen before this step and in all, as many at each step as at this one."""
        each = batch.num_positions * self.args.gradient_accumulation_steps * self.accelerator.num_processes
        return Progress(self.state.global_step * each, self.state.max_steps * each)

    def _add(self, kind: str, sums: Mapping[str, Tensor]) -> None:
        kept = self._sums.setdefault(kind, {})
        for name, pair in sums.items():
            kept[name] = kept[name] + pair if name in kept else pair

    def _means(self, kind: str) -> dict[str, float]:
        """Σ weight·nats / Σ weight since the last time, on all processes; a declared term without weight is refused."""
        sums = self._sums.pop(kind, {})
        if not sums:
            return {}
        pairs: Any = self.accelerator.reduce(torch.stack(list(sums.values())), "sum")
        totals = pairs.tolist()
        require_terms({name: weight for name, (_, weight) in zip(sums, totals, strict=True)})
        return {name: nats / weight for name, (nats, weight) in zip(sums, totals, strict=True) if weight > 0}


def _batch(inputs: Mapping[str, Any]) -> Batch:
    """Tokens, targets and documents of a trainer's batch."""
    missing = [name for name in ("input_ids", "labels") if inputs.get(name) is None]
    if missing:
        raise UserError(f"batch: has no {' and no '.join(missing)}; use a collator that gives input_ids and labels.")
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if mask is not None and not bool(mask[:, 0].all()):
        raise UserError("batch: is padded before its texts; pad behind them, where no text sees the padding.")
    if positions is None:
        positions = torch.arange(inputs["input_ids"].shape[1], device=inputs["input_ids"].device)
    return batch_of({**inputs, "position_ids": positions.expand_as(inputs["input_ids"])})


def _check(model: Any, args: TrainingArguments, teacher: Any, options: Mapping[str, Any]) -> None:
    """Refuses what would train on something else than it says."""
    if any(one is model for one in (teacher, getattr(teacher, "model", None))):
        raise UserError("teacher: is the student itself, from which nothing is learnt; load it a second time.")
    if options.get("compute_metrics") is not None:
        raise UserError("compute_metrics: needs logits, which the fused head never forms; evaluate by a plain Trainer.")
    if args.n_gpu > 1:
        raise UserError(f"args: one process was started for {args.n_gpu} devices; start one for each, by torchrun.")
