"""One module of an installed package, without importing the rest of it and what that needs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from types import ModuleType


def module_of(distribution: str, path: str, name: str | None = None) -> ModuleType:
    """The module at ``path`` in a distribution's files, called ``name`` where others import it by that."""
    found = importlib.metadata.distribution(distribution).locate_file(path)
    called = name or path.removesuffix(".py").replace("/", "_")
    if called not in sys.modules:
        spec = importlib.util.spec_from_file_location(called, str(found))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[called] = module
    return sys.modules[called]
