"""Experiments with arms, seeds and budgets: turns names into objects and stages into folders.

Importing this package loads no torch; the stages do.
"""

from stillroom.study.recipe_files import available_recipes, resolve_recipe

__all__ = ["available_recipes", "resolve_recipe"]
