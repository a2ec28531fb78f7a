"""Labels a corpus with any teacher: what ``stillroom label`` does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.config import LabelsConfig, parse
from stillroom.corpora import Corpus, SequenceSet, load_tokenizer, open_corpus, tokenizer_hash
from stillroom.files import file_hash, fingerprint
from stillroom.models import load_model
from stillroom.study.progress import StageDisplay
from stillroom.teachers import label_part
from stillroom.types import UserError


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
    folder = teacher_folder(request.teacher)
    check_vocabulary(folder, corpus)
    if request.dry_run:
        _print_price(folder, sequences, display)
        return
    identity = {
        "teacher": teacher_hash(folder),
        "tokenizer": corpus.manifest["tokenizer_hash"],
        "vocab_size": corpus.vocab_size,
        "corpus": corpus.identity,
    }
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    with display.stage("labels") as update:
        manifest = label_part(
            load_model(folder), sequences, config, request.out,
            identity=identity, rank=rank, world_size=world_size, progress=update,
        )  # fmt: skip
    if manifest is not None:
        display.console.print(
            f"{manifest.num_tokens} tokens at {manifest.bytes_per_token:.1f} bytes each: [bold]{request.out}[/]",
            soft_wrap=True,
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
    source = str(Path(teacher).parent) if teacher.endswith(".gguf") else teacher
    tokenizer = load_tokenizer(source)
    if tokenizer_hash(tokenizer) != corpus.manifest["tokenizer_hash"]:
        raise UserError(
            f"teacher {teacher}: its tokenizer ({len(tokenizer)} tokens) differs from the corpus's "
            f"({corpus.vocab_size} tokens), so its labels would name other tokens; set corpus.tokenizer to the teacher."
        )


def _print_price(teacher: str, sequences: SequenceSet, display: StageDisplay) -> None:
    parameters = sum(parameter.numel() for parameter in load_model(teacher).parameters())
    tokens = sequences.num_tokens
    display.console.print(
        f"{tokens} tokens, {2.0 * parameters * tokens:.2e} teacher FLOPs (2 per parameter and token), about "
        f"{22 * tokens / 1e6:.1f} MB of labels. Nothing was written."
    )
