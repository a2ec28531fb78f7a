"""A tiny teacher, a tiny corpus and a finished store."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_labels import TinySequences, make, tiny_teacher
from transformers import PreTrainedModel


@pytest.fixture(scope="session")
def teacher() -> PreTrainedModel:
    return tiny_teacher()


@pytest.fixture(scope="session")
def corpus() -> TinySequences:
    return TinySequences()


@pytest.fixture(scope="session")
def made(teacher: PreTrainedModel, corpus: TinySequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of the sampled codec; not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "labels"
    make(teacher, corpus, folder)
    return folder
