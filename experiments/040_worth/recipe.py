"""Hard labels from a sixteenth to twice the teacher's text, DPT-90 from an eighth to all, and two routings."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, RoutingConfig, StudyConfig, ladder

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import ONE, Scale, setting

LADDER = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
PARTS = {"eighth": 0.125, "quarter": 0.25, "half": 0.5, "all": 1.0}
RULES = {"entropy": "low-entropy", "copy": "copy-aware"}
SEEDS = (5, 6, 7, 8, 9)
ITEMS = {"heldout_sequences": 1280, "problems": 200, "suites": ("lm", "icl", "tts", "retrieval")}


def _arms() -> dict[str, ArmConfig]:
    """The ladder, DPT-90 and the routed arms, without seeds."""
    distilled = {f"dpt90_{name}": ArmConfig(alpha=0.9, data=part) for name, part in PARTS.items()}
    routed = {
        f"{short}15_{name}": ArmConfig(
            alpha=0.9, data=PARTS[name], routing=RoutingConfig.model_validate({"rule": rule, "share": 0.15})
        )
        for short, rule in RULES.items()
        for name in ("half", "all")
    }
    return ladder(*LADDER) | distilled | routed


ARMS = _arms()


def study(scale: Scale = "cpu") -> StudyConfig:
    """Fourteen arms; on a CPU seeds 5 to 9, which no study had before."""
    made = setting("040-worth", ARMS, scale=scale, temperatures=ONE, seeds=SEEDS if scale == "cpu" else None)
    if scale != "cpu":
        return made
    corpus = made.corpus.model_copy(update={"heldout_tokens": ITEMS["heldout_sequences"] * 128})
    evaluation = made.evaluation.model_copy(update=ITEMS)
    return made.model_copy(update={"corpus": corpus, "evaluation": evaluation})


def gpu() -> StudyConfig:
    """The same with students of 120M parameters."""
    return study("gpu")


def cluster() -> StudyConfig:
    """The same with 1B from 8B on web text."""
    return study("cluster")


CONTRASTS: dict[str, dict[str, float]] = {
    **{f"gain_{name}": {f"dpt90_{name}": 1.0, rung: -1.0}
       for name, rung in {"eighth": "spt_eighth", "quarter": "spt_quarter", "half": "spt_half", "all": "spt"}.items()},
    **{f"{short}15_over_dpt90_{name}": {f"{short}15_{name}": 1.0, f"dpt90_{name}": -1.0}
       for short in RULES for name in ("half", "all")},
    "dpt90_half_over_spt": {"dpt90_half": 1.0, "spt": -1.0},
    "dpt90_all_over_spt2x": {"dpt90_all": 1.0, "spt2x": -1.0},
}  # fmt: skip
"""Weights of the arms; every contrast is worked out seed by seed."""
ROWS = {
    **{f"gain_{name}": f"DPT-90 minus SPT, {words}"
       for name, words in zip(PARTS, ("an eighth", "a quarter", "half", "all"), strict=True)},
    "entropy15_over_dpt90_all": "entropy 15 % minus DPT-90, all",
    "copy15_over_dpt90_all": "copy-aware 15 % minus DPT-90, all",
}  # fmt: skip
WORTH_ARMS = {f"dpt90_{name}": f"DPT-90, {words}"
              for name, words in zip(PARTS, ("an eighth", "a quarter", "half", "all"), strict=True)}  # fmt: skip
PANELS = {
    "lm:by_source:python:bits_per_byte": "Python, bits per byte",
    "lm:by_source:facts:bits_per_byte": "facts, bits per byte",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "tts:1:unique_correct": "different right answers",
    "copying:accuracy_repeat": "copying",
    "counterfactual:follows_context": "follows context",
}
