"""Students of poorer labels, and of a further token ahead, on half of the text; each function is a run of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, LabelsConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import Scale, setting

HALF = 0.5


def _distilled(name: str, labels: LabelsConfig, scale: Scale = "cpu") -> StudyConfig:
    return setting(f"031-{name}", {name: ArmConfig(alpha=0.9, data=HALF)}, labels=labels, scale=scale)


def top1() -> StudyConfig:
    """The likeliest token and the mass of all others."""
    return _distilled("top1", LabelsConfig(codec="top-k", k=1))


def top4() -> StudyConfig:
    """The four likeliest."""
    return _distilled("top4", LabelsConfig(codec="top-k", k=4))


def top16() -> StudyConfig:
    """The sixteen likeliest."""
    return _distilled("top16", LabelsConfig(codec="top-k", k=16))


def sampled12() -> StudyConfig:
    """Twelve draws instead of fifty."""
    return _distilled("sampled12", LabelsConfig(num_samples=12))


def mtp2(scale: Scale = "cpu") -> StudyConfig:
    """Hard labels of two tokens ahead; the second head's block is taken off the trunk, so compute is the same."""
    return setting("031-mtp2", {"mtp2": ArmConfig(heads=2, data=HALF)}, scale=scale)


def gpu() -> StudyConfig:
    """The poorest label with students of 120M parameters; the others likewise, with ``--set labels.k=4``."""
    return _distilled("top1", LabelsConfig(codec="top-k", k=1), "gpu")


def cluster() -> StudyConfig:
    """The same with 1B from 8B on web text."""
    return _distilled("top1", LabelsConfig(codec="top-k", k=1, shard_sequences=4096), "cluster")


ARMS = ("top1", "top4", "top16", "sampled12", "mtp2")
CONTRASTS: dict[str, dict[str, float]] = {
    **{f"{arm}_over_spt": {arm: 1.0, "spt_half": -1.0} for arm in ARMS},
    **{f"dpt90_over_{arm}": {"dpt90_half": 1.0, arm: -1.0} for arm in ARMS},
    "top4_over_top1": {"top4": 1.0, "top1": -1.0},
    "top16_over_top4": {"top16": 1.0, "top4": -1.0},
}
"""Weights of the arms; ``spt_half`` and ``dpt90_half`` (sampled, N = 50) are those of study 030."""
ROWS = {
    "top1_over_spt": "top-1 minus SPT",
    "top4_over_spt": "top-4 minus SPT",
    "top16_over_spt": "top-16 minus SPT",
    "sampled12_over_spt": "sampled 12 minus SPT",
    "mtp2_over_spt": "two heads minus SPT",
    "dpt90_over_sampled12": "sampled 50 minus sampled 12",
    "dpt90_over_mtp2": "sampled 50 minus two heads",
}
PANELS = {
    "lm:nats_per_token": "held-out nats",
    "lm:by_source:python:nats_per_token": "Python, nats",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "copying:accuracy_repeat": "copying",
    "counterfactual:follows_context": "follows context",
}
