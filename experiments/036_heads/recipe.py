"""The teacher's label against tokens further ahead, on students deep enough for four heads, on an eighth of text."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import ONE, Scale, setting

EIGHTH = 0.125
DEEP = {"num_layers": 6}
"""Twice the blocks of the other studies' students: four heads leave three to the trunk."""


def study(scale: Scale = "cpu") -> StudyConfig:
    """Hard labels, DPT-90, and hard labels of two and four tokens ahead."""
    arms = {
        "deep_spt": ArmConfig(data=EIGHTH),
        "deep_dpt90": ArmConfig(alpha=0.9, data=EIGHTH),
        "deep_mtp2": ArmConfig(heads=2, data=EIGHTH),
        "deep_mtp4": ArmConfig(heads=4, data=EIGHTH),
    }
    deep = DEEP if scale == "cpu" else None
    return setting("036-heads", arms, scale=scale, temperatures=ONE, student=deep)


def gpu() -> StudyConfig:
    """The same with students of 120M parameters."""
    return study("gpu")


def cluster() -> StudyConfig:
    """The same with 1B from 8B on web text."""
    return study("cluster")


HEADS = ("mtp2", "mtp4")
CONTRASTS: dict[str, dict[str, float]] = {
    "dpt90_over_spt": {"deep_dpt90": 1.0, "deep_spt": -1.0},
    **{f"{arm}_over_spt": {f"deep_{arm}": 1.0, "deep_spt": -1.0} for arm in HEADS},
    **{f"dpt90_over_{arm}": {"deep_dpt90": 1.0, f"deep_{arm}": -1.0} for arm in HEADS},
    "mtp4_over_mtp2": {"deep_mtp4": 1.0, "deep_mtp2": -1.0},
}
"""Weights of the arms."""
ROWS = {
    "dpt90_over_spt": "DPT-90 minus SPT",
    "mtp2_over_spt": "two heads minus SPT",
    "mtp4_over_spt": "four heads minus SPT",
    "dpt90_over_mtp2": "DPT-90 minus two heads",
    "dpt90_over_mtp4": "DPT-90 minus four heads",
}
PANELS = {
    "lm:nats_per_token": "held-out nats",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "copying:accuracy_repeat": "copying",
    "counterfactual:follows_context": "follows context",
}
