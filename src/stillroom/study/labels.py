"""Labels a corpus with any teacher, and exchanges labels with other software: what ``stillroom label`` does."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillroom.config import LabelsConfig, parse
from stillroom.corpora import Corpus, load_tokenizer, open_corpus, tokenizer_hash
from stillroom.files import file_hash, fingerprint
from stillroom.models import hidden_states, load_model, precision, unembedding
from stillroom.study.labelprogress import label_stage
from stillroom.study.progress import StageDisplay
from stillroom.teachers import (
    ExactScores,
    LabelStore,
    Manifest,
    export_parquet,
    import_distillkit,
    import_kd,
    import_parquet,
    label_part,
    price,
)
from stillroom.training.distributed import own_device
from stillroom.types import Batch, UserError
from stillroom.worlds.exact import make_exact_world

WORLD_PREFIX = "world:"
"""Begins the name of a teacher that is a process which knows its own distribution."""


@dataclass(frozen=True)
class LabelRequest:
    """What was asked for on the command line."""

    teacher: str
    corpus: Path
    out: Path
    labels: dict[str, Any]
    tokens: int | None
    dry_run: bool


def label_corpus(request: LabelRequest, display: StageDisplay) -> None:
    """Labels the corpus into ``request.out``, or prints what that would take."""
    config = parse(LabelsConfig, request.labels, "label")
    corpus = open_corpus(request.corpus)
    sequences = corpus.train if request.tokens is None else corpus.train.first(request.tokens)
    if request.dry_run:
        _print_price(request.teacher, sequences.num_tokens, config, corpus, display)
        return
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    teacher, name = _teacher(request.teacher, corpus)
    with label_stage(display, request.out, rank, world_size) as update:
        manifest = label_part(
            teacher, sequences, config, request.out, identity=_identity(name, corpus), rank=rank,
            world_size=world_size, isolate=corpus.isolate, progress=update,
        )  # fmt: skip
    _say(manifest, request.out, display)


def _teacher(teacher: str, corpus: Corpus) -> tuple[Any, str]:
    """A model or the scores of an exact world, and the hash that names it in a store."""
    if teacher.startswith(WORLD_PREFIX):
        return exact_scores(teacher, corpus.vocab_size), fingerprint(teacher)
    folder = teacher_folder(teacher)
    check_vocabulary(folder, corpus)
    model = load_model(folder).to(own_device())  # pyright: ignore[reportArgumentType]
    return model, teacher_hash(folder)


def exact_scores(teacher: str, vocab_size: int) -> ExactScores:
    """Scores of ``world:NAME`` or ``world:NAME:{"option": value}``: a process that knows its own distribution."""
    name, _, text = teacher.removeprefix(WORLD_PREFIX).partition(":")
    try:
        options = json.loads(text) if text else {}
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise UserError(f'teacher {teacher}: {text!r} is no JSON object; expected world:NAME:{{"option": value}}.')
    world = make_exact_world(name, options)

    def log_probs(batch: Batch) -> torch.Tensor:
        rows_BTV = world.exact_probabilities(batch.tokens_BT.numpy())
        if rows_BTV.shape != (*batch.tokens_BT.shape, vocab_size):
            raise UserError(
                f"teacher {teacher}: gives probabilities of {rows_BTV.shape[-1]} tokens, the corpus has {vocab_size}; "
                "give the options that the corpus was made with."
            )
        return torch.from_numpy(np.log(np.maximum(rows_BTV, 1e-30)))

    return ExactScores(log_probs)


def import_labels(source: Path, teacher: str, corpus_folder: Path, out: Path, tokens: Path | None) -> Manifest:
    """A store from labels that other software wrote, told apart by what lies there.

    A ``.kd`` sidecar needs ``tokens``, the shard's ids as ``.npy``; a folder or file with a ``compression_config.yaml``
    is DistillKit's; any other Parquet holds plain top-k columns.
    """
    corpus = open_corpus(corpus_folder)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; --import expects Parquet or a .kd sidecar.")
    identity, length = _identity(teacher, corpus), corpus.train.sequence_length
    if source.suffix == ".kd":
        if tokens is None:
            raise UserError(f"{source}: a .kd sidecar needs the ids of its token shard; give --import-tokens FILE.npy.")
        ids = np.load(tokens, allow_pickle=False).reshape(-1)
        return import_kd(source, ids, out, identity=identity, sequence_length=length)
    folder = source if source.is_dir() else source.parent
    read = import_distillkit if (folder / "compression_config.yaml").is_file() else import_parquet
    return read(source, out, identity=identity, sequence_length=length)


def export_labels(store: Path, target: Path) -> int:
    """Writes a store as one Parquet file; returns the number of sequences."""
    return export_parquet(LabelStore.open(store), target)


def _identity(teacher: str, corpus: Corpus) -> dict[str, Any]:
    return {
        "teacher": teacher,
        "tokenizer": corpus.manifest["tokenizer_hash"],
        "vocab_size": corpus.vocab_size,
        "corpus": corpus.identity,
    }


def _say(manifest: Manifest | None, out: Path, display: StageDisplay) -> None:
    if manifest is None:
        display.console.print("This rank's shards are written; the store is finished by the last rank.")
        return
    display.console.print(
        f"{manifest.num_tokens:,} tokens at {manifest.bytes_per_token:.1f} bytes each: [bold]{out}[/]", soft_wrap=True
    )


def teacher_folder(teacher: str) -> str:
    """The model folder of a teacher: a training run's folder stands for its ``model/``."""
    inside = Path(teacher) / "model"
    return str(inside) if (inside / "config.json").is_file() else teacher


