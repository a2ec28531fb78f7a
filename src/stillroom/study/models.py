"""Trains one model of a study into a folder: weights, tokenizer, metrics, and what it took.

A finished folder holds ``model/`` (Hugging Face layout), ``metrics.jsonl``, ``config.yaml`` and ``result.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from stillroom.config import ModelConfig, RunConfig, to_yaml
from stillroom.corpora import Corpus
from stillroom.files import write_json, write_text
from stillroom.models import build_model, export_model
from stillroom.teachers import LabelStore
from stillroom.training import LabelSource, LiveTeacher, TrainingData, TrainingResult, join, train
from stillroom.training.distributed import launched_rank
from stillroom.training.export import gathered, model_card, trunk
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
    labels: LabelSource | LiveTeacher | None,
    precision_name: str,
    progress: Progress | None,
    stop: Callable[[], bool],
) -> None:
    """Trains the model of ``run`` on ``corpus``; continues where a killed call stopped."""
    model_config, training, objective = run.model, run.training, run.objective
    check_length(model_config, corpus, "model.path")
    if launched_rank() == 0:
        write_text(folder / "config.yaml", to_yaml(run, "run"))
    model = build_model(trunk(model_config, objective.heads), corpus.vocab_size, training.seed).train()
    data = TrainingData(
        corpus.train.first(training.tokens),
        corpus.heldout,
        labels,
        isolate=run.corpus.isolate_documents,
        label_temperature=labels.manifest.config.temperature if isinstance(labels, LabelStore) else 1.0,
    )
    ranks = join(training.parallel)
    result = train(
        model, data, training, objective, folder,
        precision_name=precision_name, progress=progress, stop=stop, ranks=ranks,
    )  # fmt: skip
    whole = gathered(model, ranks)
    if whole is not None:
        _export(folder, run, corpus, data, model, whole, result)
    ranks.barrier()


def _export(
    folder: Path,
    run: RunConfig,
    corpus: Corpus,
    data: TrainingData,
    model: PreTrainedModel,
    weights: dict[str, Tensor],
    result: TrainingResult,
) -> None:
    """Writes ``model/`` and ``result.json``; the checkpoints have done their work."""
    record = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "distinct_tokens": len(data.train) * data.train.sequence_length,
        "tokens": result.tokens,
        "steps": result.steps,
        "seconds": round(result.seconds, 2),
        "validation_ce": result.validation_ce,
        "corpus": corpus.identity,
    }
    export_model(model, folder / "model", weights)
    corpus.tokenizer.save_pretrained(folder / "model")
    write_text(folder / "model" / "README.md", model_card(run, record))
    write_json(folder / "result.json", record)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
