"""Where the study of seconds is."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def micro_recipe() -> Path:
    """The recipe file of the micro study."""
    return Path(__file__).with_name("micro.py")
