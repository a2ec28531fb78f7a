from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from stillroom.config import ArmConfig, StudyConfig, override
from stillroom.files import write_json
from stillroom.results_versions import RESULTS_VERSIONS
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.explain import Explained, explain_study
from stillroom.study.identities import MADE_BY, differences

ARMS = {"hard": ArmConfig(), "soft": ArmConfig(alpha=0.9)}
