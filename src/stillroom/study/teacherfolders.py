"""What names a teacher and whether it fits a corpus: its folder, its hash, its vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stillroom.corpora import Corpus, is_tokenizer_of, load_tokenizer, same_ids
from stillroom.files import file_hash, fingerprint, read_json_object
from stillroom.labels import LabelStore
from stillroom.models import check_files, find_source, read_config
from stillroom.places import find_part
from stillroom.types import UserError

_TOKENIZER_FILES = ("tokenizer*", "vocab.*", "*.tiktoken", "spiece.model", "sentencepiece*.model", "tekken.json")


def teacher_folder(teacher: str) -> str:
    """The model folder, hub id or file of a teacher; a run stands for its teacher, a training for its model."""
    return find_part("model", teacher, "teacher").path


def teacher_hash(teacher: str) -> str:
    """A hash of a teacher's weights and configuration, wherever they lie; refuses what cannot be one by its files."""
    check_files(teacher)
    source = find_source(teacher)
    folder = source.folder
    files = [source.gguf] if source.gguf else [*sorted(folder.glob("*.safetensors")), folder / "config.json"]
    return fingerprint([file_hash(file) for file in files])


def has_tokenizer(model: str | Path) -> bool:
    """Whether a tokenizer lies in a model's folder; of hub ids and files this is taken for granted."""
    folder = Path(model)
    return not folder.is_dir() or any(next(folder.glob(name), None) for name in _TOKENIZER_FILES)


def reads_ids_of(model: str, corpus: Corpus) -> bool:
    """Whether a model's tokenizer gives the corpus's ids."""
    tokenizer = load_tokenizer(model)
    own, marks = corpus.tokenizer, (corpus.manifest["bos"], corpus.manifest["eos"])
    # The corpus's own copy may have been read otherwise than what it was copied from, whose hash it keeps.
    as_written = is_tokenizer_of(tokenizer, corpus.manifest["tokenizer_hash"])
    return same_ids(own, tokenizer, marks, as_written=as_written)


def check_vocabulary(model: str, corpus: Corpus, role: str = "teacher") -> None:
    """Refuses a model whose tokenizer gives other ids than the corpus's: its numbers would be of other tokens."""
    if reads_ids_of(model, corpus):
        check_rows(model, corpus.vocab_size, role)
        return
    raise UserError(
        f"{role} {model}: its tokenizer ({len(load_tokenizer(model))} tokens) differs from the corpus's "
        f"({corpus.vocab_size} tokens), so its {_NAMED.get(role, 'ids')} would name other tokens; "
        f"{_HELP.get(role, 'build a corpus with this model as corpus.tokenizer')}."
    )


def check_rows(model: str, tokens: int, role: str) -> None:
    """Refuses a model with fewer rows in its unembedding than ids that it will be given: some would have no score."""
    rows = getattr(read_config(model).get_text_config(), "vocab_size", None)
    if isinstance(rows, int) and rows < tokens:
        raise UserError(
            f"{role} {model}: its unembedding has {rows} rows, expected one for each of the {tokens} tokens that it is "
            "given; use the tokenizer that it was trained with, without tokens added since."
        )


def check_labelled(store: LabelStore, corpus: Corpus) -> None:
    """Refuses labels of ids that are not the corpus's."""
    own = str(store.manifest.identity["tokenizer"])
    if own != corpus.manifest["tokenizer_hash"] and not is_tokenizer_of(corpus.tokenizer, own):
        raise UserError(
            f"labels {store.place.name}: are of the ids of another tokenizer ({store.manifest.vocab_size} tokens, "
            f"{own}) than the corpus's ({corpus.vocab_size} tokens, {corpus.manifest['tokenizer_hash']}); give "
            "labels of this corpus, or the corpus that was labelled."
        )


_NAMED = {"teacher": "labels", "model": "scores", "model.path": "weights"}
_HELP = {"teacher": "set corpus.tokenizer to the teacher", "model.path": "set corpus.tokenizer to model.path"}


def check_measured(model: str, corpus: Corpus) -> str | None:
    """``check_vocabulary`` for a model that is measured on a corpus.

    One without a tokenizer is taken if its vocabulary is as large as the corpus's; what is then returned says so.
    """
    if has_tokenizer(model):
        check_vocabulary(model, corpus, "model")
        return None
    config: dict[str, Any] = read_json_object(Path(model) / "config.json")
    size = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    if size != corpus.vocab_size:
        raise UserError(
            f"model {model}: has no tokenizer, and its vocabulary of {size} tokens is not the corpus's of "
            f"{corpus.vocab_size}; put its tokenizer beside it, or give the corpus that it was trained on."
        )
    return f"{model} has no tokenizer; its {size} tokens are taken to be those of the corpus, whose number is the same."
