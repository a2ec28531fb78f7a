"""Runs a recall study: every cell that is not there yet, then the run folder that the report reads.

runs/recall-<fingerprint>/
  config.yaml  environment.json  sandbox.json  report.html
  cells/<hash of what determines it>/      one per arm and seed, shared by studies that need the same
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.files import read_json_lines, read_json_object, shaped
from stillroom.results.json_form import read, read_lines, write
from stillroom.results.recall_file import (
    AttentionPicture,
    OverSeeds,
    RecallArmResult,
    RecallCellResult,
    RecallProbe,
    RecallResults,
    RecallSeed,
    RecallTeacherResult,
    RecallWorldFacts,
    RoutingAsked,
)
from stillroom.results_versions import results_version
from stillroom.sandbox.recall.recall_cell import HELDOUT_SEED, Cell, train_cell
from stillroom.sandbox.recall.recall_config import RecallConfig
from stillroom.sandbox.recall.recall_data import make_recall_world
from stillroom.sandbox.recall.recall_probes import HIGH_NATS, LOW_NATS, recall_truth
from stillroom.sandbox.recall.recall_results import KINDS, cell_crossings, mean_where_found, tokens_over_seeds
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.environment import this_environment
from stillroom.study.folders import RunFolder
from stillroom.study.interrupts import Stopper
from stillroom.study.needs import Needs
from stillroom.study.own_precision import own_precision
from stillroom.study.processes import in_processes
from stillroom.study.progress import StageDisplay
from stillroom.training import Hooks, Interrupted

FINAL = (
    "copy_accuracy",
    "copy_loss",
    "loss",
    "kl",
    "kl_high",
    "kl_low",
    "kl_first",
    "over_copying",
    "calibration_error",
)


@dataclass(frozen=True)
class Cells:
    """Where the cells of a study lie."""

    config: RecallConfig
    store: ArtifactStore

    def identity(self, cell: Cell) -> dict[str, object]:
        """Everything that determines a cell; the same in every study that asks for it."""
        config = self.config
        identity: dict[str, object] = {
            "method": 1,  # cells carried this before results had versions
            **results_version("sandbox-recall"),
            "world": config.world.canonical(),
            "model": config.model.canonical(),
            "training": config.training.identity() | {"seed": cell.seed, "precision": self.precision},
            "probes": config.probes.canonical(),
            "seed": cell.seed,
        }
        trained = {name: one.until for name, one in config.teachers.items() if one.kind == "trained"}
        if cell.arm is None:
            return identity | {"snapshots": sorted(trained.items())}
        arm = config.arms[cell.arm]
        identity["objective"] = arm.objective.canonical()
        if arm.teacher is not None:
            teacher = config.teachers[arm.teacher]
            taken = {"snapshots": sorted(trained.items()), "name": arm.teacher} if teacher.kind == "trained" else {}
            identity["teacher"] = teacher.canonical() | taken
        return identity

    @property
    def precision(self) -> str:
        """What ``auto`` stands for on this machine."""
        return own_precision(self.config.training.precision)

    def folder(self, cell: Cell) -> Path:
        """Where a cell is or will be."""
        return self.store.locate(_kind(cell), self.identity(cell))[0]

    def is_there(self, cell: Cell) -> bool:
        """Whether a cell is finished, and every byte of it as it was written."""
        return self.store.find(_kind(cell), self.identity(cell)) is not None

    def needed(self) -> tuple[list[Cell], list[Cell]]:
        """The teachers that arms ask for, and the students; seed by seed, so that a study cut short is balanced."""
        config = self.config
        used = [config.teachers[arm.teacher].kind for arm in config.arms.values() if arm.teacher is not None]
        teachers = [Cell(None, seed) for seed in config.seeds] if "trained" in used else []
        return teachers, [Cell(name, seed) for seed in config.seeds for name in config.arms]

    def build(self, cell: Cell, display: StageDisplay, stopper: Stopper | None) -> None:
        """Trains a cell that is not there yet."""
        arm = None if cell.arm is None else self.config.arms[cell.arm]
        wants = arm is not None and arm.teacher is not None and self.config.teachers[arm.teacher].kind == "trained"
        teacher_folder = self.folder(Cell(None, cell.seed)) if wants else None

        stop = stopper.asked if stopper is not None else lambda: False
        with display.stage(cell.title) as update:
            hooks = Hooks(update, stop, update.loss)
            self.store.build(
                _kind(cell), self.identity(cell),
                lambda work: train_cell(work, self.config, cell, teacher_folder=teacher_folder, hooks=hooks),
                say=lambda damage: display.damaged(cell.title, damage),
            )  # fmt: skip


def _kind(cell: Cell) -> str:
    return "teacher" if cell.arm is None else "student"


def run_recall(
    config: RecallConfig, out: Path | None, display: StageDisplay, *, jobs: int = 1, cells_folder: Path | None = None
) -> Path:
    """Trains every cell that is missing and returns the run folder, complete but for the report.

    Arguments:
        config: of the study.
        out: the run folder; by default ``runs/NAME-FINGERPRINT``.
        display: what a person sees.
        jobs: cells trained at once, each on one thread; 1 trains one after another on all threads.
        cells_folder: where cells are kept; by default ``cells/`` in the run folder.

    Raises ``UserError`` for a mistake, ``KeyboardInterrupt`` or ``SystemExit`` when stopped: what was complete is kept,
    and the same call goes on from there.
    """
    begin = time.monotonic()
    run = RunFolder.of(config, "recall", config.name, out)
    folder = run.path
    with run.claimed(display.damaged):
        needs = None if cells_folder is None else Needs.of_run(cells_folder, folder)  # cells inside are the run's own
        cells = Cells(config, ArtifactStore(cells_folder or folder / "cells", needs))
        for cell in (one for wave in cells.needed() for one in wave):
            cells.store.mark(cells.folder(cell).name)
        build_cells(cells, display, jobs=jobs)
        folders = [cells.folder(cell) for wave in cells.needed() for cell in wave]
        places = {"cells": tuple(os.path.relpath(one, folder) for one in folders)}
        with run.written(["environment.json", "sandbox.json"]):
            write(folder / "environment.json", this_environment(cells.precision))
            write(folder / "sandbox.json", results(cells, time.monotonic() - begin, places))
    return folder


def build_cells(cells: Cells, display: StageDisplay, *, jobs: int = 1, limit: int | None = None) -> None:
    """Trains the cells that are missing (at most ``limit``), teachers first; see ``run_recall``."""
    for wave in cells.needed():
        missing = [cell for cell in wave if not cells.is_there(cell)]
        for cell in wave:
            if cell not in missing:
                display.reused(cell.title)
        if limit is not None:
            missing = missing[:limit]
            limit -= len(missing)
        if jobs > 1 and len(missing) > 1:
            _in_parallel(cells, missing, jobs, display)
        else:
            _in_turn(cells, missing, display)
        if limit == 0:
            return


def _in_turn(cells: Cells, missing: list[Cell], display: StageDisplay) -> None:
    with Stopper() as stopper:
        try:
            for cell in missing:
                with stopper.cooperative():
                    cells.build(cell, display, stopper)
        except Interrupted:
            stopper.leave()


def _in_parallel(cells: Cells, missing: list[Cell], jobs: int, display: StageDisplay) -> None:
    shown = display.is_shared
    tasks = [(cells.config.model_dump_json(), str(cells.store.root), cell, shown) for cell in missing]
    in_processes(_build_task, tasks, jobs, display, "cells")


def _build_task(task: tuple[str, str, Cell, bool]) -> tuple[str, None]:
    text, root, cell, shown = task
    cells = Cells(RecallConfig.model_validate_json(text), ArtifactStore(Path(root)))
    cells.build(cell, StageDisplay.of_child(shown), None)
    return cell.title, None


def results(cells: Cells, seconds: float, places: Mapping[str, tuple[str, ...]]) -> RecallResults:
    """``sandbox.json``: the world's truth, and per arm its curves at every seed and what they come to."""
    config = cells.config
    return RecallResults(
        kind="recall",
        name=config.name,
        fingerprint=config.fingerprint(),
        world=_world_facts(config),
        teachers=dict(_teacher_results(cells)),
        arms=tuple(_arm_result(cells, name) for name in config.arms),
        seeds=config.seeds,
        steps=config.steps,
        tokens=config.steps * config.tokens_per_step,
        total_seconds=round(seconds, 1),
        places=places,
    )


