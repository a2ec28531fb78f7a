"""Pilots: the smallest grid from which a scaling law of distillation can be fitted; within 40 minutes on two cores.

Three sizes at four amounts of the quickstart's text, by hard labels and under two teachers; each part is a study:

    for part in small small_early middle middle_early large large_early; do stillroom study pilots:$part --jobs 2; done
    stillroom forecast fit runs/pilots-*

Corpus, teachers and students of hard labels are shared by the parts, and counted once by the fit.
"""

from __future__ import annotations

from typing import Literal

from stillroom.config import ArmConfig, StudyConfig, TeacherConfig
from stillroom.models.model_config import ModelConfig
from stillroom.recipes.quickstart import quickstart

Size = Literal["small", "middle", "large"]
SIZES: dict[Size, ModelConfig] = {
    "small": ModelConfig(hidden_size=64, intermediate_size=192, num_layers=2, num_heads=4, rope_theta=100.0),
    "middle": ModelConfig(hidden_size=96, intermediate_size=288, num_layers=3, num_heads=4, rope_theta=100.0),
    "large": ModelConfig(hidden_size=144, intermediate_size=432, num_layers=4, num_heads=4, rope_theta=100.0),
}
TOKENS = 1_800_000
PARTS = {"eighth": 0.125, "quarter": 0.25, "half": 0.5, "all": 1.0}
EARLY = 0.25
"""Part of the text that the weaker teacher has seen, once; the other one sees all of it twice."""


def part(size: Size, *, early: bool = False) -> StudyConfig:
    """Students of one size under one teacher."""
    base = quickstart()
    assert base.teacher.training is not None
    seen = {"tokens": round(EARLY * TOKENS), "epochs": 1.0} if early else {"tokens": TOKENS, "epochs": 2.0}
    quiet = {"validate_every": 0}
    arms = {f"dpt90_{name}": ArmConfig(alpha=0.9, data=share) for name, share in PARTS.items()}
    if not early:
        arms |= {f"spt_{name}": ArmConfig(data=share) for name, share in PARTS.items()}
    return base.model_copy(
        update={
            "corpus": base.corpus.model_copy(update={"train_tokens": 2 * TOKENS}),
            "name": f"pilots-{size}{'-early' if early else ''}",
            "teacher": TeacherConfig(
                model=base.teacher.model, training=base.teacher.training.model_copy(update=seen | quiet)
            ),
            "student": SIZES[size],
            "training": base.training.model_copy(update=quiet | {"tokens": TOKENS}),
            "arms": arms,
            "evaluation": base.evaluation.model_copy(update={"suites": ("lm",)}),
        }
    )


def pilots() -> StudyConfig:
    """The first part; the others are ``pilots:small_early`` and so on."""
    return part("small")


def small() -> StudyConfig:
    """The smallest students, under the better teacher."""
    return part("small")


def small_early() -> StudyConfig:
    """The smallest students, under the weaker teacher."""
    return part("small", early=True)


def middle() -> StudyConfig:
    """Students of the middle size, under the better teacher."""
    return part("middle")


def middle_early() -> StudyConfig:
    """Students of the middle size, under the weaker teacher."""
    return part("middle", early=True)


def large() -> StudyConfig:
    """The largest students, under the better teacher."""
    return part("large")


def large_early() -> StudyConfig:
    """The largest students, under the weaker teacher."""
    return part("large", early=True)
