"""What a corpus holds, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from stillroom.corpora.corpus import Corpus
from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.exchange.id_documents import text_of_ids
from stillroom.corpora.exchange.id_rows import TABLES
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import source_kind, source_parts
from stillroom.corpora.sources.tokens_source import (
    all_ids,
    check_token_source,
    list_token_files,
    open_tokens,
    token_options,
)
from stillroom.strict import to_yaml
from stillroom.vocabulary import Vocabulary, num_ids

_WHOLE = 1 << 62
"""Bytes of a part that is not cut."""
_SHOWN = 200  # tokens


def corpus_table(corpus: Corpus) -> Table:
    """Vocabulary, marks, sequences and tokens of each split, and what part of the training text every source is."""
    table = Table(title=f"Corpus {corpus.identity}", title_justify="left", show_header=False)
    marks = " and ".join(dict.fromkeys(map(str, (corpus.manifest["bos"], corpus.manifest["eos"]))))
    table.add_row("vocabulary", f"{corpus.vocab_size:,} tokens, documents between ids {marks}")
    table.add_row("sequence length", f"{corpus.train.sequence_length:,} tokens")
    for name, part in (("train", corpus.train), ("held out", corpus.heldout)):
        table.add_row(name, f"{len(part):,} sequences, {part.num_tokens:,} tokens")
    counts = np.bincount(corpus.train.source, minlength=len(corpus.source_names))
    for name, count in zip(corpus.source_names, counts.tolist(), strict=True):
        told = [f"{count / len(corpus.train):.1%} of the training sequences", *_told(corpus, name)]
        table.add_row(f"from {name}", ", ".join(told))
    return table


def _told(corpus: Corpus, source: str) -> Iterator[str]:
    """What a corpus's manifest tells of the text of a source."""
    names = ("texts", "duplicates", "epochs", "packing", "rows")
    told = {name: found[source] for name in names if source in (found := corpus.manifest.get(name, {}))}
    if "texts" in told:
        yield f"{told['texts']:,} texts"
    if told.get("duplicates"):
        yield f"{told['duplicates']:,} duplicates dropped"
    if "epochs" in told:
        yield f"used {told['epochs']:.2f} times"
    if "packing" in told:
        cut, padded = told["packing"]["cut"], told["packing"]["padded"]
        yield f"{cut:.1%} of its tokens in documents that were cut, {padded:.1%} padded"
    for what, number in told.get("rows", {}).items():
        yield f"{number:,} rows {'read' if what == 'rows' else what.replace('_', ' ')}"


def print_corpus_plan(config: CorpusConfig, console: Console) -> None:
    """Prints the configuration as it runs again, and of every source its files, its text and what is asked of it."""
    console.print(to_yaml(config, "corpus"), highlight=False)
    table = Table(title="Sources", title_justify="left")
    for name in ("source", "files", "text, about", "asked for"):
        table.add_column(name, justify="left" if name == "source" else "right")
    total = sum(source.share for source in config.sources.values())
    for name, source in config.sources.items():
        kind = source_kind(source.kind)
        kind.check(source)
        listing = kind.listing(source)
        size = (
            "endless" if kind.parts is None else f"{sum(one.size for one in source_parts(source, 0, _WHOLE)):,} bytes"
        )
        files = "" if listing is None else f"{len(listing.files):,}"
        table.add_row(name, files, size, f"{round(config.train_tokens * source.share / total):,} tokens")
    console.print(table)


def token_table(source: SourceConfig, tokenizer: PreTrainedTokenizerBase | None) -> Table:
    """What files of token ids hold, as far as they tell it without being read."""
    table = Table(title=f"Token ids in {source.path}", title_justify="left")
    for name in ("file", "ids of", "tokens", "documents"):
        table.add_column(name, justify="left" if name == "file" else "right")
    size = 1 if tokenizer is None else num_ids(tokenizer)
    for file in list_token_files(source).files:
        if file.endswith(TABLES):
            table.add_row(file, "a table", "in its rows", "its rows")
            continue
        opened = open_tokens(file, token_options(source), size)
        documents = f"{opened.num_documents:,}" if opened.bounds else "between marks"
        table.add_row(file, opened.ids.dtype.name, f"{len(opened.ids):,}", documents)
    return table


def first_text(source: SourceConfig, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The first document of files of token ids as text, or where it begins; refuses ids of another tokenizer."""
    check_token_source(source, tokenizer)
    vocabulary = Vocabulary.of(tokenizer)
    first = next((ids for batch in all_ids(source, vocabulary) for ids in batch), None)
    return None if first is None else text_of_ids(vocabulary, first[:_SHOWN])
