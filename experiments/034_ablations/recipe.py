"""One factor at a time on a quarter of the text: the weight of the teacher, its schedule, its temperature."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, LabelsConfig, ScheduleConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import Scale, setting

QUARTER = 0.25
ALPHAS = (10, 30, 50, 70, 100)
PATHS = {
    "falling": ScheduleConfig(kind="linear", final=0.0),
    "late": ScheduleConfig(kind="warmup-stable-decay", initial=0.0, final=0.9, warmup=0.5, decay=0.0),
}


def alpha(scale: Scale = "cpu") -> StudyConfig:
    """The weight of the teacher's label, from a tenth to all, and two paths of it."""
    arms = {f"dpt{percent}": ArmConfig(alpha=percent / 100, data=QUARTER) for percent in ALPHAS}
    arms |= {name: ArmConfig(alpha=0.9, data=QUARTER, alpha_schedule=path) for name, path in PATHS.items()}
    return setting("034-alpha", arms, scale=scale)


def _at(name: str, temperature: float) -> StudyConfig:
    arm = ArmConfig(alpha=0.9, data=QUARTER, temperature=temperature)
    return setting(f"034-{name}", {name: arm}, labels=LabelsConfig(temperature=temperature))


def sharp() -> StudyConfig:
    """The teacher read at temperature 0.5."""
    return _at("sharp", 0.5)


def soft() -> StudyConfig:
    """The teacher read at temperature 2."""
    return _at("soft", 2.0)


def gpu() -> StudyConfig:
    """The weights with students of 120M parameters."""
    return alpha("gpu")


def cluster() -> StudyConfig:
    """The weights with 1B from 8B on web text."""
    return alpha("cluster")


ARMS = (*(f"dpt{percent}" for percent in ALPHAS), *PATHS, "sharp", "soft")
CONTRASTS: dict[str, dict[str, float]] = {
    "dpt90_over_spt": {"dpt90_quarter": 1.0, "spt_quarter": -1.0},
    **{f"{arm}_over_spt": {arm: 1.0, "spt_quarter": -1.0} for arm in ARMS},
    **{f"{arm}_over_dpt90": {arm: 1.0, "dpt90_quarter": -1.0} for arm in ARMS},
}
"""Weights of the arms; ``spt_quarter`` and ``dpt90_quarter`` are those of study 030."""
