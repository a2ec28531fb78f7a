"""Trains one model of a study into a folder: weights, tokenizer, metrics, and what it took.

A finished folder holds ``model/`` (Hugging Face layout), ``metrics.jsonl``, ``config.yaml`` and ``result.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import AutoConfig

from stillroom.config import ModelConfig, RunConfig, to_yaml
from stillroom.corpora import Corpus
from stillroom.files import write_json, write_text
from stillroom.models import build_model, export_model
from stillroom.training import TrainingData, train
from stillroom.training.step import LabelSource
from stillroom.types import UserError

Progress = Callable[[int, int], None]


def check_length(model: ModelConfig, corpus: Corpus, field: str) -> None:
    """Refuses sequences that are longer than the positions of a pretrained model (others are checked in the recipe)."""
    if model.path is None:
        return
    longest = getattr(AutoConfig.from_pretrained(model.path), "max_position_embeddings", None)
    length = corpus.train.sequence_length
    if longest is not None and length > longest:
        raise UserError(f"corpus.sequence_length is {length} but {field} {model.path} covers {longest}; shorten it.")


def train_into(
    folder: Path,
    *,
    run: RunConfig,
    corpus: Corpus,
    labels: LabelSource | None,
    precision_name: str,
    progress: Progress | None,
    stop: Callable[[], bool],
) -> None:
    """Trains the model of ``run`` on ``corpus``; continues where a killed call stopped."""
    model_config, training, objective = run.model, run.training, run.objective
    check_length(model_config, corpus, "model.path")
    write_text(folder / "config.yaml", to_yaml(run, "run"))
    model = build_model(model_config, corpus.vocab_size, training.seed).train()
    data = TrainingData(
        corpus.train.first(training.tokens), corpus.heldout, labels, isolate=run.corpus.isolate_documents
    )
    result = train(
        model, data, training, objective, folder, precision_name=precision_name, progress=progress, stop=stop
    )
    export_model(model, folder / "model")
    corpus.tokenizer.save_pretrained(folder / "model")
    write_json(
        folder / "result.json",
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "distinct_tokens": data.train.num_tokens,
            "tokens": result.tokens,
            "steps": result.steps,
            "seconds": round(result.seconds, 2),
            "validation_ce": result.validation_ce,
            "corpus": corpus.identity,
        },
    )
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
