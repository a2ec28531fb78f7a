"""The source of the installed Python library: real text that is on every machine.

Imports nothing of stillroom; needs no network.
"""

from __future__ import annotations

import functools
import sysconfig
from pathlib import Path

# Generated tables and fixtures: megabytes of hexadecimal that teach nothing about language.
_SKIPPED = frozenset({"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "__pycache__"})


@functools.cache
def library_files() -> tuple[Path, list[Path]]:
    """The library's folder and its source files, sorted; those of generated tables and tests are left out.

    They are listed once for a process.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = (file for file in sorted(root.rglob("*.py")) if file.is_file())
    return root, [file for file in files if not _SKIPPED.intersection(file.relative_to(root).parts)]
