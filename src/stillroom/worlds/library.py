"""The source of the installed Python library: real text that is on every machine.

Imports nothing of stillroom; needs no network.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

# Generated tables and fixtures: megabytes of hexadecimal that teach nothing about language.
_SKIPPED = frozenset({"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "__pycache__"})


def library_files() -> tuple[Path, list[Path]]:
    """The library's folder and its source files, sorted; those of generated tables and tests are left out."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _SKIPPED]  # packages that are installed are many
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return root, [file for file in sorted(found) if file.is_file()]
