"""Hard labels and DPT-90 on an eighth, a quarter, half and all of the text, and the controls of twice the data."""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, StudyConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import setting

PARTS = {"eighth": 0.125, "quarter": 0.25, "half": 0.5, "all": 1.0}


def study() -> StudyConfig:
    """Nine arms, five seeds."""
    arms: dict[str, ArmConfig] = {}
    for name, part in PARTS.items():
        arms |= {f"spt_{name}": ArmConfig(data=part), f"dpt90_{name}": ArmConfig(alpha=0.9, data=part)}
    return setting("030-data", arms | {"spt_half_twice": ArmConfig(data=0.5, epochs=2.0)})
