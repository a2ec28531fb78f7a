"""The smallest study with every kind of stage, for tests that pay for a process with each of them."""

from __future__ import annotations

from pathlib import Path

from stillroom.config import StudyConfig, override
from stillroom.study import resolve_recipe


def small_study() -> StudyConfig:
    """Micro's, with two students of one batch's steps and one suite."""
    micro = resolve_recipe(str(Path(__file__).parent / "micro.py"))
    assert isinstance(micro, StudyConfig)
    arms = {name: micro.arms[name] for name in ("spt", "dpt90")}
    return override(micro.model_copy(update={"name": "small", "arms": arms}), ["evaluation.suites=[lm]"])
