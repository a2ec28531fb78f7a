"""The loop: one for teachers, hard-label students and distilled students alike, resuming bit for bit.

What a step does depends on the configuration, the data and the step number alone, so a run that was killed and started
again writes the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel

from stillroom.corpora import batch_indices
from stillroom.costs import size_of_model
from stillroom.files import disk_errors
from stillroom.models import ModelPlan, precision
from stillroom.objectives import Progress, objective_at, require_terms
from stillroom.objectives.objective_config import ObjectiveConfig
from stillroom.teachers import LabelSource, LiveTeacher
from stillroom.training.budget import num_steps
from stillroom.training.checkpoint import Checkpoints, run_tensors
from stillroom.training.distributed import ALONE, Ranks
from stillroom.training.errors import DivergedError, Interrupted
from stillroom.training.finite import all_finite, teacher_is_finite
from stillroom.training.hardware import peak_flops, peak_memory_bytes
from stillroom.training.metrics import MetricsLog, drop_after, last_validation
from stillroom.training.mtp_heads import FurtherHeads
from stillroom.training.optimizer import build_optimizers, clip_gradients, learning_rate_factor, set_learning_rate
from stillroom.training.prepare import prepare, prepare_teacher
from stillroom.training.step import (
    StepContext,
    Student,
    global_step,
    split_batch,
    teacher_labels,
    validate,
)
from stillroom.training.trackers import open_tracker
from stillroom.training.training_config import TrainingConfig
from stillroom.types import Batch, OnProgress, Sequences, UserError


@dataclass(frozen=True)
class Hooks:
    """What is called between the steps of a run."""

    progress: OnProgress | None = None
    """Hears the tokens done and the tokens in all."""
    stop: Callable[[], bool] = lambda: False
    """Asks whether to save and end the run here."""
    loss: Callable[[float], None] | None = None
    """Hears the loss of every step, in nats per token."""


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run amounts to."""

    steps: int
    tokens: int
    seconds: float
    validation_ce: float
    further: FurtherHeads | None = None
    """The heads beyond the next token's, where the objective has any; sharded where there are ranks."""


@dataclass(frozen=True)
class TrainingData:
    """The sequences to train on, those to validate on, and where soft labels come from (None = hard labels only)."""

    train: Sequences
    heldout: Sequences
    labels: LabelSource | None = None
    isolate: bool = True
    label_temperature: float = 1.0
    """At which stored labels were made."""
    shuffle_sequences: int = 0
    """Sequences among which the order is shuffled in each epoch; 0 means all."""


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a run under way. Tensors change in place; everything else is fixed."""

    student: Student
    optimizers: list[Optimizer]
    data: TrainingData
    config: TrainingConfig
    context: StepContext
    total: int
    """Optimizer steps in all."""
    flops_per_token: float
    """Model FLOPs of the student, forward and backward."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens of the global batch."""
        return self.config.batch_sequences * self.data.train.sequence_length


@dataclass(frozen=True)
class Session:
    """Where a run under way writes to."""

    checkpoints: Checkpoints
    metrics: MetricsLog
    begun: float
    """By the monotonic clock, as if the run had never been interrupted."""

    @property
    def seconds(self) -> float:
        """Spent on the run so far, earlier processes included."""
        return time.monotonic() - self.begun


