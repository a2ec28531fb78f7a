"""Students that the law of the pilots foretells before they are trained: larger ones, and longer ones."""

from __future__ import annotations

from stillroom.config import ArmConfig, StudyConfig
from stillroom.models.model_config import ModelConfig
from stillroom.recipes.pilots import SIZES, part

LARGER = ModelConfig(hidden_size=192, intermediate_size=576, num_layers=5, num_heads=6, rope_theta=100.0)


def larger(*, early: bool = False) -> StudyConfig:
    """2.2 times the parameters of the largest pilots, on half and all of their text."""
    arms = {"dpt90_half": ArmConfig(alpha=0.9, data=0.5), "dpt90_all": ArmConfig(alpha=0.9)}
    if not early:
        arms |= {"spt_half": ArmConfig(data=0.5), "spt_all": ArmConfig()}
    return _changed(part("large", early=early), "larger", LARGER, arms)


def larger_early() -> StudyConfig:
    """The same under the weaker teacher."""
    return larger(early=True)


def longer(*, early: bool = False) -> StudyConfig:
    """Students of the middle size on twice the text, which the pilots' corpus holds."""
    arms = {"dpt90_twice": ArmConfig(alpha=0.9, data=2.0)} | ({} if early else {"spt_twice": ArmConfig(data=2.0)})
    return _changed(part("middle", early=early), "longer", SIZES["middle"], arms)


def longer_early() -> StudyConfig:
    """The same under the weaker teacher."""
    return longer(early=True)


def _changed(base: StudyConfig, name: str, student: ModelConfig, arms: dict[str, ArmConfig]) -> StudyConfig:
    suffix = "-early" if base.name.endswith("-early") else ""
    return base.model_copy(update={"name": f"060-{name}{suffix}", "student": student, "arms": arms})
