"""One cell of a recall study: one student (or one teacher) at one seed, trained by the package's own loop and probed.

A cell is a folder with ``result.json``, ``probes.jsonl`` and ``metrics.jsonl``; what it measures is in
``recall_probes``. Probes lie on a logarithmic scale of steps.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.analysis import head_scores
from stillroom.config import ObjectiveConfig
from stillroom.files import write_json
from stillroom.models import build_model, export_model, load_model, precision_name
from stillroom.results.json_form import as_json
from stillroom.results.statistics import require_finite_parts
from stillroom.sandbox.recall.recall_config import RecallConfig, RecallTeacherConfig
from stillroom.sandbox.recall.recall_data import known_teacher, make_recall_world
from stillroom.sandbox.recall.recall_probes import RecallTruth, attention_picture, head_measures, measure, recall_truth
from stillroom.teachers import LabelSource, LiveTeacher
from stillroom.training import Hooks, TrainingData, join, train
from stillroom.training.metrics import drop_after
from stillroom.types import OnProgress, SpecialIds
from stillroom.worlds.recall import RecallWorld
from stillroom.worlds.recall_sequences import RecallLabels, RecallSequences

HELDOUT_SEED = 1_000_003
"""Of the sequences that every student is measured on; no training seed comes near it."""
TEACHER_SEED = 10_007
"""Added to a student's seed for the seed of its trained teacher: other weights, other data."""
PICTURE_TOKENS = 24
PICTURE_SHARES = (1 / 8, 1 / 3, 1.0)
"""A picture of attention is taken at the probes nearest to these parts of the run."""
_SNAPSHOT_EVERY = 5
"""Steps between a trained teacher's looks at its own copy accuracy."""
_REPEATS, _SEQUENCES = 4, 32


@dataclass(frozen=True)
class Cell:
    """What is trained: a student of ``arm`` or, where that is None, the teachers of a seed."""

    arm: str | None
    seed: int

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.arm or 'teacher'}, seed {self.seed}"


def probe_steps(total: int, per_doubling: int) -> list[int]:
    """Steps to probe after: 1, then ``per_doubling`` for every doubling, and the last."""
    steps = {1, total}
    place = 0
    while (step := round(2 ** (place / per_doubling))) < total:
        steps.add(step)
        place += 1
    return sorted(steps)


def _append(path: Path, record: dict[str, Any]) -> None:
    require_finite_parts(record)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


@dataclass
class _Probing:
    """Called by the training loop after every step; measures where a probe is due."""

    config: RecallConfig
    model: PreTrainedModel
    truth: RecallTruth
    folder: Path
    precision: str
    snapshots: dict[str, float]
    """Names of a trained teacher's snapshots and the copy accuracy at which each is taken."""
    update: OnProgress | None
    due: frozenset[int] = frozenset()
    begun: bool = False
    taken: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def pictured(self) -> set[int]:
        """Steps at which a picture of attention is taken."""
        return {min(self.due, key=lambda step: abs(step - share * max(self.due))) for share in PICTURE_SHARES}

    def __call__(self, done: int, total: int) -> None:
        step, last = done // self.config.tokens_per_step, total // self.config.tokens_per_step
        if not self.begun:  # steps after the checkpoint that training went on from are probed again
            for name in ("probes.jsonl", "attention.jsonl"):
                drop_after(self.folder / name, step - 1)
            self.begun = True
        if step in self.due:
            self._probe(step, done)
        if self.snapshots and (step % _SNAPSHOT_EVERY == 0 or step == last):
            self._snapshot(step, is_last=step == last)
        if self.update is not None:
            self.update(done, total)

    def _probe(self, step: int, done: int) -> None:
        record: dict[str, Any] = {"step": step, "tokens": done}
        record |= measure(self.model, self.truth, self.precision)
        record |= head_measures(self.model, self.truth, self.config.probes.pattern_sequences)
        _append(self.folder / "probes.jsonl", record)
        if self.config.keep_models and step in self.pictured:
            picture = attention_picture(self.model, self.truth, PICTURE_TOKENS)
            _append(self.folder / "attention.jsonl", {"step": step, "tokens_seen": done} | picture)

    def _snapshot(self, step: int, *, is_last: bool) -> None:
        missing = [name for name in self.snapshots if not (self.folder / name / "taken.json").exists()]
        if not missing:
            return
        found = measure(self.model, self.truth, self.precision)
        reached = found["copy_accuracy"] or 0.0
        for name in missing:
            if is_last or reached >= self.snapshots[name]:
                export_model(self.model, self.folder / name)
                write_json(self.folder / name / "taken.json", {"step": step} | found)