def train(
    model: PreTrainedModel | ModelPlan,
    data: TrainingData,
    config: TrainingConfig,
    objective: ObjectiveConfig,
    folder: Path,
    *,
    precision_name: str,
    hooks: Hooks = Hooks(),
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Trains ``model`` in place, writing ``metrics.jsonl`` and ``checkpoints/`` under ``folder``.

    A ``ModelPlan`` is made here, on every rank its part; its ``model`` is then the trained one. Continues from the
    newest complete checkpoint there. Raises ``Interrupted`` after saving when ``hooks.stop()`` turns true on any rank,
    and ``DivergedError`` when a loss, a gradient, the weights or the last validation are not finite: the newest
    checkpoint is then the newest finite state.
    """
    run = _prepared(model, data, config, _context(data, config, objective, precision_name, ranks))
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder / "checkpoints", ranks, config.keep_last, config.keeps)
    start, spent = _resume(run, checkpoints)
    if ranks.is_first:
        drop_after(folder / "metrics.jsonl", start)
    with disk_errors(folder):
        tracker = open_tracker(config.tracker, folder, config.canonical()) if ranks.is_first else None
        metrics = MetricsLog(folder / "metrics.jsonl", tracker, active=ranks.is_first)
        session = Session(checkpoints, metrics, time.monotonic() - spent)
        try:
            _steps(run, start, session, hooks)
            spent = session.seconds
            checkpoints.wait()
        except DivergedError:
            checkpoints.wait()  # the newest finite state is complete before anybody hears
            raise
        finally:
            metrics.close()
    ranks.barrier()
    ce = last_validation(folder / "metrics.jsonl")
    return TrainingResult(run.total, run.total * run.tokens_per_step, spent, ce, run.student.further)


def _prepared(
    model: PreTrainedModel | ModelPlan, data: TrainingData, config: TrainingConfig, context: StepContext
) -> TrainingRun:
    """The student on this rank, its optimizers and how far they will go."""
    student = prepare(model, config, context.objective, context.ranks)
    length = data.train.sequence_length
    heads = context.objective.heads - 1
    flops = size_of_model(student.model).flops_per_token(length, backward=True, further_heads=heads)
    total = num_steps(config, len(data.train), length, flops)
    if config.keep and max(config.keep) > total:
        raise UserError(
            f"training.keep: names step {max(config.keep)}, but the run has {total} steps; name steps up to that."
        )
    return TrainingRun(student, build_optimizers(student, config), data, config, context, total, flops)


def _context(
    data: TrainingData, config: TrainingConfig, objective: ObjectiveConfig, precision_name: str, ranks: Ranks
) -> StepContext:
    labels = data.labels
    if isinstance(labels, LiveTeacher):
        labels = prepare_teacher(labels, config, ranks)
    return StepContext(objective, labels, data.isolate, data.label_temperature, precision_name, ranks)


def _resume(run: TrainingRun, checkpoints: Checkpoints) -> tuple[int, float]:
    """Loads the newest checkpoint; returns the steps done and the seconds spent."""
    found = checkpoints.latest()
    if found is None:
        return 0, 0.0
    path, state = found
    checkpoints.load(path, run.student, run.optimizers)
    checkpoints.forget_after(int(state["step"]))
    return int(state["step"]), float(state["seconds"])


def _steps(run: TrainingRun, start: int, session: Session, hooks: Hooks) -> None:
    """Every step from ``start`` on."""
    last_save, learned = time.monotonic(), False
    for step in range(start, run.total):
        done, is_last = step + 1, step + 1 == run.total
        learned |= _logged_step(run, step, session, hooks)
        if is_last and not learned:
            raise DivergedError(
                f"step {done}: every step from {start + 1} on was left out, as its loss or gradient was not finite; "
                "check the weights of model and teacher, or set training.non_finite=stop to see the first."
            )
        if hooks.progress is not None:
            hooks.progress(done * run.tokens_per_step, run.total * run.tokens_per_step)
        due = is_last or _is_due(run.config, done, time.monotonic() - last_save)
        asked, due = run.context.ranks.any_of(hooks.stop(), due)
        if due or asked:
            _save(run, done, session)
            last_save = time.monotonic()
        if asked and not is_last:
            session.checkpoints.wait()
            raise Interrupted(str(session.checkpoints.folder))


def _logged_step(run: TrainingRun, step: int, session: Session, hooks: Hooks) -> bool:
    """One step, what it says in the metrics, and a validation where one is due; whether the step was taken."""
    config, done = run.config, step + 1
    tokens = {"tokens": done * run.tokens_per_step}
    try:
        record = _timed_step(run, step, session.metrics)
    except DivergedError:
        _save(run, step, session)
        raise
    if record is not None:
        session.metrics.write("train", done, tokens | record)
        if hooks.loss is not None:
            hooks.loss(record["loss"])
    if done == run.total or (config.validate_every and done % config.validate_every == 0):
        ce = validate(run.student, run.data.heldout, run.context)
        session.metrics.write("validation", done, tokens | {"ce": ce})
        if done == run.total and not math.isfinite(ce):
            _finite_tensors(run, done)
            raise DivergedError(
                f"step {done}: the cross-entropy of the held-out sequences is {ce} after the last step, expected a "
                "number; lower training.learning_rate, or look at the held-out text."
            )
    return record is not None


def _save(run: TrainingRun, step: int, session: Session) -> None:
    session.metrics.flush()
    state = {"seconds": session.seconds, "seed": run.config.seed}
    session.checkpoints.save(step, _finite_tensors(run, step), state)


def _finite_tensors(run: TrainingRun, step: int) -> dict[str, torch.Tensor]:
    """The run's weights and moments after ``step``; raises ``DivergedError`` where they are not finite."""
    tensors = run_tensors(run.student, run.optimizers)
    if not run.context.ranks.any(not all_finite(tensors.values())):
        return tensors
    if step == 0:
        raise DivergedError(
            "step 0: the weights that training starts from are not finite; check model.path, or the file it names."
        )
    raise DivergedError(
        f"step {step}: the weights or the optimizer's moments after it are not finite, so they are not saved; lower "
        "training.learning_rate and begin again, or from the newest checkpoint, which is finite."
    )


def _is_due(config: TrainingConfig, done: int, seconds: float) -> bool:
    """Whether a checkpoint is, by steps or by the seconds since the last one, or because this step's is kept."""
    if config.keeps(done):
        return True
    if config.checkpoint_steps is not None:
        return done % config.checkpoint_steps == 0
    return seconds >= config.checkpoint_seconds


def _timed_step(run: TrainingRun, step: int, metrics: MetricsLog) -> dict[str, float] | None:
    """One optimizer step and its record; None where the step was left out."""
    begin = time.monotonic()
    size, window = len(run.data.train), run.data.shuffle_sequences
    indices = batch_indices(step, run.config.batch_sequences, size, run.config.seed, window)
    record = _step(run, step, indices.tolist())
    if _all_finite(record):
        for optimizer in run.optimizers:
            optimizer.step()
        return record | _speed(run, time.monotonic() - begin)
    _finite_tensors(run, step)  # what cannot get better is not worth a skip
    is_teachers = _is_teachers_fault(run, step, indices.tolist())
    if run.config.non_finite == "skip":
        blamed = {"teacher": "not finite"} if is_teachers else {}
        metrics.write("skipped", step + 1, {"sequences": indices.tolist()} | record | blamed)
        return None
    mend = "check the teacher's weights" if is_teachers else "lower training.learning_rate"
    raise DivergedError(
        f"step {step + 1}: the loss is {record.get('loss')} and the gradient norm {record['gradient_norm']}"
        f"{', as the scores of the teacher are not finite' if is_teachers else ''}; its sequences are "
        f"{_few(indices.tolist())} and the weights before it are saved; {mend}, or set training.non_finite=skip to "
        "leave such steps out."
    )


def _objective(run: TrainingRun, step: int) -> ObjectiveConfig:
    """The objective of a step, with no schedule left in it."""
    return objective_at(run.context.objective, Progress(step * run.tokens_per_step, run.total * run.tokens_per_step))


def _is_teachers_fault(run: TrainingRun, step: int, indices: list[int]) -> bool:
    """Whether what the teacher says of a step's sequences is not finite, on any rank."""
    context, objective, found = run.context, _objective(run, step), True
    for batch in _micro_batches(run, indices):
        with precision(context.precision_name, context.ranks.device):
            labels = teacher_labels(context, objective, batch.to(context.ranks.device))
            found &= teacher_is_finite(labels)
    return context.ranks.any(not found)


def _speed(run: TrainingRun, seconds: float) -> dict[str, float]:
    ranks, rate = run.context.ranks, run.tokens_per_step / seconds
    values = {"tokens_per_second": rate, "memory_bytes": peak_memory_bytes(ranks.device)}
    peak = peak_flops(ranks.device.type, run.context.precision_name)
    if peak is not None:
        values["fraction_of_peak"] = rate * run.flops_per_token / (peak * ranks.size)
    return values


def _few(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:16])
    return f"{shown} and {len(numbers) - 16} more" if len(numbers) > 16 else shown


