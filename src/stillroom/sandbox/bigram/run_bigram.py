"""The bigram sandbox from its options to a run folder: cells that are measured once and reused, then one summary.

A run folder holds ``config.yaml`` (the resolved options), ``environment.json`` and ``sandbox.json``, which is all that
the report reads. Cells live beside it, named by what determines them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from stillroom.files import read_json_object
from stillroom.results.bigram_file import KIND, ArmCell, BigramTheory, GradientCell, RatioCell, TransformerCell
from stillroom.results.json_form import from_json, read, write
from stillroom.results.schema import StageRecord
from stillroom.results_versions import results_version
from stillroom.sandbox.bigram.bigram_cells import gradient_cell, ratio_cell, seed_cell, theory_cell
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.bigram_summary import SweepCells, summarise
from stillroom.sandbox.bigram.tabular import Arm
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.environment import this_environment
from stillroom.study.folders import RunFolder
from stillroom.study.identities import Identity
from stillroom.study.interrupts import Stopper
from stillroom.study.needs import Needs
from stillroom.study.progress import StageDisplay, StageProgress
from stillroom.training.errors import Interrupted
from stillroom.worlds.bigram import BigramWorld

_RATIO = {"states", "world_seed", "ratio_tolerances", "seeds"}
_GRADIENT = {"alphas", "teachers", "temperatures", "routings", "hard_weight", "visits", "gradient_samples"}
_SWEEP = (_GRADIENT - {"gradient_samples"}) | {"samples", "ks"}
_TRANSFORMER = {"transformer_tokens"}
Key = Mapping[str, str | int]
"""What tells a cell from others of its kind."""
Make = Callable[[Path, "_Part"], None]
"""Measures a cell into a folder and tells how far it is."""
C = TypeVar("C")


def check_folder(sweep: BigramSweep, out: Path | None) -> RunFolder:
    """The run folder of a sweep; refuses one that other options made. Writes nothing."""
    return RunFolder.of(sweep, KIND, KIND, out, "with other options")


def run_bigram(sweep: BigramSweep, out: Path | None, artifacts: Path | None, display: StageDisplay) -> Path:
    """Measures every cell that is not there yet and returns the run folder, complete but for the report.

    Raises ``UserError`` for a mistake, ``KeyboardInterrupt`` or ``SystemExit`` when stopped; finished cells are kept,
    and the same call goes on from there.
    """
    begin = time.monotonic()
    folder = check_folder(sweep, out)
    world = sweep.make_world()
    artifacts = artifacts or folder.artifacts
    cells = Cells(world, sweep, ArtifactStore(artifacts, Needs.of_run(artifacts, folder.path)), display)
    with Stopper() as stopper, folder.claimed(display.damaged):
        summary = summarise(world, sweep, _measure(cells, stopper))
        results = replace(
            summary,
            stages=tuple(cells.stages),
            total_seconds=round(time.monotonic() - begin, 1),
            places={"cells": tuple(os.path.relpath(cell, folder.path) for cell in cells.folders)},
        )
        with folder.written(["environment.json", "sandbox.json"]):
            write(folder.path / "environment.json", this_environment())
            write(folder.path / "sandbox.json", results)
    return folder.path


def _measure(cells: Cells, stopper: Stopper) -> SweepCells:
    """Every cell of a sweep, stage by stage."""
    world, sweep = cells.world, cells.sweep
    seeds = [({"seed": seed}, _cell(seed_cell, world, sweep, seed)) for seed in range(sweep.seeds)]
    ratios = [({"support": support}, _cell(ratio_cell, sweep, support)) for support in sweep.ratio_supports]
    learners = range(sweep.gradient_seeds if sweep.gradient_samples else 0)
    gradient = [({"seed": seed}, _cell(gradient_cell, world, sweep, seed)) for seed in learners]
    return SweepCells(
        seeds=cells.made("samples", _SWEEP, seeds, _read_arms),
        theory=cells.made("theory", _SWEEP, [({}, _cell(theory_cell, world, sweep))], partial(read, BigramTheory))[0],
        ratios=cells.made("sample ratio", _RATIO, ratios, partial(read, RatioCell)),
        gradient=cells.made("gradient", _GRADIENT, gradient, partial(read, GradientCell)),
        transformer=_transformer_cells(cells, stopper),
    )


def _cell(measure: Callable[..., object], *asked: object) -> Make:
    """Writes what a part of the sweep measures."""
    return lambda work, _: write(work / "cell.json", measure(*asked))


def _read_arms(file: Path) -> dict[str, ArmCell]:
    return {name: from_json(ArmCell, value, file) for name, value in read_json_object(file).items()}


@dataclass
class Cells:
    """Measures cells into the store, with a stage on the display for every kind."""

    world: BigramWorld
    sweep: BigramSweep
    store: ArtifactStore
    display: StageDisplay
    stages: list[StageRecord] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def identity(self, kind: str, fields: set[str], key: Key) -> Identity:
        """What determines a cell: the world, the options that it reads, and what tells it from its like."""
        options = {name: value for name, value in self.sweep.canonical().items() if name in fields}
        version = results_version(f"{KIND}-transformer" if kind == "transformer" else KIND)
        return {"cell": kind, "key": key, "world": self.world.identity(), "options": options, **version}

    def made(
        self, kind: str, fields: set[str], asked: Sequence[tuple[Key, Make]], read_cell: Callable[[Path], C]
    ) -> list[C]:
        """The cells of a kind, read where they are there already; a cell writes ``cell.json`` into its folder."""
        if not asked:
            return []
        begin, found, reused = time.monotonic(), [], 0
        with self.display.stage(f"bigram {kind}", unit="%") as update:
            self.display.kept(self.store.older(KIND, self.identity(kind, fields, asked[0][0])))
            for number, (key, make) in enumerate(asked):
                part = _Part(update, number, len(asked))
                cell = self.store.build(
                    KIND, self.identity(kind, fields, key), partial(_made_in, make, part),
                    say=lambda damage: self.display.damaged(f"bigram {kind}", damage),
                )  # fmt: skip
                self.folders.append(cell.path)
                reused += cell.reused
                found.append(read_cell(cell.path / "cell.json"))
                part(1, 1)
        seconds = round(time.monotonic() - begin, 2)
        self.stages.append(StageRecord(name=kind, seconds=seconds, reused=reused == len(asked)))
        return found


def _made_in(make: Make, part: _Part, work: Path) -> None:
    make(work, part)


@dataclass(frozen=True)
class _Part:
    """Moves the bar of a stage within one of its cells."""

    stage: StageProgress
    number: int
    count: int

    def __call__(self, done: int, total: int) -> None:
        self.stage(round(100 * (self.number + done / max(1, total))), 100 * self.count)


def _transformer_cells(cells: Cells, stopper: Stopper) -> dict[str, list[TransformerCell]]:
    """Cells of every drawn arm and seed, by arm; empty where no transformer was asked for."""
    sweep = cells.sweep
    if not sweep.transformer_tokens:
        return {}
    from stillroom.sandbox.bigram.bigram_transformer import transformer_cell
    from stillroom.training import Hooks

    def train(arm: Arm, seed: int, work: Path, part: _Part) -> None:
        with stopper.cooperative():
            hooks = Hooks(part, stopper.asked, part.stage.loss)
            transformer_cell(work, cells.world, sweep, arm, seed, hooks=hooks)

    places = [(arm, seed) for arm in sweep.transformer_arms() for seed in range(sweep.transformer_seeds)]
    asked = [({"arm": arm.name, "seed": seed}, partial(train, arm, seed)) for arm, seed in places]
    made: list[TransformerCell] = []
    try:
        made = cells.made("transformer", _TRANSFORMER, asked, partial(read, TransformerCell))
    except Interrupted:
        stopper.leave()
    by_arm: dict[str, list[TransformerCell]] = {}
    for (arm, _), cell in zip(places, made, strict=True):
        by_arm.setdefault(arm.name, []).append(cell)
    return by_arm
