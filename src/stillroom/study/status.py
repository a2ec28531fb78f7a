"""How far a study is, as seen from beside: what is done, runs, waits or failed, with the last words of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stillroom import disk
from stillroom.config import StudyConfig
from stillroom.console import line
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.budgets import with_budgets
from stillroom.study.elsewhere import cancel_study, executor_of, log_of
from stillroom.study.explain import Explained, stages_of
from stillroom.study.folders import RunFolder
from stillroom.study.stage_jobs import StageJobs

_STYLES = {"done": "green", "runs": "cyan", "waits": "dim", "failed": "red"}
_LAST_BYTES = 4096


@dataclass(frozen=True)
class StageStatus:
    """One stage: ``done``, ``runs``, ``waits`` or ``failed``, what there is to say of it, and where more is."""

    stage: str
    state: str
    said: str
    log: Path


def study_status(config: StudyConfig, out: Path | None, artifacts: Path | None) -> list[StageStatus]:
    """The state of every stage. Writes nothing; ``out`` and ``artifacts`` are as in ``run_study``."""
    config, run, store = _placed(config, out, artifacts)
    return [_status(one, run.path, store) for one in stages_of(config, store)]


def _placed(
    config: StudyConfig, out: Path | None, artifacts: Path | None
) -> tuple[StudyConfig, RunFolder, ArtifactStore]:
    config = with_budgets(config).for_results()
    run = RunFolder.of(config, "study", config.name, out)
    return config, run, ArtifactStore(artifacts or run.artifacts)


def _status(one: Explained, run: Path, store: ArtifactStore) -> StageStatus:
    jobs = StageJobs.of(store.root)
    job, end = jobs.find(one.artifact), jobs.ended(one.artifact)
    log = Path(job.log) if job is not None else log_of(run, one.stage)
    if one.is_there or (one.kind == "labels" and end is not None and end.mistake is None):
        return StageStatus(one.stage, "done", "", log)
    if end is not None and end.mistake is not None:
        return StageStatus(one.stage, "failed", end.mistake, log)
    if disk.is_held(store.root / f".{one.artifact}.lock"):
        return StageStatus(one.stage, "runs", _last_line(log), log)
    if job is None:
        return StageStatus(one.stage, "waits", f"for {one.after}" if one.after else "", log)
    lives = job.name in executor_of(job.on, store.root).living([job.name])
    said = f"as job {job.name} of {job.on}" if lives else "was stopped; the same command goes on"
    return StageStatus(one.stage, "waits", said, log)


def _last_line(log: Path) -> str:
    """The last words of a log; nothing where it holds none."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LAST_BYTES))
        lines = stream.read().decode(errors="replace").split("\n")
    return next((one.strip() for one in reversed(lines) if one.strip()), "")


def print_status(stages: list[StageStatus], console: Console) -> None:
    """A line for every stage, and how many there are of each state."""
    for one in stages:
        said = f": {one.said}" if one.said else ""
        where = f" ({one.log})" if one.state in ("runs", "failed") and one.log.is_file() else ""
        console.print(line((f"{one.state:7}", _STYLES[one.state]), one.stage, said, (where, "dim")), soft_wrap=True)
    counts = Counter(one.state for one in stages)
    told = ", ".join(f"{counts[state]} {state}" for state in _STYLES if counts[state])
    console.print(line(f"{told}, of {len(stages)} stages."))


def print_cancelled(config: StudyConfig, out: Path | None, artifacts: Path | None, console: Console) -> None:
    """Cancels the jobs of a study and says which."""
    config, run, store = _placed(config, out, artifacts)
    names = cancel_study(config, store)
    told = f"cancelled: {', '.join(names)}" if names else "no job of it waits or runs"
    console.print(line(f"{run.path}: {told}; what is complete is kept."), soft_wrap=True)
