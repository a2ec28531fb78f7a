"""Packages whose public names are imported when they are first asked for (PEP 562).

So that a configuration, which stands beside the code that it configures, is read without that code and its torch.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable


def names_of(package: str) -> Callable[[str], object]:
    """The ``__getattr__`` of a package that lists its names under ``if TYPE_CHECKING``.

    They are written once: type checkers read that block as it stands, and so does this function.
    """
    homes: dict[str, str] | None = None

    def find(name: str) -> object:
        nonlocal homes
        homes = _listed(package) if homes is None else homes
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find


def _listed(package: str) -> dict[str, str]:
    """The module of every name that a package imports for type checkers."""
    spec = importlib.util.find_spec(package)
    # get_data, since the loader that pytest gives to packages with a plugin has no get_source
    source = spec.loader.get_data(spec.origin) if spec is not None and spec.loader is not None else b""  # type: ignore[attr-defined]
    blocks = [part for part in ast.parse(source).body if isinstance(part, ast.If)]
    imports = [part for block in blocks for part in block.body if isinstance(part, ast.ImportFrom)]
    return {name.name: str(part.module) for part in imports for name in part.names}
