"""Finds a recipe by name or path and returns its configuration. A recipe is a Python function that returns one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

import stillroom
from stillroom.config import RunConfig, Strict, StudyConfig, nearest, parse
from stillroom.types import UserError

KINDS: dict[str, type[Strict]] = {"study": StudyConfig, "run": RunConfig}


def recipe_folders() -> list[Path]:
    """Where names are looked up: ``recipes/`` here, in the source checkout, and in the installed package."""
    package = Path(stillroom.__file__).parent
    candidates = [Path("recipes"), package.parents[1] / "recipes", package / "recipes"]
    return [folder for folder in candidates if folder.is_dir()]


def available_recipes() -> list[str]:
    """Names that ``resolve_recipe`` knows."""
    return sorted({file.stem for folder in recipe_folders() for file in folder.glob("[a-z]*.py")})


def resolve_recipe(name: str) -> Strict:
    """The configuration that a recipe stands for.

    ``name`` is a recipe's name, ``FILE.py`` or ``FILE.py:FUNCTION``, or a resolved ``config.yaml`` of a run folder.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_yaml(Path(name))
    file_name, _, function = name.partition(":")
    if file_name.endswith(".py"):
        return _from_python(Path(file_name), function or Path(file_name).stem)
    stem = file_name.replace("-", "_")
    for folder in recipe_folders():
        if (folder / f"{stem}.py").is_file():
            return _from_python(folder / f"{stem}.py", function or stem)
    raise UserError(
        f"recipe {name!r}: there is none of this name{nearest(name, available_recipes())}; "
        "give a name, a FILE.py or a config.yaml."
    )


def _from_yaml(path: Path) -> Strict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a resolved configuration in YAML.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).split("\n", 1)[0]
        raise UserError(f"{path}: is not valid YAML ({first_line}); mend it or take a run's config.yaml.") from None
    if not isinstance(values, dict) or values.get("kind") not in KINDS:
        found = values.get("kind") if isinstance(values, dict) else type(values).__name__
        raise UserError(f"{path}: kind is {found!r}, expected one of {', '.join(KINDS)}; add it as the first line.")
    kind = KINDS[values.pop("kind")]
    return parse(kind, values, str(path))


def load_module(path: Path) -> ModuleType:
    """A recipe's file as a module; runs it, as naming it asks for."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a Python file with a recipe function.")
    spec = importlib.util.spec_from_file_location(f"stillroom_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_python(path: Path, function: str) -> Strict:
    module = load_module(path)
    recipe: Any = getattr(module, function, None)
    if not callable(recipe):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(f"{path}: has no function {function!r}{nearest(function, names)}.")
    config = recipe()
    if not isinstance(config, tuple(KINDS.values())):
        raise UserError(f"{path}: {function}() returned {type(config).__name__}, expected StudyConfig or RunConfig.")
    return config
