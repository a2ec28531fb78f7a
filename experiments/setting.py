"""What studies 030 and above share: the quickstart's text and models, a teacher on all of the text, five seeds.

A study is the whole of this with arms of its own, so that what two studies have in common is trained once:

    stillroom study experiments/030_data/recipe.py:study --jobs 2 --artifacts runs/artifacts
"""

from __future__ import annotations

from collections.abc import Mapping

from stillroom.config import ArmConfig, LabelsConfig, StudyConfig, over_seeds
from stillroom.study.recipes import resolve_recipe

SEEDS = (0, 1, 2, 3, 4)
TOKENS = 1_800_000
"""Distinct training tokens. The teacher passes over all of them twice."""
SUITES = ("lm", "icl", "tts", "heads", "retrieval")
TEMPERATURES = (0.4, 0.6, 0.8, 1.0, 1.2)


def setting(name: str, arms: Mapping[str, ArmConfig], *, labels: LabelsConfig | None = None) -> StudyConfig:
    """These arms at every seed; ``data`` of an arm is its part of ``TOKENS``."""
    quickstart = resolve_recipe("quickstart")
    assert isinstance(quickstart, StudyConfig) and quickstart.teacher.training is not None
    everything = {"tokens": TOKENS, "validate_every": 0, "checkpoint_seconds": 600.0}
    return StudyConfig(
        name=name,
        corpus=quickstart.corpus.model_copy(update={"train_tokens": TOKENS}),
        teacher=quickstart.teacher.model_copy(
            update={"training": quickstart.teacher.training.model_copy(update=everything)}
        ),
        labels=labels or LabelsConfig(),
        student=quickstart.student,
        training=quickstart.training.model_copy(update=everything),
        arms=over_seeds(arms, SEEDS),
        evaluation=quickstart.evaluation.model_copy(update={"suites": SUITES, "temperatures": TEMPERATURES}),
    )
