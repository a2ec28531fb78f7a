"""Hard labels and DPT-90 on an eighth, a quarter, half and all of the text, and the controls of twice the data."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import Scale, setting

PARTS = {"eighth": 0.125, "quarter": 0.25, "half": 0.5, "all": 1.0}


def study(scale: Scale = "cpu") -> StudyConfig:
    """Nine arms, five seeds."""
    arms: dict[str, ArmConfig] = {}
    for name, part in PARTS.items():
        arms |= {f"spt_{name}": ArmConfig(data=part), f"dpt90_{name}": ArmConfig(alpha=0.9, data=part)}
    return setting("030-data", arms | {"spt_half_twice": ArmConfig(data=0.5, epochs=2.0)}, scale=scale)


def gpu() -> StudyConfig:
    """The same with students of 120M parameters."""
    return study("gpu")


def cluster() -> StudyConfig:
    """The same with 1B from 8B on web text."""
    return study("cluster")


def _gain(part: str, times: float = 1.0) -> dict[str, float]:
    return {f"dpt90_{part}": times, f"spt_{part}": -times}


CONTRASTS: dict[str, dict[str, float]] = {
    **{f"gain_{part}": _gain(part) for part in PARTS},
    "gain_eighth_less_all": _gain("eighth") | _gain("all", -1.0),
    # least-squares slope over log2 of the data, whose four values are one apart
    "gain_slope": {
        arm: weight
        for part, centred in zip(PARTS, (-1.5, -0.5, 0.5, 1.5), strict=True)
        for arm, weight in _gain(part, centred / 5).items()
    },
    "dpt90_half_over_spt_all": {"dpt90_half": 1.0, "spt_all": -1.0},
    "dpt90_half_over_spt_half_twice": {"dpt90_half": 1.0, "spt_half_twice": -1.0},
    "spt_all_over_spt_half_twice": {"spt_all": 1.0, "spt_half_twice": -1.0},
}
"""Weights of the arms; every contrast is worked out seed by seed."""
ROWS = {
    **{
        f"gain_{part}": f"DPT-90 minus SPT, {words}"
        for part, words in zip(PARTS, ("an eighth", "a quarter", "half", "all"), strict=True)
    },
    "dpt90_half_over_spt_half_twice": "DPT-90 half minus SPT half twice",
    "dpt90_half_over_spt_all": "DPT-90 half minus SPT all",
}
PANELS = {
    "lm:nats_per_token": "held-out nats",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "tts:frontier:pass_at_16": "pass@16 at equal pass@1",
    "copying:accuracy_repeat": "copying",
    "recall:accuracy": "recall",
    "counterfactual:follows_context": "follows context",
    "induction:accuracy": "few-shot rules",
}
