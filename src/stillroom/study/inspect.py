"""Shows what a folder holds: a run of any kind, a label store, a corpus, a model or the checkpoints of a run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from transformers import PreTrainedTokenizerBase

from stillroom.console import Terminal, line
from stillroom.corpora import is_tokenizer_of, load_tokenizer, open_corpus
from stillroom.corpora.corpus_table import corpus_table, first_text, token_table
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.tokenizer import with_marks
from stillroom.labels import LabelStore, inspect_store
from stillroom.labels.terminal import inspection_tables
from stillroom.places import find_part, find_parts, split_reference
from stillroom.results.inspected import InspectedCheckpoints, InspectedModel
from stillroom.strict import parse
from stillroom.study.model_inspection import ModelRequest, checkpoint_folders, show_checkpoints, show_model
from stillroom.study.run_inspection import show_run
from stillroom.study.verifying import print_verified
from stillroom.types import UserError


def inspect_path(
    path: Path, *, verify: bool, tokenizer: Path | None = None, request: ModelRequest | None = None
) -> InspectedModel | InspectedCheckpoints | None:
    """Prints what ``path`` is and holds; with ``verify`` checks every byte of it, and of a run all that it names.

    ``request`` says what more is asked of a model. Returns what a page can draw of it, None where there is nothing.
    """
    console = Terminal()
    folder, part = split_reference(path)
    if folder is None:
        raise UserError(f"{path}: no such file or folder; expected a run, a label store, a corpus or a model folder.")
    if part is not None and part.endswith("@all"):
        return show_checkpoints(Path(find_parts("model", path)[0].path).parent, console)
    path = folder if part is None else Path(find_part("part", path).path)
    path = _only_part(path)
    if verify and not (path / "manifest.json").is_file():
        print_verified(path, console)
    elif (path / "corpus.json").is_file():
        _corpus(path, console)
    elif (path / "manifest.json").is_file():
        _store(path, console, verify, tokenizer)
    elif (path / "config.json").is_file():
        return show_model(path, console, request or ModelRequest())
    elif checkpoint_folders(path) or (path / "checkpoints").is_dir():
        return show_checkpoints(path, console)
    elif (path / "model" / "config.json").is_file():
        return show_model(path / "model", console, request or ModelRequest())
    elif not show_run(path, console):
        raise UserError(
            f"{path}: holds none of manifest.json (label store), corpus.json (corpus), config.json (model), "
            "checkpoints, study.json, sandbox.json, ranking.json and evaluation.json (runs); give one of those folders."
        )
    return None


def _only_part(path: Path) -> Path:
    """The corpus or the labels of a folder that holds nothing else, such as an artifact; else the folder itself."""
    inside = [path / name for name in ("corpus", "labels") if (path / name).is_dir()]
    is_wrapper = len(inside) == 1 and not (path / "config.yaml").exists() and not (path / "model").exists()
    return inside[0] if is_wrapper else path


def _corpus(path: Path, console: Console) -> None:
    corpus = open_corpus(path)
    console.print(corpus_table(corpus))
    console.print("First training sequence:")
    console.print(line((repr(corpus.tokenizer.decode(corpus.train.tokens([0])[0])), "dim")))


def inspect_token_file(path: Path, tokenizer: str | None, dtype: str | None) -> None:
    """Prints what a file of token ids holds; with a tokenizer, its first document as text."""
    options = {} if dtype is None else {"dtype": dtype}
    source = parse(SourceConfig, {"kind": "tokens", "path": str(path), "options": options}, "corpus inspect")
    words = None if tokenizer is None else with_marks(load_tokenizer(tokenizer))
    console = Terminal()
    console.print(token_table(source, words))
    if words is not None and (text := first_text(source, words)) is not None:
        console.print("First document:")
        console.print(line((repr(text), "dim")))


def _words(path: Path, store: LabelStore) -> PreTrainedTokenizerBase:
    """The tokenizer that tells what a store's ids are; refuses another one than it was made with."""
    tokenizer, own = load_tokenizer(path), str(store.manifest.identity["tokenizer"])
    if not is_tokenizer_of(tokenizer, own):
        raise UserError(
            f"--tokenizer {path}: is another tokenizer than that of the labels ({own}), whose ids it would misread; "
            "give the tokenizer/ of the corpus that was labelled."
        )
    return tokenizer


def _store(path: Path, console: Console, verify: bool, tokenizer: Path | None) -> None:
    store = LabelStore.open(path)
    words = None if tokenizer is None else _words(tokenizer, store)
    decode = None if words is None else (lambda ids: str(words.decode(ids)))
    console.print(inspection_tables(inspect_store(store, decode=decode)))
    if verify:
        shards = sum(1 for _ in store.verify())
        console.print(line(("✓", "green"), f" every byte of {shards} shards is as it was written"))
