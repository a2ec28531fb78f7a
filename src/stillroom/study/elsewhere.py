"""Makes the stages of a study as jobs of a scheduler: starts those whose inputs are there, and waits for artifacts.

A job is named by the artifact that it makes, so it is started once, whichever study and whichever process asks for it
first; the others wait for it too. Whoever waits may be stopped: the jobs go on.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stillroom.config import StudyConfig
from stillroom.console import line
from stillroom.executors import Executor, JobResources, ResourcesConfig, SchedulerJob, executor_named, python_command
from stillroom.results.schema import StageRecord
from stillroom.stores import address_of
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.explain import CORPUS, Explained, stages_of
from stillroom.study.folders import LOGS
from stillroom.study.own_precision import own_precision
from stillroom.study.progress import StageDisplay
from stillroom.study.stage_jobs import StageJob, StageJobs
from stillroom.types import UserError

_MODULE = "stillroom.study.stage_task"
_SOONEST, _LATEST = 0.5, 15.0
"""Seconds between looks: soon after something happened, then less and less often."""


def check_elsewhere(precision: str, asks: ResourcesConfig, on: str, jobs: int, artifacts: Path) -> None:
    """Refuses a scheduler that is not there, and what it cannot be asked for. Writes nothing."""
    if on == "local":
        return
    if (address := address_of(artifacts)) is not None:
        raise UserError(f"--artifacts {address}: jobs of {on} need a folder that all machines see; name one.")
    executor_of(on, artifacts)
    if jobs > 1:
        raise UserError(f"jobs: is {jobs}, but {on} decides how many jobs run at once; leave --jobs out.")
    if precision == "auto" and (asks.training.gpus or asks.labels.gpus):
        raise UserError(
            "training.precision: is auto, which this machine would resolve for the GPUs of others; set it, as in "
            "--set training.precision=bf16."
        )


@functools.cache
def executor_of(on: str, artifacts: Path) -> Executor:
    """The scheduler that makes artifacts of a folder."""
    return executor_named(on, StageJobs.of(artifacts).root / on)


def log_of(run: Path, title: str) -> Path:
    """Where a run keeps what one of its stages said."""
    return run / LOGS / f"{title}.log"


@dataclass
class Elsewhere:
    """The stages of one study on a scheduler."""

    config: StudyConfig
    resources: ResourcesConfig
    run: Path
    store: ArtifactStore
    on: str
    display: StageDisplay
    labels: str | None = None
    wait_for: int = 0
    _lost: Counter[str] = field(default_factory=Counter)
    _missing: set[str] = field(default_factory=set)
    """Artifacts whose job was gone at the last look: their folder may be seen later than that."""
    _failed: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def _jobs(self) -> StageJobs:
        return StageJobs.of(self.store.root)

    def make_all(self) -> dict[str, StageRecord]:
        """Waits until every stage is made; returns what each took that was made by a job.

        A stage that fails does not keep the others from their end. Raises the ``UserError`` of the first that failed,
        or one that tells that the study was cancelled. Does nothing where the study is ``local``.
        """
        if self.on == "local":
            return {}
        self._forget_earlier()
        pause = _SOONEST
        with self.display.stage(f"jobs on {self.on}", "stages", there=0) as update:
            while True:
                stages = self._stages()
                made = {one.artifact for one in stages if self._is_made(one)}
                update(sum(one.artifact in made for one in stages), len(stages))
                if all(one.artifact in made for one in stages):
                    break
                happened = self._look(list(_ready(stages, made)))
                if not happened and self._failed:
                    raise UserError(next(iter(self._failed.values())))
                pause = _SOONEST if happened == "started" else min(_LATEST, 1.2 * pause)
                time.sleep(pause)
        ends = {one.stage: self._jobs.ended(one.artifact) for one in stages}
        return {stage: end.record for stage, end in ends.items() if end is not None and end.record is not None}

    def _stages(self) -> list[Explained]:
        return stages_of(self.config, self.store)

    def _is_made(self, stage: Explained) -> bool:
        """Whether the artifact is there, or its job found that it needs none, as labels that others made."""
        end = self._jobs.ended(stage.artifact)
        return stage.is_there or (stage.kind == "labels" and end is not None and end.mistake is None)

    def _forget_earlier(self) -> None:
        """Takes away what is known of jobs that ended without their artifact: the same command tries again."""
        with self._jobs.held():
            for one in self._stages():
                if not one.is_there and one.artifact not in self._living([one]):
                    self._jobs.forget(one.artifact)

    def _living(self, stages: Sequence[Explained]) -> set[str]:
        """Artifacts whose jobs wait or run."""
        found = {one.artifact: self._jobs.find(one.artifact) for one in stages}
        return {
            name
            for name, job in found.items()
            if job is not None and job.name in executor_of(job.on, self.store.root).living([job.name])
        }

    def _look(self, ready: list[Explained]) -> str:
        """Starts what can be started; says whether anything was ``started`` or goes ``on``."""
        with self._jobs.held():
            living = self._living(ready)
            fresh = [one for one in ready if one.artifact not in living and self._is_wanted(one)]
            for asked, alike in itertools.groupby(sorted(fresh, key=_kind), key=_kind):
                self._start(list(alike), asked)
        waiting = self._missing & {one.artifact for one in ready} - self._failed.keys()
        return "started" if fresh else "on" if living or waiting else ""

    def _is_wanted(self, stage: Explained) -> bool:
        """Whether a job that does not live is to be started: the first, or one in place of a lost one."""
        name, job = stage.artifact, self._jobs.find(stage.artifact)
        end = self._jobs.ended(name)
        if end is not None and end.mistake is not None:
            self._failed.setdefault(name, end.mistake)
        if name in self._failed or job is None:
            return name not in self._failed
        if job.cancelled:
            raise UserError(
                f"{self.run}: was cancelled; what is complete is kept, the same command goes on from there."
            )
        if name not in self._missing:
            self._missing.add(name)
            return False
        self._missing.discard(name)
        self._lost[name] += 1
        if self._lost[name] > self.resources.restarts:
            self._failed[name] = (
                f"{stage.stage}: its job was lost {self._lost[name]} times; see {job.log}, {self._jobs.root}."
            )
            return False
        self.display.console.print(line(f"  {stage.stage}: job {job.name} was lost and is started again"))
        return True

    def _start(self, stages: list[Explained], kind: str) -> None:
        takes: JobResources = getattr(self.resources, {"model": "training"}.get(kind, kind))
        for one in stages:
            self._jobs.forget(one.artifact)
        jobs = [
            SchedulerJob(one.stage, self._command(one, takes), log_of(self.run, one.stage), takes) for one in stages
        ]
        names = executor_of(self.on, self.store.root).start(jobs)
        for one, job, name in zip(stages, jobs, names, strict=True):
            self._jobs.note(one.artifact, StageJob(on=self.on, name=name, log=str(job.log.absolute())))
            self.display.console.print(line(f"  {one.stage}: job {name}, ", (job.log, "dim")), soft_wrap=True)

    def _command(self, stage: Explained, takes: JobResources) -> tuple[str, ...]:
        asked = {
            "artifacts": self.store.root, "artifact": stage.artifact, "title": stage.stage, "kind": stage.kind,
            "name": stage.name, "precision": own_precision(self.config.training.precision), "labels": self.labels,
            "wait-for": self.wait_for,
        }  # fmt: skip
        options = [f"--{name}={value}" for name, value in asked.items() if value is not None]
        return python_command(_MODULE, str(self.run), *options, takes=takes)


def _kind(stage: Explained) -> str:
    return stage.kind


def _ready(stages: list[Explained], made: set[str]) -> Iterator[Explained]:
    """Stages that are not made and whose inputs are."""
    titles = {one.stage: one.artifact in made for one in stages}
    if not titles.get(CORPUS, True):
        yield from (one for one in stages if one.stage == CORPUS)
        return
    named = {one.artifact: one for one in reversed(stages) if not one.artifact.endswith("-?")}  # equal arms: one
    for name, one in reversed(named.items()):
        if name not in made and titles.get(one.after, True):
            yield one


def cancel_study(config: StudyConfig, store: ArtifactStore) -> list[str]:
    """Cancels the jobs of a study's stages, which keep what is complete; returns the stages.

    Whoever waits for them is told. Jobs that other studies wait for too are among them.
    """
    jobs, cancelled = StageJobs.of(store.root), []
    for one in stages_of(config, store):
        job = None if one.is_there else jobs.find(one.artifact)
        if job is not None and job.name in (executor := executor_of(job.on, store.root)).living([job.name]):
            jobs.note(one.artifact, replace(job, cancelled=True))
            executor.cancel([job.name])
            cancelled.append(one.stage)
    return cancelled