def _all_finite(record: dict[str, float]) -> bool:
    return all(math.isfinite(value) for value in record.values())


def _step(run: TrainingRun, step: int, indices: list[int]) -> dict[str, float]:
    """Leaves the clipped gradient of a step in the parameters; returns its means and norm, not yet applied."""
    config, ranks = run.config, run.context.ranks
    torch.manual_seed(_step_seed(config.seed, step, ranks.data_rank))
    objective = _objective(run, step)
    micro_batches = _micro_batches(run, indices)
    factor = learning_rate_factor(config, step, run.total)
    set_learning_rate(run.optimizers, factor)
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
    sums = global_step(run.student, micro_batches, run.context, objective, seed=config.seed + step)
    finish = sums.begin_totals(ranks)  # on their way while gradients are clipped
    norm = clip_gradients(run.student, config.gradient_clip)
    totals = finish()
    if step == 0:
        require_terms({name: weight for name, (_, weight) in totals.items()})
    return {name: nats / weight for name, (nats, weight) in totals.items() if weight > 0} | {
        "gradient_norm": norm,
        "learning_rate": config.learning_rate * factor,
        "alpha": objective.alpha,
    }


def _micro_batches(run: TrainingRun, indices: list[int]) -> list[Batch]:
    """This rank's part of a step's sequences."""
    ranks = run.context.ranks
    share = len(indices) // ranks.data_size
    mine = indices[ranks.data_rank * share : (ranks.data_rank + 1) * share]
    return split_batch(run.data.train.batch(mine), min(run.config.micro_batch_sequences or share, share))


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Randomness of a step (dropout, where a model has it) is a function of these, so no generator state is saved."""
    return (seed * 1_000_003 + step) * 4099 + rank
