"""A tiny teacher, a tiny corpus and a finished store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_labels import VOCAB, TinySequences, make

from stillroom.config import ModelConfig
from stillroom.models import build_model


@pytest.fixture(scope="session")
def teacher() -> torch.nn.Module:
    """A model whose distributions are far from flat."""
    model = build_model(ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2), VOCAB, seed=0)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(12.0)
    return model.eval()


@pytest.fixture(scope="session")
def corpus() -> TinySequences:
    return TinySequences()


@pytest.fixture(scope="session")
def made(teacher: torch.nn.Module, corpus: TinySequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of the sampled codec; not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "labels"
    make(teacher, corpus, folder)
    return folder