def teacher_hash(teacher: str) -> str:
    """A hash of a local teacher's weights and configuration; a hub id stands for itself."""
    path = Path(teacher)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) + sorted(path.glob("config.json"))
    return fingerprint([file_hash(file) for file in files] or teacher)


def check_vocabulary(teacher: str, corpus: Corpus) -> None:
    """Refuses a teacher whose tokenizer gives other ids than the corpus's: its labels would mean other tokens."""
    tokenizer = load_tokenizer(teacher)
    if tokenizer_hash(tokenizer) != corpus.manifest["tokenizer_hash"]:
        raise UserError(
            f"teacher {teacher}: its tokenizer ({len(tokenizer)} tokens) differs from the corpus's "
            f"({corpus.vocab_size} tokens), so its labels would name other tokens; set corpus.tokenizer to the teacher."
        )


def _print_price(teacher: str, tokens: int, config: LabelsConfig, corpus: Corpus, display: StageDisplay) -> None:
    """2 FLOPs per parameter and token, and the time that this takes at the speed of one batch measured now."""
    model, _ = _teacher(teacher, corpus)
    is_exact = isinstance(model, ExactScores)
    parameters = 0 if is_exact else sum(parameter.numel() for parameter in model.parameters())
    speed = _measured_speed(model, corpus)
    asked = price(tokens, 2.0 * parameters, config, corpus.vocab_size, tokens_per_second=speed)
    for sentence in asked.sentences():
        display.console.print(sentence)
    display.console.print(
        f"Time is at {speed:,.0f} tokens/s, measured on one batch now. Nothing was written.", style="dim"
    )


def _measured_speed(model: Any, corpus: Corpus) -> float:
    """Tokens per second of the bare forward pass (an exact world: of its distributions) on a few sequences."""
    count = min(len(corpus.train), max(1, 1024 // corpus.train.sequence_length))
    device = torch.device("cpu") if isinstance(model, ExactScores) else own_device()
    batch = corpus.train.batch(range(count)).to(device)
    begin = 0.0
    with torch.no_grad(), precision("auto", device):
        for _ in range(2):  # the first pass warms up
            begin = time.perf_counter()
            if isinstance(model, ExactScores):
                list(model.chunks(batch))
                continue
            weight, _ = unembedding(model)
            torch.matmul(hidden_states(model, batch, corpus.isolate), weight.T).sum().item()  # waits for a GPU
    return batch.num_positions / (time.perf_counter() - begin)
