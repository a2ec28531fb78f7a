"""One student, several teachers: base, instructed, reinforced, unfinished, small; each function is a run of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, ModelConfig, StudyConfig, TeacherConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import ONE, Scale, cpu_teacher, setting

QUARTER = 0.25


def _under(name: str, teacher: TeacherConfig | None, scale: Scale = "cpu", *, controls: bool = False) -> StudyConfig:
    arms = {"spt_quarter": ArmConfig(data=QUARTER)} if controls else {}
    arms[name] = ArmConfig(alpha=0.9, data=QUARTER)
    return setting(f"033-{name}", arms, teacher=teacher, scale=scale, temperatures=ONE)


def base() -> StudyConfig:
    """Hard labels, and the teacher of 030."""
    return _under("base", None, controls=True)


def instructed() -> StudyConfig:
    """The same after ``stillroom teachers supervise``, in ``teachers/instructed``."""
    return _under("instructed", _folder("teachers/instructed/model"))


def reinforced() -> StudyConfig:
    """The same after ``stillroom teachers reinforce``, in ``teachers/reinforced``."""
    return _under("reinforced", _folder("teachers/reinforced/model"))


def early() -> StudyConfig:
    """One that has seen a quarter of what the base has, once."""
    return _under("early", cpu_teacher(epochs=0.5))


def small() -> StudyConfig:
    """One of half the width."""
    return _under("small", cpu_teacher(width=112))


def gpu() -> StudyConfig:
    """The base with students of 120M parameters; another teacher by ``--set teacher.model.path=FOLDER``."""
    return _under("base", None, "gpu")


def cluster() -> StudyConfig:
    """The base with 1B from 8B on web text; another teacher likewise."""
    return _under("base", None, "cluster")


def _folder(path: str) -> TeacherConfig:
    return TeacherConfig(model=ModelConfig(path=path), training=None)


TEACHERS = ("base", "instructed", "reinforced", "early", "small")
CONTRASTS: dict[str, dict[str, float]] = {
    **{f"{name}_over_spt": {name: 1.0, "spt_quarter": -1.0} for name in TEACHERS},
    **{f"{name}_over_base": {name: 1.0, "base": -1.0} for name in TEACHERS[1:]},
    "reinforced_over_instructed": {"reinforced": 1.0, "instructed": -1.0},
}
"""Weights of the arms."""
ROWS = {f"{name}_over_spt": f"{name} minus SPT" for name in TEACHERS} | {
    f"{name}_over_base": f"{name} minus base" for name in TEACHERS[1:]
}
PANELS = {
    "lm:nats_per_token": "held-out nats",
    "lm:by_source:python:nats_per_token": "Python, nats",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "counterfactual:follows_context": "follows context",
}
