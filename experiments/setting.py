"""What studies 030 to 040 share: the quickstart's text and teacher, students of 0.72M parameters, five seeds.

A study is the whole of this with arms of its own, so that what two studies have in common is trained once:

    stillroom study experiments/030_data/recipe.py:study --jobs 2 --artifacts runs/artifacts

Every study's recipe also has ``gpu`` (students of 120M parameters) and ``cluster`` (1B from 8B on web text): the same
arms on the recipes of those names, three seeds each. Neither has been run; ``--dry-run`` says what they take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from stillroom.config import ArmConfig, LabelsConfig, ModelConfig, StudyConfig, TeacherConfig, over_seeds
from stillroom.study.recipe_files import resolve_recipe

Scale = Literal["cpu", "gpu", "cluster"]
RECIPES: dict[Scale, str] = {"cpu": "quickstart", "gpu": "sandbox-120m", "cluster": "llama-1b-from-8b"}
SEEDS: dict[Scale, tuple[int, ...]] = {"cpu": (0, 1, 2, 3, 4), "gpu": (0, 1, 2), "cluster": (0, 1, 2)}
TOKENS = 1_800_000
"""Distinct training tokens on a CPU. The teacher passes over all of them twice."""
ON_CPU = {"tokens": TOKENS, "validate_every": 0, "checkpoint_seconds": 600.0}
ON_CPU_STUDENT = ModelConfig(hidden_size=128, intermediate_size=384, num_layers=3, num_heads=4, rope_theta=100.0)
HELDOUT_TOKENS, HELDOUT_SEQUENCES = 40_000, 256
SUITES = ("lm", "icl", "tts", "heads", "retrieval")
TEMPERATURES = (0.4, 0.6, 0.8, 1.0, 1.2)
ONE = (1.0,)
"""Samples at temperature 1 alone, where a study asks nothing of the others."""


def setting(
    name: str,
    arms: Mapping[str, ArmConfig],
    *,
    labels: LabelsConfig | None = None,
    teacher: TeacherConfig | None = None,
    scale: Scale = "cpu",
    temperatures: tuple[float, ...] = TEMPERATURES,
    student: Mapping[str, int] | None = None,
    seeds: Sequence[int] | None = None,
) -> StudyConfig:
    """These arms at every seed; ``data`` of an arm is its part of the text, ``student`` the sizes that are its own."""
    base = _base(RECIPES[scale])
    own = ON_CPU_STUDENT if scale == "cpu" else base.student
    changes = {
        "name": f"{name}-{scale}",
        "student": own.model_copy(update=dict(student or {})),
        "labels": labels or base.labels,
        "teacher": teacher or (cpu_teacher() if scale == "cpu" else base.teacher),
        "arms": over_seeds(arms, seeds or SEEDS[scale]),
        "evaluation": base.evaluation.model_copy(update={"suites": SUITES, "temperatures": temperatures}),
    }
    if scale == "cpu":
        most = max(1.0, *(arm.data for arm in arms.values()))
        texts = {"train_tokens": round(TOKENS * most), "heldout_tokens": HELDOUT_TOKENS}
        changes["corpus"] = base.corpus.model_copy(update=texts)
        changes["training"] = base.training.model_copy(update=ON_CPU)
        items = {"suites": SUITES, "temperatures": temperatures, "heldout_sequences": HELDOUT_SEQUENCES}
        changes["evaluation"] = base.evaluation.model_copy(update=items)
    return base.model_copy(update=changes)


def cpu_teacher(*, epochs: float = 2.0, width: int | None = None) -> TeacherConfig:
    """The teacher on a CPU, or one that passes over the text less often, or a narrower one."""
    teacher = _base("quickstart").teacher
    assert teacher.training is not None
    return TeacherConfig(
        model=teacher.model if width is None else teacher.model.model_copy(update={"hidden_size": width}),
        training=teacher.training.model_copy(update={**ON_CPU, "epochs": epochs}),
    )


def _base(recipe: str) -> StudyConfig:
    config = resolve_recipe(recipe)
    assert isinstance(config, StudyConfig)
    return config
