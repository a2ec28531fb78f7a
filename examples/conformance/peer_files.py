"""Modules of a library, without running the ``__init__`` files above them and what those need."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def bare(package: str) -> None:
    """Makes the modules of a package importable by their names, as if its ``__init__`` files were empty."""
    parts = package.split(".")
    for size in range(1, len(parts) + 1):
        name = ".".join(parts[:size])
        if name not in sys.modules:
            module = ModuleType(name)
            module.__path__ = [str(found) for place in sys.path if (found := Path(place, *parts[:size])).is_dir()]
            sys.modules[name] = module
