"""Finds a recipe by name or path and returns its configuration. A recipe is a Python function that returns one."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
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
from stillroom.strict import asked_again, explain, nearest, short
from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml

KINDS: dict[str, type[Strict]] = {"study": StudyConfig, "run": RunConfig}
_RETURNED = {kind.__name__ for kind in KINDS.values()}


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
        return _from_yaml(_there(name))
    file_name, _, function = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    if file_name.endswith(".py"):
        return _from_python(_there(file_name), function)
    file_name, _, function = name.partition(":")
    stem = file_name.replace("-", "_")
    for folder in recipe_folders():
        if (folder / f"{stem}.py").is_file():
            return _from_python(folder / f"{stem}.py", function)
    raise UserError(
        f"recipe {name!r}: there is none of this name{nearest(name, available_recipes())}; "
        "give a name, a FILE.py or a config.yaml."
    )


def _there(name: str) -> Path:
    """The path of a file; of one that is not there the nearest name beside it is told."""
    path = Path(name)
    beside = [file.name for file in path.parent.glob(f"*{path.suffix}")] if "\0" not in name else []
    close = difflib.get_close_matches(path.name, beside, n=1)
    if close and not os.path.lexists(path):
        raise UserError(f"{path}: there is no such file; did you mean {path.parent / close[0]}?")
    return path


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

    The module is known to Python by a name that nothing else has, as dataclasses inside it need. Files beside it may be
    imported by it.
    """
    read_bytes(path, "a Python file with a recipe function")
    name = f"stillroom_recipe_{fingerprint(str(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _neighbours(path.resolve().parent), _mistakes_named(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """Lets what stands in a folder be imported, before what is installed and after Python's own modules.

    They are forgotten afterwards: the neighbours of another recipe may have the same names.
    """
    known, entry = set(sys.modules), str(folder)
    installed = (place for place, one in enumerate(sys.path) if one.endswith(("site-packages", "dist-packages")))
    sys.path.insert(next(installed, len(sys.path)), entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a recipe may have changed the list itself
            sys.path.remove(entry)
        new = {name: module for name, module in sys.modules.items() if name not in known}
        beside = {name for name, module in new.items() if "." not in name and _stands_in(module, folder)}
        for name in new:
            if name.partition(".")[0] in beside:
                del sys.modules[name]


def _stands_in(module: ModuleType, folder: Path) -> bool:
    file = module.__dict__.get("__file__") or next(iter(module.__dict__.get("__path__", ())), "/")
    return (Path(file).parent if Path(file).name == "__init__.py" else Path(file)).parent == folder


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
    """``line N `` of the recipe or of a file beside it, where an exception came from; empty where it is not known."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    beside = path.resolve().parent
    own = [
        (Path(name), line)
        for name, line in frames
        if line and not name.startswith("<") and Path(name).resolve().parent == beside
    ]
    if not own:
        return ""
    file, line = own[-1]
    return f"line {line} " if file.name == path.name else f"{file.name} line {line} "


def _from_python(path: Path, function: str) -> Strict:
    module = load_module(path)
    name = function or _only_recipe(module, path)
    recipe: Any = getattr(module, name, None)
    if not callable(recipe):
        raise UserError(f"{path}: has no function {name!r}{nearest(name, _recipes(module))}.")
    with _neighbours(path.resolve().parent), _mistakes_named(path):
        made = recipe()
    if not isinstance(made, tuple(KINDS.values())):
        raise UserError(f"{path}: {name}() returned {type(made).__name__}, expected StudyConfig or RunConfig.")
    return asked_again(made, f"{path}: {name}()")


def _only_recipe(module: ModuleType, path: Path) -> str:
    """The function that a file without ``:FUNCTION`` means: the one of the file's name, or its only one."""
    named, names = re.sub(r"\W", "_", path.stem), _recipes(module)
    if callable(getattr(module, named, None)) or not names:
        return named
    if len(names) > 1:
        raise UserError(
            f"{path}: holds {len(names)} functions ({', '.join(names)}) and none of the file's name; name one, as in "
            f"{path}:{names[0]}."
        )
    return names[0]


def _recipes(module: ModuleType) -> list[str]:
    """Names of the functions that a file itself defines; those said to return a configuration, where any is."""
    own = [
        (name, value)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    declared = [name for name, value in own if _returns(value) in _RETURNED]
    return declared or [name for name, _ in own]


def _returns(function: Any) -> str:
    """The last name of a function's declared result."""
    result = function.__annotations__.get("return", "")
    return (result if isinstance(result, str) else getattr(result, "__name__", "")).rpartition(".")[2]
