"""The recipe of pilots and the study that foretells from it: one corpus, enough points, targets outside them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stillroom.config import StudyConfig
from stillroom.laws.fits import check_enough
from stillroom.laws.points import Points
from stillroom.recipes.pilots import PARTS, SIZES, TOKENS
from stillroom.study.recipe_files import available_recipes, resolve_recipe

TARGETS = Path(__file__).parents[2] / "experiments" / "060_forecast" / "recipe.py"
NAMES = [f"{size}{end}" for size in SIZES for end in ("", "_early")]


def study(recipe: str) -> StudyConfig:
    config = resolve_recipe(recipe)
    assert isinstance(config, StudyConfig)
    return StudyConfig.model_validate(config.model_dump())


def test_all_parts_are_studies_of_one_corpus_and_give_points_enough() -> None:
    assert "pilots" in available_recipes()
    configs = [study(f"pilots:{name}") for name in NAMES]
    assert all(config.corpus == configs[0].corpus for config in configs)
    rows = {
        (config.student.hidden_size, arm.data * TOKENS, place % 2 if arm.alpha else np.nan)
        for place, config in enumerate(configs)
        for arm in config.arms.values()
    }
    N, D, teacher = np.array(sorted(rows, key=str), float).T
    check_enough(Points(N, D, teacher + 3.0, np.full(len(N), 4.0), ("",) * len(N)), needs_hard=True)
    assert len(N) == 3 * len(SIZES) * len(PARTS)


def test_targets_share_the_corpus_and_lie_outside_the_pilots() -> None:
    names = re.findall(r"^def ([a-z]\w*)\(", TARGETS.read_text(), re.MULTILINE)
    configs = [study(f"{TARGETS}:{name}") for name in names]
    pilots = study("pilots")
    assert sum(len(config.arms) for config in configs) >= 6
    for config in configs:
        assert config.corpus == pilots.corpus
        assert config.student.hidden_size > SIZES["large"].hidden_size or all(
            arm.data > max(PARTS.values()) for arm in config.arms.values()
        )
