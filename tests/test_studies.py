"""The recipes of the frozen studies: they resolve at every scale, and their contrasts are of arms that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stillroom.config import StudyConfig
from stillroom.results.schema import arm_and_seed
from stillroom.study.budgets import with_budgets
from stillroom.study.feasible import check_study
from stillroom.study.plan import study_costs
from stillroom.study.recipe_files import available_recipes, load_module, resolve_recipe

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RECIPES = sorted(EXPERIMENTS.glob("0[34]*/recipe.py"))
FUNCTIONS = [
    (recipe, name) for recipe in RECIPES for name in re.findall(r"^def ([a-z]\w*)\(", recipe.read_text(), re.MULTILINE)
]


ALL = [
    *available_recipes(),
    *(f"{recipe}:{name}" for recipe, name in FUNCTIONS),
    *map(str, sorted(EXPERIMENTS.glob("*/config.yaml"))),
]
"""Every recipe that a study can be made of."""


def arms(recipe: Path) -> set[str]:
    """Names of the arms of every run of a study on a CPU, without their seeds."""
    made = set()
    for file, name in FUNCTIONS:
        if file == recipe and name not in ("gpu", "cluster"):
            config = resolve_recipe(f"{file}:{name}")
            assert isinstance(config, StudyConfig)
            made |= {re.sub(r"-s\d+$", "", arm) for arm in config.arms}
    return made


@pytest.mark.parametrize(("recipe", "name"), FUNCTIONS, ids=[f"{file.parent.name}-{name}" for file, name in FUNCTIONS])
def test_recipes_of_studies_can_be_priced(recipe: Path, name: str) -> None:
    config = resolve_recipe(f"{recipe}:{name}")
    assert isinstance(config, StudyConfig)
    StudyConfig.model_validate(config.model_dump())  # model_copy does not validate
    config = with_budgets(config)
    check_study(config)
    costs = study_costs(config)
    # labels of a teacher that is made outside of the study have no price before it is there
    assert len(costs) >= len(config.arms) and all(cost.flops > 0 or cost.name == "labels" for cost in costs)
    parameters = max(cost.parameters for cost in costs if cost.name in config.arms)
    most = 1e6 * max(1.0, config.student.num_layers / 3)  # of three blocks; deeper students in proportion
    assert parameters < most if name not in ("gpu", "cluster") else parameters > 1e8


@pytest.mark.parametrize("recipe", RECIPES, ids=[file.parent.name for file in RECIPES])
def test_contrasts_are_of_arms_that_exist(recipe: Path) -> None:
    known = arms(recipe) | arms(RECIPES[0])
    contrasts = load_module(recipe).CONTRASTS
    assert contrasts
    for name, weights in contrasts.items():
        assert set(weights) <= known, name
        assert sum(weights.values()) == pytest.approx(0.0), name
    assert {"gpu", "cluster"} <= {name for file, name in FUNCTIONS if file == recipe}


@pytest.mark.parametrize("recipe", ALL, ids=[name.replace(f"{EXPERIMENTS}/", "") for name in ALL])
def test_the_seed_in_an_arm_s_name_is_read_as_its_seed(recipe: str) -> None:
    """A study whose arms are not read as seeds of one arm has no table over seeds."""
    config = resolve_recipe(recipe)
    if not isinstance(config, StudyConfig):
        return
    read = {name: arm_and_seed(name) for name in config.arms}
    assert {name: arm.seed for name, arm in config.arms.items()} == {name: seed for name, (_, seed) in read.items()}


ONE_RUN = [recipe for recipe in RECIPES if recipe.with_name("config.yaml").is_file()]


@pytest.mark.parametrize("recipe", ONE_RUN, ids=[file.parent.name for file in ONE_RUN])
def test_the_recipe_of_a_frozen_study_says_what_was_run(recipe: Path) -> None:
    """Also after the recipe that it is made of has changed; fields that came later have their defaults."""
    frozen, now = (resolve_recipe(name) for name in (str(recipe.with_name("config.yaml")), f"{recipe}:study"))
    assert frozen.model_dump(exclude={"name"}) == now.model_dump(exclude={"name"})
