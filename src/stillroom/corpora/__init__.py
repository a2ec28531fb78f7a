"""Text to tokens to batches: sources, tokenizers, packed token shards, and a stream where batch = f(seed, step)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.corpora.build import build_corpus
    from stillroom.corpora.corpus import Corpus, SequenceSet, next_token_targets, open_corpus
    from stillroom.corpora.naming import corpus_identity
    from stillroom.corpora.order import batch_indices, permute
    from stillroom.corpora.sources.part import Part
    from stillroom.corpora.sources.source_kinds import SOURCES, SourceKind, documents, source_identity
    from stillroom.corpora.tokenizer import (
        BOS,
        EOS,
        PAD,
        is_tokenizer_of,
        load_tokenizer,
        same_ids,
        save_opening,
        special_ids,
        tokenizer_hash,
        train_tokenizer,
    )
    from stillroom.corpora.workers import Workers

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "SOURCES",
    "Corpus",
    "Part",
    "SequenceSet",
    "SourceKind",
    "Workers",
    "batch_indices",
    "build_corpus",
    "corpus_identity",
    "documents",
    "is_tokenizer_of",
    "load_tokenizer",
    "next_token_targets",
    "open_corpus",
    "permute",
    "same_ids",
    "save_opening",
    "source_identity",
    "special_ids",
    "tokenizer_hash",
    "train_tokenizer",
]

__getattr__ = names_of(__name__)
