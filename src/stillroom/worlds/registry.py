"""Worlds by the name that a corpus source gives them. Imports the worlds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillroom.strict import nearest
from stillroom.types import UserError
from stillroom.worlds.base import TextWorld
from stillroom.worlds.copying import CopyingOptions, CopyingWorld
from stillroom.worlds.facts import FactsOptions, FactsWorld
from stillroom.worlds.options import read_options
from stillroom.worlds.problems import ProblemsOptions, ProblemsWorld

KINDS = ("facts", "problems", "copying")
"""Every text world by name."""


def make_world(kind: str, options: Mapping[str, Any] | None = None) -> TextWorld:
    """The world of this name with these knobs; a ``UserError`` names a world or knob that there is not."""
    if kind == "facts":
        return FactsWorld(read_options(FactsOptions, kind, options))
    if kind == "problems":
        return ProblemsWorld(read_options(ProblemsOptions, kind, options))
    if kind == "copying":
        return CopyingWorld(read_options(CopyingOptions, kind, options))
    raise UserError(f"worlds: there is no world named {kind!r}{nearest(kind, list(KINDS))}.")
