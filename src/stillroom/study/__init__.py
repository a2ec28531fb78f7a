"""Experiments with arms, seeds and budgets: turns names into objects and stages into folders.

Importing this package loads no torch; the stages do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.study.recipe_files import available_recipes, resolve_recipe

__all__ = ["available_recipes", "resolve_recipe"]

__getattr__ = names_of(__name__)
