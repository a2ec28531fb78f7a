"""What a configuration of the recall study stands for: its world and its known teachers."""

from __future__ import annotations

from stillroom.sandbox.recall.recall_config import RecallTeacherConfig, RecallWorldConfig
from stillroom.worlds.recall import RecallOptions, RecallWorld
from stillroom.worlds.recall_teachers import RecallTeacher


def make_recall_world(config: RecallWorldConfig) -> RecallWorld:
    """The world that a configuration stands for."""
    return RecallWorld(RecallOptions(config.characters, config.triggers, config.draw, config.skip, config.outputs))


def known_teacher(config: RecallTeacherConfig) -> RecallTeacher:
    """The exact or leaking teacher that a configuration stands for."""
    if config.kind == "exact":
        return RecallTeacher()
    return RecallTeacher(config.leak, config.towards, config.temperature)