def _world_facts(config: RecallConfig) -> RecallWorldFacts:
    world = make_recall_world(config.world)
    truth = recall_truth(world, config.probes.sequences, config.world.sequence_length, HELDOUT_SEED)
    characters = world.bigrams.characters
    is_fixed = config.world.draw == "fixed"
    return RecallWorldFacts(
        **dict(config.world),
        symbols=tuple(characters),
        trigger_symbols=tuple(characters[place] for place in world.fixed_K) if is_fixed else None,
        optimal_loss=truth.optimal_loss,
        scored_per_sequence=float(truth.is_scored_BT.sum(1).double().mean()),
        chance_loss=math.log(world.vocab_size),
        high_nats=HIGH_NATS,
        low_nats=LOW_NATS,
    )


def _teacher_results(cells: Cells) -> Iterator[tuple[str, RecallTeacherResult]]:
    """Every teacher that is used: its configuration, and how good a trained one is over seeds."""
    used = {arm.teacher for arm in cells.config.arms.values()}
    for name, teacher in cells.config.teachers.items():
        if name in used:
            measured = _measured(cells, name) if teacher.kind == "trained" else None
            yield name, RecallTeacherResult(**dict(teacher), measured=measured)


def _measured(cells: Cells, teacher: str) -> dict[str, OverSeeds | None]:
    """What a trained teacher was when it was taken."""
    taken: dict[int, dict[str, float | None]] = {}
    for seed in cells.config.seeds:
        file = cells.folder(Cell(None, seed)) / teacher / "taken.json"
        found: dict[str, Any] = read_json_object(file)
        with shaped(file, "that of a teacher that was trained"):
            taken[seed] = {measure: found[measure] for measure in ("step", *FINAL)}
    return {
        measure: mean_where_found(measure, {seed: found[measure] for seed, found in taken.items()})
        for measure in ("step", *FINAL)
    }


