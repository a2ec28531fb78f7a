"""Finds a recipe by name or path and returns its configuration. A recipe is a Python function that returns one."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

import stillroom
from stillroom import config
from stillroom.config import RunConfig, Strict, StudyConfig, parse
from stillroom.files import fingerprint, read_bytes
from stillroom.strict import explain, nearest, short
from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml

KINDS: dict[str, type[Strict]] = {"study": StudyConfig, "run": RunConfig}


def recipe_folders() -> list[Path]:
    """Where names are looked up: ``recipes/`` here, then the package's own."""
    candidates = [Path("recipes"), Path(stillroom.__file__).parent / "recipes"]
    return [folder for folder in candidates if folder.is_dir()]


def available_recipes() -> list[str]:
    """Names that ``resolve_recipe`` knows."""
    return sorted({file.stem for folder in recipe_folders() for file in folder.glob("[a-z]*.py")})


def resolve_recipe(name: str) -> Strict:
    """The configuration that a recipe stands for.

    ``name`` is a recipe's name, ``FILE.py`` or ``FILE.py:FUNCTION``, or a run folder or its resolved ``config.yaml``.
    """
    if (Path(name) / "config.yaml").is_file():
        return _from_yaml(Path(name) / "config.yaml")
    if name.endswith((".yaml", ".yml")):
        return _from_yaml(Path(name))
    file_name, _, function = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    if file_name.endswith(".py"):
        return _from_python(Path(file_name), function or re.sub(r"\W", "_", Path(file_name).stem))
    file_name, _, function = name.partition(":")
    stem = file_name.replace("-", "_")
    for folder in recipe_folders():
        if (folder / f"{stem}.py").is_file():
            return _from_python(folder / f"{stem}.py", function or stem)
    raise UserError(
        f"recipe {name!r}: there is none of this name{nearest(name, available_recipes())}; "
        "give a name, a FILE.py or a config.yaml."
    )


def _from_yaml(path: Path) -> Strict:
    values = read_yaml(path, "a resolved configuration in YAML")
    if not isinstance(values, dict) or values.get("kind") not in tuple(KINDS):
        found = short(values.get("kind")) if isinstance(values, dict) else f"missing, for it holds {_named(values)}"
        raise UserError(f"{path}: kind is {found}, expected one of {', '.join(KINDS)}; add it as the first line.")
    kind = KINDS[values.pop("kind")]
    return parse(kind, values, str(path))


def _named(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def load_module(path: Path) -> ModuleType:
    """A recipe's file as a module; runs it, as naming it asks for.

    The module is known to Python by a name that nothing else has, as dataclasses inside it need.
    """
    read_bytes(path, "a Python file with a recipe function")
    name = f"stillroom_recipe_{fingerprint(str(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _mistakes_named(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _mistakes_named(path: Path) -> Iterator[None]:
    """Whatever a recipe's own code raises, as a sentence with its line; only Ctrl-C passes."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except ValidationError as error:
        kind = getattr(config, error.title, Strict)
        raise explain(error, kind, f"{path}: {_line(error, path)}{error.title}") from None
    except BaseException as error:  # a recipe may also raise SystemExit
        words = " ".join(str(error).split()).rstrip(".")
        reason = f"{type(error).__name__}: {words}" if words else type(error).__name__
        raise UserError(f"{path}: {_line(error, path)}ends in {reason}; mend the recipe.") from error


def _line(error: BaseException, path: Path) -> str:
    """``line N `` of the recipe where an exception came from; empty where it is not known."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} " if error.lineno and Path(error.filename or "") == path else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    return f"line {lines[-1]} " if lines else ""


def _from_python(path: Path, function: str) -> Strict:
    module = load_module(path)
    recipe: Any = getattr(module, function, None)
    if not callable(recipe):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(f"{path}: has no function {function!r}{nearest(function, names)}.")
    with _mistakes_named(path):
        config = recipe()
    if not isinstance(config, tuple(KINDS.values())):
        raise UserError(f"{path}: {function}() returned {type(config).__name__}, expected StudyConfig or RunConfig.")
    return config
