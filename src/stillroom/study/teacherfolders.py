"""What names a teacher and whether it fits a corpus: its folder, its hash, its vocabulary."""

from __future__ import annotations

import os

from stillroom.corpora import Corpus, load_tokenizer, tokenizer_hash
from stillroom.files import file_hash, fingerprint
from stillroom.models import check_files, find_source
from stillroom.types import UserError


def teacher_folder(teacher: str) -> str:
    """The model folder of a teacher: a training run's folder stands for its ``model/``."""
    inside = os.path.join(os.path.expanduser(teacher), "model")
    return inside if os.path.isfile(os.path.join(inside, "config.json")) else teacher


def teacher_hash(teacher: str) -> str:
    """A hash of a teacher's weights and configuration, wherever they lie; refuses what cannot be one by its files."""
    check_files(teacher)
    source = find_source(teacher)
    folder = source.folder
    files = [source.gguf] if source.gguf else [*sorted(folder.glob("*.safetensors")), folder / "config.json"]
    return fingerprint([file_hash(file) for file in files])


def check_vocabulary(teacher: str, corpus: Corpus) -> None:
    """Refuses a teacher whose tokenizer gives other ids than the corpus's: its labels would mean other tokens."""
    tokenizer = load_tokenizer(teacher)
    if tokenizer_hash(tokenizer) != corpus.manifest["tokenizer_hash"]:
        raise UserError(
            f"teacher {teacher}: its tokenizer ({len(tokenizer)} tokens) differs from the corpus's "
            f"({corpus.vocab_size} tokens), so its labels would name other tokens; set corpus.tokenizer to the teacher."
        )
