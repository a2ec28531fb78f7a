"""Synthetic worlds with a known truth, behind the interfaces that real data has."""

from __future__ import annotations

from stillroom.worlds.registry import make_world

__all__ = ["make_world"]
