"""Text worlds by the name that a corpus source gives them: each is a file ``NAME_world.py``, or another package's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.registry import Registry
from stillroom.strict import nearest
from stillroom.types import UserError
from stillroom.worlds.base import TextWorld
from stillroom.worlds.options import read_options


@dataclass(frozen=True)
class TextWorldKind:
    """A world that sources can name."""

    options: type[Any]
    """A dataclass of its knobs, every one with a default; refuses wrong ones by ``ValueError``."""
    world: Callable[[Any], TextWorld]
    """Makes the world from its knobs."""


TEXT_WORLDS: Registry[TextWorldKind] = Registry("stillroom.worlds", Path(__file__).parent, "world", "stillroom.worlds")
"""Every text world by name; a package of someone else's adds one by the entry point ``stillroom.worlds``."""


def make_world(kind: str, options: Mapping[str, Any] | None = None) -> TextWorld:
    """The world of this name with these knobs; a ``UserError`` names a world or knob that there is not."""
    names = TEXT_WORLDS.names()
    if kind not in names:
        raise UserError(f"worlds: there is no world named {kind!r}{nearest(kind, names)}.")
    found = TEXT_WORLDS.find(kind)
    return found.world(read_options(found.options, kind, options))
