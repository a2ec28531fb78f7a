"""The loop: one for teachers, hard-label students and distilled students alike, resuming bit for bit.

What a step does depends on the configuration, the data and the step number alone, so a run that was killed and started
again writes the same weights as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from transformers import PreTrainedModel

from stillroom.config import ObjectiveConfig, TrainingConfig
from stillroom.corpora import SequenceSet, batch_indices
from stillroom.files import disk_errors, read_json_lines, write_text
from stillroom.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from stillroom.training.optimizer import build_optimizers, clip_gradients, learning_rate_factor, set_learning_rate
from stillroom.training.step import LabelSource, global_step, split_batch, validate
from stillroom.types import Sequences

Progress = Callable[[int, int], None]
"""Called with the tokens done and the tokens in all."""


class Interrupted(Exception):
    """The run was asked to stop; its state is saved."""


class DivergedError(RuntimeError):
    """A loss or gradient that is not finite; the message names the step and its sequences."""


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run amounts to."""

    steps: int
    tokens: int
    seconds: float
    validation_ce: float


@dataclass(frozen=True)
class TrainingData:
    """The sequences to train on, those to validate on, and where soft labels come from (None = hard labels only)."""

    train: SequenceSet
    heldout: Sequences
    labels: LabelSource | None = None
    isolate: bool = True


def num_steps(config: TrainingConfig, num_sequences: int) -> int:
    """Optimizer steps of a run: whole global batches only."""
    return max(1, int(num_sequences * config.epochs) // config.batch_sequences)


def train(
    model: PreTrainedModel,
    data: TrainingData,
    config: TrainingConfig,
    objective: ObjectiveConfig,
    folder: Path,
    *,
    precision_name: str,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Trains ``model`` in place, writing ``metrics.jsonl`` and ``checkpoints/`` under ``folder``.

    Continues from the newest complete checkpoint there. Raises ``Interrupted`` after saving when ``stop()`` turns true,
    and ``DivergedError`` when the loss or the gradient is not finite.
    """
    optimizers = build_optimizers(model, config)
    total = num_steps(config, len(data.train))
    start, seconds = _resume(folder, model, optimizers)
    tokens_per_step = config.batch_sequences * data.train.sequence_length
    clock = last_save = time.monotonic()
    spent = seconds
    with disk_errors(folder), (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:

        def save(step: int) -> None:
            metrics.flush()
            save_checkpoint(folder / "checkpoints", step, model, optimizers, {"seconds": spent})

        for step in range(start, total):
            begin = time.monotonic()
            record = _train_step(model, optimizers, data, config, objective, step, total, precision_name)
            record["tokens_per_second"] = tokens_per_step / (time.monotonic() - begin)
            metrics.write(
                json.dumps({"kind": "train", "step": step + 1, "tokens": (step + 1) * tokens_per_step} | record)
            )
            metrics.write("\n")
            if step + 1 == total or (config.validate_every and (step + 1) % config.validate_every == 0):
                ce = validate(model, data.heldout, isolate=data.isolate, precision_name=precision_name)
                point = {"kind": "validation", "step": step + 1, "tokens": (step + 1) * tokens_per_step, "ce": ce}
                metrics.write(json.dumps(point) + "\n")
            now = time.monotonic()
            spent = seconds + now - clock
            if progress is not None:
                progress((step + 1) * tokens_per_step, total * tokens_per_step)
            if stop() and step + 1 < total:
                save(step + 1)
                raise Interrupted(str(folder))
            if now - last_save >= config.checkpoint_seconds or step + 1 == total:
                save(step + 1)
                last_save = time.monotonic()
    return _result(folder, total, tokens_per_step, spent)


def _train_step(
    model: PreTrainedModel,
    optimizers: list[Optimizer],
    data: TrainingData,
    config: TrainingConfig,
    objective: ObjectiveConfig,
    step: int,
    total: int,
    precision_name: str,
) -> dict[str, float]:
    """One optimizer step; returns the record of its means, gradient norm, learning rate and alpha."""
    indices = batch_indices(step, config.batch_sequences, len(data.train), config.seed)
    batch = data.train.batch(indices.tolist())
    micro_batches = split_batch(batch, config.micro_batch_sequences or config.batch_sequences)
    factor = learning_rate_factor(config, step, total)
    set_learning_rate(optimizers, factor)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    sums = global_step(
        model, micro_batches, objective, data.labels,
        isolate=data.isolate, precision_name=precision_name, seed=config.seed + step,
    )  # fmt: skip
    norm = clip_gradients(model, config.gradient_clip)
    record = sums.means() | {"gradient_norm": norm, "learning_rate": config.learning_rate * factor}
    if not all(value == value and abs(value) != float("inf") for value in record.values()):
        raise DivergedError(
            f"step {step + 1}: the loss is {record.get('loss')} and the gradient norm {norm}; its sequences begin "
            f"with {indices.tolist()[:8]} and the weights before it are in the last checkpoint; lower learning_rate."
        )
    for optimizer in optimizers:
        optimizer.step()
    return record | {"alpha": objective.alpha}


def _resume(folder: Path, model: PreTrainedModel, optimizers: list[Optimizer]) -> tuple[int, float]:
    """Loads the newest checkpoint and drops what was logged after it; returns the steps done and the seconds spent."""
    folder.mkdir(parents=True, exist_ok=True)
    found = latest_checkpoint(folder / "checkpoints")
    step, seconds = 0, 0.0
    if found is not None:
        path, state = found
        load_checkpoint(path, model, optimizers)
        step, seconds = int(state["step"]), float(state["seconds"])
    log = folder / "metrics.jsonl"
    if log.exists():
        kept = [json.dumps(record) for record in read_json_lines(log) if record["step"] <= step]
        write_text(log, "".join(f"{line}\n" for line in kept))
    return step, seconds


def _result(folder: Path, steps: int, tokens_per_step: int, seconds: float) -> TrainingResult:
    points: list[dict[str, Any]] = [
        record for record in read_json_lines(folder / "metrics.jsonl") if record["kind"] == "validation"
    ]
    return TrainingResult(steps, steps * tokens_per_step, seconds, points[-1]["ce"])