def _arm_result(cells: Cells, name: str) -> RecallArmResult:
    arm, first = cells.config.arms[name], cells.config.seeds[0]
    seeds = {seed: _read_cell(cells.folder(Cell(name, seed)), seed == first) for seed in cells.config.seeds}
    routing = arm.objective.routing
    return RecallArmResult(
        name=name,
        label=arm.label,
        alpha=arm.objective.alpha,
        teacher=arm.teacher,
        routing=None if routing is None else RoutingAsked(rule=routing.rule, share=routing.share),
        seeds=tuple(seeds.values()),
        final={
            measure: mean_where_found(measure, {seed: getattr(one.probes[-1], measure) for seed, one in seeds.items()})
            for measure in FINAL
        },
        half={
            measure: tokens_over_seeds({seed: getattr(one.crossings, measure) for seed, one in seeds.items()})
            for measure in ("copy_accuracy", "copy_accuracy_80", *KINDS)
        },
    )


def _read_cell(folder: Path, with_pictures: bool) -> RecallSeed:
    result = read(RecallCellResult, folder / "result.json")
    probes, pictures = read_lines(RecallProbe, folder / "probes.jsonl"), folder / "attention.jsonl"
    return RecallSeed(
        **vars(result),
        probes=probes,
        crossings=cell_crossings(probes),
        attention=read_lines(AttentionPicture, pictures) if with_pictures and pictures.exists() else (),
        routed_share=_routed_share(folder / "metrics.jsonl"),
    )


def _routed_share(path: Path) -> float | None:
    """Mean share of routed positions over the run; None where nothing is routed."""
    records: list[dict[str, Any]] = read_json_lines(path)
    shares = [record["routed_share"] for record in records if record.get("routed_share") is not None]
    return sum(shares) / len(shares) if shares else None
