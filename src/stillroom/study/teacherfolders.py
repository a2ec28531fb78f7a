"""What names a teacher and whether it fits a corpus: its folder, its hash, its vocabulary."""

from __future__ import annotations

from pathlib import Path

from stillroom.corpora import Corpus, load_tokenizer, tokenizer_hash
from stillroom.files import file_hash, fingerprint
from stillroom.types import UserError


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
