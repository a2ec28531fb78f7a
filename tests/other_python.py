"""An interpreter that has a package which is not installed: what runs elsewhere is tried without it."""

from __future__ import annotations

import sys
from pathlib import Path


def python_with_vllm(folder: Path, code: str) -> Path:
    """An interpreter in whose environment ``code`` is the package ``vllm``."""
    (folder / "site" / "vllm").mkdir(parents=True)
    (folder / "site" / "vllm" / "__init__.py").write_text(code)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "site"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python
