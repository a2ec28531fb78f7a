"""The bigram sandbox from its options to a run folder: cells that are measured once and reused, then one summary.

A run folder holds ``config.yaml`` (the resolved options), ``environment.json`` and ``sandbox.json``, which is all that
the report reads. Cells live beside it, named by what determines them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillroom.files import read_json_object, write_json
from stillroom.results.json_form import write
from stillroom.results_versions import results_version
from stillroom.sandbox.bigram.bigram_cells import gradient_cell, ratio_cell, seed_cell, theory_cell
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.bigram_summary import summarise
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.environment import this_environment
from stillroom.study.folders import RunFolder
from stillroom.study.identities import Identity
from stillroom.study.interrupts import Stopper
from stillroom.study.needs import Needs
from stillroom.study.progress import StageDisplay, StageProgress
from stillroom.training.errors import Interrupted
from stillroom.worlds.bigram import BigramWorld

KIND = "sandbox-bigram"
_RATIO = {"states", "world_seed", "ratio_tolerances", "seeds"}
_GRADIENT = {"alphas", "teachers", "temperatures", "routings", "hard_weight", "visits", "gradient_samples"}
_SWEEP = (_GRADIENT - {"gradient_samples"}) | {"samples", "ks"}
_TRANSFORMER = {"transformer_tokens"}
Key = dict[str, Any]
"""What tells a cell from others of its kind."""
Values = Mapping[str, Any]


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
        each = [{"seed": seed} for seed in range(max(sweep.seeds, sweep.gradient_seeds))]
        seeds = cells.many("samples", _SWEEP, each[: sweep.seeds], lambda key: seed_cell(world, sweep, key["seed"]))
        theory = cells.many("theory", _SWEEP, [{}], lambda _: theory_cell(world, sweep))[0]
        supports = [{"support": support} for support in sweep.ratio_supports]
        ratios = cells.many("sample ratio", _RATIO, supports, lambda key: ratio_cell(sweep, key["support"]))
        learners = each[: sweep.gradient_seeds if sweep.gradient_samples else 0]
        gradient = cells.many("gradient", _GRADIENT, learners, lambda key: gradient_cell(world, sweep, key["seed"]))
        transformer = _transformer_cells(cells, stopper)
        summary = summarise(world, sweep, seeds, theory, ratios, gradient, transformer)
        summary["stages"], summary["total_seconds"] = cells.stages, round(time.monotonic() - begin, 1)
        summary["places"] = {"cells": [os.path.relpath(cell, folder.path) for cell in cells.folders]}
        with folder.written(["environment.json", "sandbox.json"]):
            write(folder.path / "environment.json", this_environment())
            write_json(folder.path / "sandbox.json", {"kind": KIND, "fingerprint": sweep.fingerprint()} | summary)
    return folder.path


@dataclass
class Cells:
    """Measures cells into the store, with a stage on the display for every kind."""

    world: BigramWorld
    sweep: BigramSweep
    store: ArtifactStore
    display: StageDisplay
    stages: list[dict[str, Any]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def identity(self, kind: str, fields: set[str], key: Key) -> Identity:
        """What determines a cell: the world, the options that it reads, and what tells it from its like."""
        options = {name: value for name, value in self.sweep.canonical().items() if name in fields}
        version = results_version(f"{KIND}-transformer" if kind == "transformer" else KIND)
        return {"cell": kind, "key": key, "world": self.world.identity(), "options": options, **version}

    def many(
        self, kind: str, fields: set[str], keys: list[Key], measure: Callable[[Key], Mapping[str, Any]]
    ) -> list[Any]:
        """One cell of a kind for every key, read where it is there already."""

        def make(work: Path, key: Key, _: _Part) -> None:
            write_json(work / "cell.json", measure(key))

        return self.made(kind, fields, keys, make)

    def made(self, kind: str, fields: set[str], keys: list[Key], make: Callable[[Path, Key, _Part], None]) -> list[Any]:
        """The same for cells that write ``cell.json`` into their folder themselves and tell how far they are."""
        if not keys:
            return []
        begin, found, reused = time.monotonic(), [], 0
        with self.display.stage(f"bigram {kind}", unit="%") as update:
            self.display.kept(self.store.older(KIND, self.identity(kind, fields, keys[0])))
            for number, key in enumerate(keys):
                part = _Part(update, number, len(keys))
                identity = self.identity(kind, fields, key)
                cell = self.store.build(
                    KIND, identity, lambda work, key=key, part=part: make(work, key, part),
                    say=lambda damage: self.display.damaged(f"bigram {kind}", damage),
                )  # fmt: skip
                self.folders.append(cell.path)
                reused += cell.reused
                found.append(read_json_object(cell.path / "cell.json"))
                part(1, 1)
        seconds = round(time.monotonic() - begin, 2)
        self.stages.append({"name": kind, "seconds": seconds, "reused": reused == len(keys)})
        return found


@dataclass(frozen=True)
class _Part:
    """Moves the bar of a stage within one of its cells."""

    stage: StageProgress
    number: int
    count: int

    def __call__(self, done: int, total: int) -> None:
        self.stage(round(100 * (self.number + done / max(1, total))), 100 * self.count)


def _transformer_cells(cells: Cells, stopper: Stopper) -> dict[str, list[Any]]:
    """Cells of every drawn arm and seed, by arm; empty where no transformer was asked for."""
    sweep = cells.sweep
    if not sweep.transformer_tokens:
        return {}
    from stillroom.sandbox.bigram.bigram_transformer import transformer_cell
    from stillroom.training import Hooks

    arms = {arm.name: arm for arm in sweep.transformer_arms()}
    keys = [{"arm": name, "seed": seed} for name in arms for seed in range(sweep.transformer_seeds)]

    def make(work: Path, key: Key, part: _Part) -> None:
        arm, seed = arms[key["arm"]], key["seed"]
        with stopper.cooperative():
            hooks = Hooks(part, stopper.asked, part.stage.loss)
            transformer_cell(work, cells.world, sweep, arm, seed, hooks=hooks)

    made: list[Any] = []
    try:
        made = cells.made("transformer", _TRANSFORMER, keys, make)
    except Interrupted:
        stopper.leave()
    by_arm: dict[str, list[Any]] = {}
    for key, cell in zip(keys, made, strict=True):
        by_arm.setdefault(key["arm"], []).append(cell)
    return by_arm
