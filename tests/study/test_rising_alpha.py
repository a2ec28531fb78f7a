"""An arm that begins with hard labels and has a teacher's later is a distilled one, wherever that is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from micro import micro
from stillroom.choosing import request
from stillroom.config import ArmConfig, ScheduleConfig

RISING = ArmConfig(alpha=0.0, alpha_schedule=ScheduleConfig(kind="linear", final=0.9))


def test_it_is_no_supervised_student_to_rank_teachers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    study = micro().model_copy(update={"arms": {"rising": RISING, "spt": ArmConfig()}})
    monkeypatch.setattr(request, "_read_study", lambda run: study)
    assert request._supervised_arm(Path("run")) == "run:spt"
