"""Options that name where something is written: looked at before a command begins."""

from __future__ import annotations

from pathlib import Path

from stillroom.files import check_place


def folder_place(path: Path | None) -> Path | None:
    """The path, where a folder is or can be made."""
    if path is not None:
        check_place(path, folder=True)
    return path


def file_place(path: Path | None) -> Path | None:
    """The path, where a file is or can be written."""
    if path is not None:
        check_place(path, folder=False)
    return path
