"""A store of packed documents of very different lengths, so that a mean of means would be seen."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from transformers import PreTrainedModel

from stillroom.config import ModelConfig
from stillroom.labels import LabelStore
from stillroom.models import build_model
from tiny_labels import VOCAB, TinySequences, make, teacher

__all__ = ["teacher"]


@dataclass(frozen=True)
class Uneven(TinySequences):
    """Documents of 2, 5, 8 or 11 tokens, one length to a sequence."""

    def _one(self, index: int) -> torch.Tensor:
        tokens_T = super()._one(index).clamp(min=2)
        tokens_T[:: 2 + 3 * (index % 4)] = 0
        return tokens_T


@pytest.fixture(scope="session")
def sequences() -> Uneven:
    return Uneven(8)


@pytest.fixture(scope="session")
def store(teacher: PreTrainedModel, sequences: Uneven, tmp_path_factory: pytest.TempPathFactory) -> LabelStore:
    """Labels of ``sequences``; not to be written to."""
    folder = tmp_path_factory.mktemp("uneven") / "labels"
    make(teacher, sequences, folder)
    return LabelStore.open(folder)


@pytest.fixture
def student() -> PreTrainedModel:
    shape = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2)
    return build_model(shape, VOCAB, seed=1)
