"""A tiny teacher, a tiny corpus and how the tests label it; fixtures of these and of a finished store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from stillroom.config import LabelsConfig, ModelConfig
from stillroom.labels import Identity, Manifest, label
from stillroom.models import build_model, unembedding
from stillroom.teachers import ModelScores
from stillroom.types import IGNORE_INDEX, Batch

VOCAB = 300
LENGTH = 32
IDENTITY: Identity = {"teacher": "t0", "tokenizer": "k0", "vocab_size": VOCAB, "corpus": "c0"}


@dataclass(frozen=True)
class TinySequences:
    """Random packed documents: id 0 begins one, id 1 ends one."""

    count: int = 24
    sequence_length: int = LENGTH
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Batch:
        tokens_BT = torch.stack([self._one(int(index)) for index in indices])
        document_BT = ((tokens_BT == 0).cumsum(1) - (tokens_BT[:, :1] == 0).long()).int()
        targets_BT = torch.full_like(tokens_BT, IGNORE_INDEX)
        same = document_BT[:, 1:] == document_BT[:, :-1]
        targets_BT[:, :-1] = torch.where(same, tokens_BT[:, 1:], IGNORE_INDEX)
        return Batch(tokens_BT=tokens_BT, targets_BT=targets_BT, document_BT=document_BT)

    def _one(self, index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        return torch.randint(0, 60, (self.sequence_length,), generator=generator)


def make(teacher: PreTrainedModel, corpus: TinySequences, folder: Path, **fields: object) -> Manifest:
    """Labels the corpus into a folder, eight sequences per shard."""
    config = LabelsConfig.model_validate({"shard_sequences": 8, "num_samples": 50, **fields})
    return label(scores_of(teacher), corpus, config, folder, identity=IDENTITY)


def scores_of(teacher: PreTrainedModel) -> ModelScores:
    """The scores of a tiny teacher, in full precision."""
    return ModelScores(teacher, VOCAB, precision="fp32")


def tiny_teacher() -> PreTrainedModel:
    """A model whose distributions are far from flat."""
    model = build_model(ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2), VOCAB, seed=0)
    with torch.no_grad():
        unembedding(model)[0].mul_(12.0)
    return model.eval()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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
