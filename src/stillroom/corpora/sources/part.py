"""A piece of a source, small enough for one worker and the same wherever it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.http import printable_url


@dataclass(frozen=True)
class Part:
    """A piece of one file, which is read without the rest."""

    file: str
    """Path, URL, or id of a dataset."""
    start: int = 0
    stop: int = 0
    """In ``unit``; without meaning where that is ``whole``."""
    unit: Literal["bytes", "groups", "rows", "documents", "whole"] = "whole"
    size: int = 0
    """Bytes of text in it, about."""

    @property
    def place(self) -> str:
        """How its file is named to a person."""
        return printable_url(self.file)
