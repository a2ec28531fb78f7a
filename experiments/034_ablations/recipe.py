"""On a quarter of the text: the teacher's weight, its path, its temperature; and weight x teacher x student size."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from stillroom.config import ArmConfig, LabelsConfig, ScheduleConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import ONE, Scale, cpu_teacher, setting

QUARTER = 0.25
ALPHAS = (10, 30, 50, 70, 100)
NARROW = {"hidden_size": 64}
"""Half of the student's width."""
PATHS = {
    "falling": ScheduleConfig(kind="linear", final=0.0),
    "late": ScheduleConfig(kind="warmup-stable-decay", initial=0.0, final=0.9, warmup=0.5, decay=0.0),
}


def alpha(scale: Scale = "cpu") -> StudyConfig:
    """Hard labels and DPT-90; the weight of the teacher's label from a tenth to all; two paths of it."""
    arms = {"spt_quarter": ArmConfig(data=QUARTER), "dpt90_quarter": ArmConfig(alpha=0.9, data=QUARTER)}
    arms |= {f"dpt{percent}": ArmConfig(alpha=percent / 100, data=QUARTER) for percent in ALPHAS}
    arms |= {name: ArmConfig(alpha=0.9, data=QUARTER, alpha_schedule=path) for name, path in PATHS.items()}
    return setting("034-alpha", arms, scale=scale, temperatures=ONE)


def _at(name: str, temperature: float) -> StudyConfig:
    arm = ArmConfig(alpha=0.9, data=QUARTER, temperature=temperature)
    return setting(f"034-{name}", {name: arm}, labels=LabelsConfig(temperature=temperature), temperatures=ONE)


def sharp() -> StudyConfig:
    """The teacher read at temperature 0.5."""
    return _at("sharp", 0.5)


def soft() -> StudyConfig:
    """The teacher read at temperature 2."""
    return _at("soft", 2.0)


def hot() -> StudyConfig:
    """The teacher read at temperature 4."""
    return _at("hot", 4.0)


def _weights(prefix: str) -> dict[str, ArmConfig]:
    return {f"{prefix}{percent}": ArmConfig(alpha=percent / 100, data=QUARTER) for percent in (50, 90)}


def early() -> StudyConfig:
    """Two weights under a teacher that has seen a quarter of what the other has, once."""
    return setting("034-early", _weights("early"), teacher=cpu_teacher(epochs=0.5), temperatures=ONE)


def narrow() -> StudyConfig:
    """Students of half the width: hard labels and two weights."""
    arms = {"narrow_spt": ArmConfig(data=QUARTER)} | _weights("narrow")
    return setting("034-narrow", arms, temperatures=ONE, student=NARROW)


def narrow_early() -> StudyConfig:
    """Students of half the width under the unfinished teacher."""
    teacher = cpu_teacher(epochs=0.5)
    return setting("034-narrow-early", _weights("narrow_early"), teacher=teacher, temperatures=ONE, student=NARROW)


def gpu() -> StudyConfig:
    """The weights with students of 120M parameters."""
    return alpha("gpu")


def cluster() -> StudyConfig:
    """The weights with 1B from 8B on web text."""
    return alpha("cluster")


ARMS = (*(f"dpt{percent}" for percent in ALPHAS), *PATHS, "sharp", "soft", "hot")
CELLS: dict[str, tuple[int, int, int]] = {
    "dpt50": (-1, 1, 1),
    "dpt90_quarter": (1, 1, 1),
    "early50": (-1, -1, 1),
    "early90": (1, -1, 1),
    "narrow50": (-1, 1, -1),
    "narrow90": (1, 1, -1),
    "narrow_early50": (-1, -1, -1),
    "narrow_early90": (1, -1, -1),
}
"""The factorial: weight 0.9 over 0.5, finished teacher over unfinished, whole width over half."""


def _effect(*factors: int) -> dict[str, float]:
    """The mean where the product of the factors' signs is 1 less that where it is -1."""
    return {arm: math.prod(signs[factor] for factor in factors) / 4 for arm, signs in CELLS.items()}


CONTRASTS: dict[str, dict[str, float]] = {
    "dpt90_over_spt": {"dpt90_quarter": 1.0, "spt_quarter": -1.0},
    **{f"{arm}_over_spt": {arm: 1.0, "spt_quarter": -1.0} for arm in (*ARMS, "early50", "early90")},
    **{f"{arm}_over_dpt90": {arm: 1.0, "dpt90_quarter": -1.0} for arm in ARMS},
    **{f"{arm}_over_narrow_spt": {arm: 1.0, "narrow_spt": -1.0} for arm in CELLS if arm.startswith("narrow")},
    "falling_over_dpt50": {"falling": 1.0, "dpt50": -1.0},
    "late_over_dpt70": {"late": 1.0, "dpt70": -1.0},
    "teacher_at_50": {"dpt50": 0.5, "narrow50": 0.5, "early50": -0.5, "narrow_early50": -0.5},
    "teacher_at_90": {"dpt90_quarter": 0.5, "narrow90": 0.5, "early90": -0.5, "narrow_early90": -0.5},
    "early90_over_early50": {"early90": 1.0, "early50": -1.0},
    "narrow_early90_over_narrow_early50": {"narrow_early90": 1.0, "narrow_early50": -1.0},
    "effect_weight": _effect(0),
    "effect_teacher": _effect(1),
    "effect_width": _effect(2),
    "effect_weight_by_teacher": _effect(0, 1),
    "effect_weight_by_width": _effect(0, 2),
    "effect_teacher_by_width": _effect(1, 2),
    "effect_all_three": _effect(0, 1, 2),
}
"""Weights of the arms."""
ROWS = {
    **{f"dpt{percent}_over_spt": f"α = {percent / 100:g} minus SPT" for percent in (10, 30, 50, 70, 90, 100)},
    "falling_over_spt": "α falling from 0.9 minus SPT",
    "late_over_spt": "α rising to 0.9 minus SPT",
    "sharp_over_spt": "temperature 0.5 minus SPT",
    "soft_over_spt": "temperature 2 minus SPT",
    "effect_weight": "effect of α, 0.9 over 0.5",
    "effect_teacher": "effect of the teacher, finished",
    "effect_width": "effect of the width, double",
    "effect_weight_by_teacher": "α by teacher",
    "effect_weight_by_width": "α by width",
}
PANELS = {
    "lm:nats_per_token": "held-out nats",
    "lm:by_source:python:nats_per_token": "Python, nats",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "counterfactual:follows_context": "follows context",
}
