"""Toy teachers of which the right order is known, in folders beside a tiny corpus."""

from __future__ import annotations

from pathlib import Path

import torch

from stillroom.config import ModelConfig, ObjectiveConfig, TrainingConfig
from stillroom.corpora import Corpus
from stillroom.models import build_model, export_model
from stillroom.training import TrainingData, train

SHAPE = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, max_positions=128)


def save(model, corpus: Corpus, folder: Path) -> Path:
    """A model folder with the corpus's tokenizer."""
    export_model(model, folder)
    corpus.tokenizer.save_pretrained(folder)
    return folder


def uniform(corpus: Corpus, folder: Path) -> Path:
    """A teacher that knows nothing: every token is equally likely everywhere."""
    model = build_model(SHAPE.model_copy(update={"tie_embeddings": False}), corpus.vocab_size, 0)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    return save(model, corpus, folder)


def trained(corpus: Corpus, folder: Path, work: Path, *, steps: int, sharpen: float = 1.0) -> Path:
    """A teacher trained for some steps; its logits are multiplied by ``sharpen``."""
    model = build_model(SHAPE.model_copy(update={"tie_embeddings": False}), corpus.vocab_size, 0)
    data = TrainingData(corpus.train, corpus.heldout)
    config = TrainingConfig(
        tokens=16_384, steps=steps, batch_sequences=16, learning_rate=1e-2, validate_every=0, checkpoint_seconds=999
    )
    train(model, data, config, ObjectiveConfig(), work, precision_name="fp32")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(sharpen)
    return save(model, corpus, folder)
