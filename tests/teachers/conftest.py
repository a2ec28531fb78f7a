"""A tiny teacher, a tiny corpus and a finished store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_labels import TinySequences, make, tiny_teacher


@pytest.fixture(scope="session")
def teacher() -> torch.nn.Module:
    return tiny_teacher()


@pytest.fixture(scope="session")
def corpus() -> TinySequences:
    return TinySequences()


@pytest.fixture(scope="session")
def made(teacher: torch.nn.Module, corpus: TinySequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of the sampled codec; not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "labels"
    make(teacher, corpus, folder)
    return folder
