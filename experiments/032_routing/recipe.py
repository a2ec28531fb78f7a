"""Which positions lose the teacher, by which rule and how many, under a finished teacher and an unfinished one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from stillroom.config import ArmConfig, RoutingConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import ONE, Scale, cpu_teacher, setting

RULES = {
    "entropy": "low-entropy",
    "copy": "copy-aware",
    "gold": "low-gold-probability",
    "student": "student-entropy",
    "random": "random",
}
MAIN = {"entropy": (15,), "copy": (15,), "random": (15,)}
OTHER_RULES = {"gold": (15,), "student": (15,)}
OTHER_SHARES = {"entropy": (5, 30), "copy": (5, 30)}
HALF = 0.5
EARLY = cpu_teacher(epochs=0.5)
"""A teacher that has seen a quarter of what the other has, once."""


def _routed(shares: Mapping[str, tuple[int, ...]], prefix: str = "") -> dict[str, ArmConfig]:
    made: dict[str, ArmConfig] = {}
    for rule, percents in shares.items():
        for percent in percents:
            routing = RoutingConfig.model_validate({"rule": RULES[rule], "share": percent / 100})
            made[f"{prefix}{rule}{percent}"] = ArmConfig(alpha=0.9, data=HALF, routing=routing)
    return made


def study(scale: Scale = "cpu") -> StudyConfig:
    """Hard labels, DPT-90, and three rules at 15 % under the teacher of 030."""
    arms = {"spt_half": ArmConfig(data=HALF), "dpt90_half": ArmConfig(alpha=0.9, data=HALF)} | _routed(MAIN)
    return setting("032-routing", arms, scale=scale, temperatures=ONE)


def rules() -> StudyConfig:
    """The other rules at 15 %."""
    return setting("032-rules", _routed(OTHER_RULES), temperatures=ONE)


def shares() -> StudyConfig:
    """Two of the rules at 5 and 30 %."""
    return setting("032-shares", _routed(OTHER_SHARES), temperatures=ONE)


def unfinished() -> StudyConfig:
    """The three rules under the unfinished teacher."""
    arms = {"early_dpt90_half": ArmConfig(alpha=0.9, data=HALF)}
    arms |= _routed(MAIN, "early_")
    return setting("032-unfinished", arms, teacher=EARLY, temperatures=ONE)


def unfinished_rules() -> StudyConfig:
    """The other rules at 15 % under that teacher."""
    return setting("032-unfinished-rules", _routed(OTHER_RULES, "early_"), teacher=EARLY, temperatures=ONE)


def gpu() -> StudyConfig:
    """The same with students of 120M parameters."""
    return study("gpu")


def cluster() -> StudyConfig:
    """The same with 1B from 8B on web text."""
    return study("cluster")


_ROUTED = [*_routed(MAIN), *_routed(OTHER_RULES), *_routed(OTHER_SHARES)]
CONTRASTS: dict[str, dict[str, float]] = {
    "dpt90_over_spt": {"dpt90_half": 1.0, "spt_half": -1.0},
    **{f"{arm}_over_dpt90": {arm: 1.0, "dpt90_half": -1.0} for arm in _ROUTED},
    **{f"{arm}_over_random": {arm: 1.0, "random15": -1.0} for arm in ("entropy15", "copy15", "gold15", "student15")},
    "early_dpt90_over_spt": {"early_dpt90_half": 1.0, "spt_half": -1.0},
    **{
        f"early_{arm}_over_dpt90": {f"early_{arm}": 1.0, "early_dpt90_half": -1.0}
        for arm in (*_routed(MAIN), *_routed(OTHER_RULES))
    },
    **{f"early_{arm}_over_random15": {f"early_{arm}": 1.0, "early_random15": -1.0} for arm in ("gold15", "student15")},
    "copy15_over_entropy15": {"copy15": 1.0, "entropy15": -1.0},
    "early_copy15_over_entropy15": {"early_copy15": 1.0, "early_entropy15": -1.0},
    "entropy30_over_entropy15": {"entropy30": 1.0, "entropy15": -1.0},
    "copy30_over_copy15": {"copy30": 1.0, "copy15": -1.0},
}
"""Weights of the arms."""
ROWS = {
    "dpt90_over_spt": "DPT-90 minus SPT",
    "entropy15_over_dpt90": "entropy 15 % minus DPT-90",
    "copy15_over_dpt90": "copy-aware 15 %",
    "gold15_over_dpt90": "gold probability 15 %",
    "student15_over_dpt90": "student entropy 15 %",
    "random15_over_dpt90": "random 15 %",
    "entropy30_over_dpt90": "entropy 30 %",
    "copy30_over_dpt90": "copy-aware 30 %",
    "entropy5_over_dpt90": "entropy 5 %",
    "copy5_over_dpt90": "copy-aware 5 %",
    "early_dpt90_over_spt": "unfinished: DPT-90 minus SPT",
    "early_entropy15_over_dpt90": "... entropy 15 % minus DPT-90",
    "early_copy15_over_dpt90": "... copy-aware 15 %",
    "early_gold15_over_dpt90": "... gold probability 15 %",
    "early_student15_over_dpt90": "... student entropy 15 %",
    "early_random15_over_dpt90": "... random 15 %",
}
PANELS = {
    "lm:nats_per_token": "held-out nats",
    "tts:1:pass_at:16": "pass@16",
    "copying:accuracy_repeat": "copying",
    "recall:accuracy": "recall",
    "needle:accuracy": "needle",
    "counterfactual:follows_context": "follows context",
}
