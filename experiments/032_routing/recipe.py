"""Which positions lose the teacher, by which rule and how many, under a finished teacher and an unfinished one."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, RoutingConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import Scale, cpu_teacher, setting

RULES = {
    "entropy": "low-entropy",
    "copy": "copy-aware",
    "gold": "low-gold-probability",
    "student": "student-entropy",
    "random": "random",
}
SHARES = {"entropy": (15, 5, 30), "copy": (15, 5, 30), "random": (15,), "gold": (15,), "student": (15,)}


def _arms(shares: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, ArmConfig]:
    made = {f"{prefix}dpt90_half": ArmConfig(alpha=0.9, data=0.5)}
    for rule, percents in shares.items():
        for percent in percents:
            routing = RoutingConfig.model_validate({"rule": RULES[rule], "share": percent / 100})
            made[f"{prefix}{rule}{percent}"] = ArmConfig(alpha=0.9, data=0.5, routing=routing)
    return made


def study(scale: Scale = "cpu") -> StudyConfig:
    """Under the teacher of 030."""
    return setting("032-routing", _arms(SHARES), scale=scale)


def unfinished() -> StudyConfig:
    """Under a teacher that has seen a quarter of what the other has, once."""
    arms = _arms({"entropy": (15,), "copy": (15,), "random": (15,)}, "early_")
    return setting("032-unfinished", arms, teacher=cpu_teacher(epochs=0.5))


def gpu() -> StudyConfig:
    """The same with students of 120M parameters."""
    return study("gpu")


def cluster() -> StudyConfig:
    """The same with 1B from 8B on web text."""
    return study("cluster")


_ROUTED = [f"{rule}{percent}" for rule, percents in SHARES.items() for percent in percents]
CONTRASTS: dict[str, dict[str, float]] = {
    "dpt90_over_spt": {"dpt90_half": 1.0, "spt_half": -1.0},
    **{f"{arm}_over_dpt90": {arm: 1.0, "dpt90_half": -1.0} for arm in _ROUTED},
    **{f"{arm}_over_random": {arm: 1.0, "random15": -1.0} for arm in ("entropy15", "copy15", "gold15", "student15")},
    "early_dpt90_over_spt": {"early_dpt90_half": 1.0, "spt_half": -1.0},
    **{
        f"early_{arm}_over_dpt90": {f"early_{arm}": 1.0, "early_dpt90_half": -1.0}
        for arm in ("entropy15", "copy15", "random15")
    },
    "early_copy15_over_entropy15": {"early_copy15": 1.0, "early_entropy15": -1.0},
}
"""Weights of the arms; ``spt_half`` is that of study 030."""