def train_cell(
    folder: Path,
    config: RecallConfig,
    cell: Cell,
    *,
    teacher_folder: Path | None = None,
    hooks: Hooks = Hooks(),
) -> None:
    """Trains and measures a cell into ``folder``, going on where a killed call stopped.

    Arguments:
        folder: of the cell.
        config: of the study.
        cell: which arm and seed.
        teacher_folder: the finished teacher cell of this seed, where the arm's teacher is a trained one.
        hooks: what hears of its steps, and whether to save and raise ``training.Interrupted``.
    """
    begin = time.monotonic()
    seed = cell.seed + (TEACHER_SEED if cell.arm is None else 0)
    world = make_recall_world(config.world)
    length, training = config.world.sequence_length, config.training.model_copy(update={"seed": seed})
    stream = RecallSequences(world, config.steps * training.batch_sequences, length, seed)
    truth = recall_truth(world, config.probes.sequences, length, HELDOUT_SEED)
    model = build_model(config.model, world.vocab_size, seed, special=SpecialIds())
    ranks = join(training.parallel)
    precision = precision_name(training.precision, ranks.device)
    probing = _Probing(
        config, model, truth, folder, precision,
        snapshots=_snapshots(config) if cell.arm is None else {},
        update=hooks.progress, due=frozenset(probe_steps(config.steps, config.probes.per_doubling)),
    )  # fmt: skip
    labels = _labels(config, cell, stream, teacher_folder, precision)
    heldout = RecallSequences(world, config.probes.sequences, length, HELDOUT_SEED)
    objective = ObjectiveConfig() if cell.arm is None else config.arms[cell.arm].objective
    data = TrainingData(stream, heldout, labels, isolate=False)
    train(
        model, data, training, objective, folder,
        precision_name=precision, hooks=replace(hooks, progress=probing), ranks=ranks,
    )  # fmt: skip
    _finish(folder, config, cell, model, world, time.monotonic() - begin)


def _snapshots(config: RecallConfig) -> dict[str, float]:
    """The trained teachers and the copy accuracy at which each is taken."""
    return {name: one.until for name, one in config.teachers.items() if one.kind == "trained"}


def _labels(
    config: RecallConfig, cell: Cell, stream: RecallSequences, teacher_folder: Path | None, precision: str
) -> LabelSource | None:
    name = None if cell.arm is None else config.arms[cell.arm].teacher
    if name is None:
        return None
    teacher: RecallTeacherConfig = config.teachers[name]
    if teacher.kind != "trained":
        return RecallLabels(stream, known_teacher(teacher))
    assert teacher_folder is not None, "a trained teacher is made before its students"
    return LiveTeacher(load_model(teacher_folder / name), precision, isolate=False)


def _finish(
    folder: Path,
    config: RecallConfig,
    cell: Cell,
    model: PreTrainedModel,
    world: RecallWorld,
    seconds: float,
) -> None:
    """Writes ``result.json``; the checkpoints have done their work."""
    model.eval()
    record: dict[str, Any] = {"arm": cell.arm, "seed": cell.seed, "seconds": round(seconds, 2)}
    record["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    record["random_tokens"] = _random_token_scores(model, world)
    write_json(folder / "result.json", record)
    if config.keep_models and cell.arm is not None:
        export_model(model, folder / "model")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _random_token_scores(model: PreTrainedModel, world: RecallWorld) -> dict[str, Any]:
    """Olsson et al.'s scores on random characters that repeat: what of the heads does not hang on this world."""
    period = min(15, (model.config.max_position_embeddings - 1) // _REPEATS)
    tokens_BT = repeated_characters(world, _SEQUENCES, period)
    return as_json(head_scores(model, tokens_BT, period=period, start=0).result())


def repeated_characters(world: RecallWorld, num: int, period: int) -> Tensor:
    """``num`` sequences of ``period`` different random characters, said ``_REPEATS`` times."""
    generator = torch.Generator().manual_seed(HELDOUT_SEED)
    orders = torch.rand(num, world.vocab_size, generator=generator).argsort(dim=1)[:, :period]
    return orders.repeat(1, _REPEATS)
