"""Builds a corpus folder: sources to documents to ids to packed shards, complete or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora.corpus import SCHEMA, Corpus, open_corpus, pack_documents
from stillroom.corpora.sources import documents, source_identity
from stillroom.corpora.tokenizer import load_tokenizer, save_tokenizer, tokenizer_hash, train_tokenizer, with_marks
from stillroom.files import fingerprint, folder_aside, write_json
from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary, encode_documents, num_ids
from stillroom.worlds.base import Split

_SHARD_TOKENS = 1 << 24
_TOKENIZER_CHARS = 3_000_000  # text that the tokenizer is trained on; more changes few merges
_ENCODE_AT_ONCE = 64  # documents

_REPORT_EVERY = 200  # sequences

Progress = Callable[[int, int], None]
_Packed = tuple[int, int, NDArray[np.int64]]
"""Code of the source, number of the document in which the sequence begins, ids (with their bytes where held out)."""
_BYTES = 32
_ID = (1 << _BYTES) - 1


def corpus_identity(config: CorpusConfig) -> dict[str, Any]:
    """What determines a corpus: its configuration and the content of its files."""
    identity = config.canonical()
    identity["sources"] = {name: source_identity(source) for name, source in config.sources.items()}
    return identity


def build_corpus(config: CorpusConfig, folder: Path, progress: Progress | None = None) -> Corpus:
    """Builds the corpus into ``folder`` (which appears when complete) and opens it."""
    identity = fingerprint(corpus_identity(config))
    with folder_aside(folder) as scratch:
        tokenizer = with_marks(_tokenizer(config))
        reader = _Reader(tokenizer, Vocabulary.of(tokenizer), config.seed)
        save_tokenizer(tokenizer, scratch / "tokenizer")
        sizes: dict[str, int] = {}
        # Held-out text comes first: it is compared with its tokens, and a tokenizer that loses some is told at once.
        parts: tuple[tuple[Split, int], ...] = (("heldout", config.heldout_tokens), ("train", config.train_tokens))
        total = config.train_tokens + config.heldout_tokens
        done = 0
        for split, tokens in parts:
            wanted = -(-tokens // config.sequence_length)
            sizes[split] = wanted
            stream = _interleave(config, reader, split, wanted)
            if progress is not None:
                stream = _counted(stream, config.sequence_length, done, total, progress)
            _write_shards(scratch / split, stream, config.sequence_length, reader)
            done += tokens
        manifest = {
            "schema": SCHEMA,
            "identity": identity,
            "sources": list(config.sources),
            "source_configs": {name: source.canonical() for name, source in config.sources.items()},
            "isolate_documents": config.isolate_documents,
            "sequence_length": config.sequence_length,
            "vocab_size": num_ids(tokenizer),
            "tokenizer_hash": tokenizer_hash(tokenizer),
            "bos": reader.vocabulary.bos,
            "eos": reader.vocabulary.eos,
            "sequences": {"train": sizes["train"], "heldout": sizes["heldout"]},
            "bytes_counted": True,
        }
        write_json(scratch / "corpus.json", manifest)
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


def _shares(config: CorpusConfig) -> dict[str, float]:
    total = sum(source.share for source in config.sources.values())
    return {name: source.share / total for name, source in config.sources.items()}


@dataclass(frozen=True)
class _Reader:
    """Turns the documents of a source into ids, and checks that these are the documents."""

    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    seed: int

    def documents(self, name: str, source: SourceConfig, split: Split) -> Iterator[list[int]]:
        """The codes of every document: ids, and of held-out ones the bytes of each token 32 bits above (``_BYTES``)."""
        marks = {self.vocabulary.bos, self.vocabulary.eos}
        for texts in _batched(documents(source, self.seed, split), _ENCODE_AT_ONCE):
            for text, ids in zip(texts, encode_documents(self.tokenizer, texts), strict=True):
                if not marks.isdisjoint(ids):
                    raise UserError(
                        f"corpus.sources.{name}: the text {_begin(text)} gives a token that opens or closes documents; "
                        "leave that text out, or use a tokenizer that keeps the names of its special tokens as text."
                    )
                yield ids if split == "train" else self._with_bytes(name, text, ids)

    def _with_bytes(self, name: str, text: str, ids: list[int]) -> list[int]:
        bytes_T = self.vocabulary.bytes_of(self.tokenizer, text, ids)
        if bytes_T is None:
            raise UserError(
                f"corpus.sources.{name}: the tokenizer cannot say the text {_begin(text)} (it has no token for some of "
                "it, or changes it), so bits per byte would be wrong; use a tokenizer that can, such as a byte-level "
                "one, or leave that text out."
            )
        return (np.asarray(ids, np.int64) | bytes_T << _BYTES).tolist()


def _begin(text: str) -> str:
    return repr(text[:40] + "..." if len(text) > 40 else text)


def _batched(items: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _interleave(config: CorpusConfig, reader: _Reader, split: Split, wanted: int) -> Iterator[_Packed]:
    """``wanted`` sequences, each of one source, in the order that keeps every first part true to the shares."""
    shares = list(_shares(config).values())
    marks = (cast(int, reader.vocabulary.bos), cast(int, reader.vocabulary.eos))  # with_marks has seen to both
    streams = [
        pack_documents(reader.documents(name, source, split), config.sequence_length, *marks)
        for name, source in config.sources.items()
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


def _write_shards(folder: Path, stream: Iterator[_Packed], length: int, reader: _Reader) -> None:
    """Writes ``tokens-NNNNN.npy``, ``source.npy`` and ``document.npy``, one shard in memory at a time.

    Beside the tokens lie ``bytes-NNNNN.npy``, the bytes of text that each stands for, where a token's id does not tell
    it.
    """
    folder.mkdir()
    kind = np.uint16 if num_ids(reader.tokenizer) <= 1 << 16 else np.uint32
    codes: list[int] = []
    numbers: list[int] = []
    for shard, rows in enumerate(_groups(stream, max(1, _SHARD_TOKENS // length))):
        codes += [code for code, _, _ in rows]
        numbers += [document for _, document, _ in rows]
        coded = np.stack([sequence for *_, sequence in rows])
        np.save(folder / f"tokens-{shard:05d}.npy", (coded & _ID).astype(kind))
        if folder.name == "heldout" and not reader.vocabulary.exact:
            np.save(folder / f"bytes-{shard:05d}.npy", (coded >> _BYTES).astype(np.uint32))
    np.save(folder / "source.npy", np.asarray(codes, dtype=np.uint8))
    np.save(folder / "document.npy", np.asarray(numbers, dtype=np.uint32))


def _groups(stream: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while rows := list(itertools.islice(stream, size)):
        yield rows
