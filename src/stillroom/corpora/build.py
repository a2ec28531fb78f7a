"""Builds a corpus folder: sources to documents to ids to packed shards, complete or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from stillroom.checksums import seal
from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora.corpus import SCHEMA, Corpus, open_corpus, pack_documents
from stillroom.corpora.sources import documents, source_identity
from stillroom.corpora.tokenizer import load_tokenizer, tokenizer_hash, train_tokenizer
from stillroom.files import fingerprint, folder_aside, write_json
from stillroom.types import UserError
from stillroom.worlds.base import Split

_SHARD_TOKENS = 1 << 24
_TOKENIZER_CHARS = 3_000_000  # text that the tokenizer is trained on; more changes few merges
_ENCODE_AT_ONCE = 64  # documents

_REPORT_EVERY = 200  # sequences

Progress = Callable[[int, int], None]
_Packed = tuple[int, int, NDArray[np.uint32]]
"""Code of the source, number of the document in which the sequence begins, ids."""


def corpus_identity(config: CorpusConfig) -> dict[str, Any]:
    """What determines a corpus: its configuration and the content of its files."""
    identity = config.canonical()
    identity["sources"] = {name: source_identity(source) for name, source in config.sources.items()}
    return identity


def build_corpus(config: CorpusConfig, folder: Path, progress: Progress | None = None) -> Corpus:
    """Builds the corpus into ``folder`` (which appears when complete) and opens it."""
    identity = fingerprint(corpus_identity(config))
    with folder_aside(folder) as scratch:
        tokenizer = _tokenizer(config)
        tokenizer.save_pretrained(scratch / "tokenizer")
        bos, eos = _document_marks(tokenizer)
        sizes: dict[str, int] = {}
        parts: tuple[tuple[Split, int], ...] = (("train", config.train_tokens), ("heldout", config.heldout_tokens))
        total = config.train_tokens + config.heldout_tokens
        done = 0
        for split, tokens in parts:
            wanted = -(-tokens // config.sequence_length)
            sizes[split] = wanted
            stream = _interleave(config, tokenizer, bos, eos, split, wanted)
            if progress is not None:
                stream = _counted(stream, config.sequence_length, done, total, progress)
            _write_shards(scratch / split, stream, config.sequence_length, len(tokenizer))
            done += tokens
        manifest = {
            "schema": SCHEMA,
            "identity": identity,
            "sources": list(config.sources),
            "source_configs": {name: source.canonical() for name, source in config.sources.items()},
            "isolate_documents": config.isolate_documents,
            "sequence_length": config.sequence_length,
            "vocab_size": len(tokenizer),
            "tokenizer_hash": tokenizer_hash(tokenizer),
            "bos": bos,
            "eos": eos,
            "sequences": sizes,
        }
        write_json(scratch / "corpus.json", manifest)
        seal(scratch)
    return open_corpus(folder)


def _tokenizer(config: CorpusConfig) -> PreTrainedTokenizerBase:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    shares = _shares(config)

    def texts() -> Iterator[str]:
        for name, source in config.sources.items():
            left = int(_TOKENIZER_CHARS * shares[name])
            for text in documents(source, config.seed, "train"):
                yield text[:left]
                left -= len(text)
                if left <= 0:
                    break

    return train_tokenizer(texts(), config.vocab_size)


def _document_marks(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Ids that open and close a document; a tokenizer with only one special uses it for both ends."""
    eos = tokenizer.eos_token_id
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else eos
    if bos is None:
        raise UserError("corpus.tokenizer: has neither a bos nor an eos token; documents could not be told apart.")
    return int(bos), int(eos if eos is not None else bos)  # pyright: ignore[reportArgumentType]


def _shares(config: CorpusConfig) -> dict[str, float]:
    total = sum(source.share for source in config.sources.values())
    return {name: source.share / total for name, source in config.sources.items()}


def _encoded(source: SourceConfig, tokenizer: PreTrainedTokenizerBase, seed: int, split: Split) -> Iterator[list[int]]:
    for texts in _batched(documents(source, seed, split), _ENCODE_AT_ONCE):
        # Text that spells out a special token stays text: it must not open or close a document.
        encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
        yield from encoded["input_ids"]  # pyright: ignore[reportReturnType]


def _batched(items: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _interleave(
    config: CorpusConfig, tokenizer: PreTrainedTokenizerBase, bos: int, eos: int, split: Split, wanted: int
) -> Iterator[_Packed]:
    """``wanted`` sequences, each of one source, in the order that keeps every first part true to the shares."""
    shares = list(_shares(config).values())
    streams = [
        pack_documents(_encoded(source, tokenizer, config.seed, split), config.sequence_length, bos, eos)
        for source in config.sources.values()
    ]
    taken = [0] * len(streams)
    for number in range(wanted):
        code = max(range(len(streams)), key=lambda index: shares[index] * (number + 1) - taken[index])
        try:
            document, sequence = next(streams[code])
        except StopIteration:
            name = list(config.sources)[code]
            found = taken[code] * config.sequence_length
            raise UserError(
                f"corpus.sources.{name}: holds {found} {split} tokens, but its share asks for about "
                f"{round(shares[code] * wanted * config.sequence_length)}; add text, lower the share or "
                f"corpus.{split}_tokens."
            ) from None
        taken[code] += 1
        yield code, document, sequence


def _counted(stream: Iterator[_Packed], length: int, done: int, total: int, progress: Progress) -> Iterator[_Packed]:
    for number, item in enumerate(stream, 1):
        if number % _REPORT_EVERY == 0:
            progress(min(total, done + number * length), total)
        yield item


def _write_shards(folder: Path, stream: Iterator[_Packed], length: int, vocab_size: int) -> None:
    """Writes ``tokens-NNNNN.npy``, ``source.npy`` and ``document.npy``, one shard in memory at a time."""
    folder.mkdir()
    kind = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    codes: list[int] = []
    numbers: list[int] = []
    for shard, rows in enumerate(_groups(stream, max(1, _SHARD_TOKENS // length))):
        codes += [code for code, _, _ in rows]
        numbers += [document for _, document, _ in rows]
        np.save(folder / f"tokens-{shard:05d}.npy", np.stack([sequence for *_, sequence in rows]).astype(kind))
    np.save(folder / "source.npy", np.asarray(codes, dtype=np.uint8 if max(codes) < 1 << 8 else np.uint32))
    np.save(folder / "document.npy", np.asarray(numbers, dtype=np.uint32))


def _groups(stream: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while rows := list(itertools.islice(stream, size)):
        yield rows
