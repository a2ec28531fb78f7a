"""Synthetic worlds with a known truth, behind the interfaces that real data has."""

from __future__ import annotations

from stillroom.worlds.text_worlds import TEXT_WORLDS, TextWorldKind, make_world

__all__ = ["TEXT_WORLDS", "TextWorldKind", "make_world"]
