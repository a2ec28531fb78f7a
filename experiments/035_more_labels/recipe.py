"""What 031 left out: more ids and fewer draws; on half of the text, each function a run of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, LabelsConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import ONE, Scale, setting

HALF = 0.5


def _distilled(name: str, labels: LabelsConfig, scale: Scale = "cpu") -> StudyConfig:
    arm = ArmConfig(alpha=0.9, data=HALF)
    return setting(f"035-{name}", {name: arm}, labels=labels, scale=scale, temperatures=ONE)


def controls() -> StudyConfig:
    """Hard labels and fifty draws, as in 030 and 032."""
    arms = {"spt_half": ArmConfig(data=HALF), "dpt90_half": ArmConfig(alpha=0.9, data=HALF)}
    return setting("035-controls", arms, temperatures=ONE)


def top64() -> StudyConfig:
    """The sixty-four likeliest, a tenth of the vocabulary."""
    return _distilled("top64", LabelsConfig(codec="top-k", k=64))


def sampled6(scale: Scale = "cpu") -> StudyConfig:
    """Six draws instead of fifty."""
    return _distilled("sampled6", LabelsConfig(num_samples=6), scale)


def gpu() -> StudyConfig:
    """Six draws with students of 120M parameters; the others likewise, with ``--set labels.num_samples=50``."""
    return sampled6("gpu")


def cluster() -> StudyConfig:
    """The same with 1B from 8B on web text."""
    return sampled6("cluster")


ARMS = ("top64", "sampled6")
CONTRASTS: dict[str, dict[str, float]] = {
    **{f"{arm}_over_spt": {arm: 1.0, "spt_half": -1.0} for arm in ARMS},
    **{f"dpt90_over_{arm}": {"dpt90_half": 1.0, arm: -1.0} for arm in ARMS},
}
"""Weights of the arms."""
ROWS = {
    "top64_over_spt": "top-64 minus SPT",
    "sampled6_over_spt": "six draws minus SPT",
    "dpt90_over_top64": "fifty draws minus top-64",
    "dpt90_over_sampled6": "fifty draws minus six",
}
PANELS = {
    "lm:nats_per_token": "held-out nats",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "counterfactual:follows_context": "follows context",
}
