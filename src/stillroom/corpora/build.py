"""Builds a corpus folder: sources to documents to ids to packed shards, complete or not at all."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from stillroom.checksums import seal
from stillroom.corpora.corpus import SCHEMA, Corpus, open_corpus, pack_documents
from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.naming import corpus_identity
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import documents, source_stamps
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.tokenizer import (
    check_vocab_size,
    load_tokenizer,
    save_tokenizer,
    tokenizer_hash,
    train_tokenizer,
    with_marks,
)
from stillroom.files import fingerprint, folder_aside, write_json
from stillroom.types import OnProgress, UserError
from stillroom.vocabulary import Vocabulary, encode_documents, num_ids
from stillroom.worlds.base import Split

_SHARD_TOKENS = 1 << 24
_TOKENIZER_CHARS = 3_000_000  # text that the tokenizer is trained on; more changes few merges
_ENCODE_AT_ONCE = 64  # documents

_REPORT_EVERY = 200  # sequences

logger = logging.getLogger(__name__)

_Packed = tuple[int, int, NDArray[np.int64]]
"""Code of the source, number of the document in which the sequence begins, ids (with their bytes where held out)."""
_BYTES = 32
_ID = (1 << _BYTES) - 1


def build_corpus(config: CorpusConfig, folder: Path, progress: OnProgress | None = None) -> Corpus:
    """Builds the corpus into ``folder``, which appears when complete, and returns it opened.

    Raises:
        UserError: A source cannot be read, holds too little, or changed meanwhile.
    """
    stamps = _stamps(config)
    identity = fingerprint(corpus_identity(config))
    # Held-out text comes first: it is compared with its tokens, and a tokenizer that loses some is told at once.
    parts: tuple[tuple[Split, int], ...] = (("heldout", config.heldout_tokens), ("train", config.train_tokens))
    turns = {split: _turns(config, split, -(-tokens // config.sequence_length)) for split, tokens in parts}
    with folder_aside(folder) as scratch:
        tokenizer = with_marks(_tokenizer(config))
        reader = _Reader(tokenizer, Vocabulary.of(tokenizer), config.seed)
        save_tokenizer(tokenizer, scratch / "tokenizer")
        counts = {name: RowCount() for name in config.sources}
        total = config.train_tokens + config.heldout_tokens
        done = 0
        for split, tokens in parts:
            told = counts if split == "train" else {}
            stream = _interleave(config, reader, split, turns[split], told)
            if progress is not None:
                stream = _counted(stream, config.sequence_length, done, total, progress)
            _write_shards(scratch / split, stream, config, reader)
            done += tokens
        _check_unchanged(stamps, _stamps(config))
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
            "sequences": {"train": len(turns["train"]), "heldout": len(turns["heldout"])},
            "bytes_counted": True,
        } | _told(counts)
        write_json(scratch / "corpus.json", manifest)
        seal(scratch)
    return open_corpus(folder)


def _stamps(config: CorpusConfig) -> set[tuple[str, int, str]]:
    return {stamp for source in config.sources.values() for stamp in source_stamps(source)}


def _check_unchanged(before: set[tuple[str, int, str]], after: set[tuple[str, int, str]]) -> None:
    if before != after:
        raise UserError(
            f"{min(before ^ after)[0]}: changed while the corpus was made of it; run the same command again when "
            "nothing writes to the text, and keep run folders out of it."
        )


def _told(counts: dict[str, RowCount]) -> dict[str, object]:
    """The part of the manifest on rows without text, which is said aloud too; empty where there are none."""
    some = {name: count for name, count in counts.items() if count.without_text}
    for name, count in some.items():
        logger.warning(
            "corpus.sources.%s: %d of the %d rows read have no text and were left out",
            *(name, count.without_text, count.rows),
        )
    return {"rows": {name: dataclasses.asdict(count) for name, count in some.items()}} if some else {}


def _tokenizer(config: CorpusConfig) -> PreTrainedTokenizerBase:
    if config.tokenizer is not None:
        tokenizer = load_tokenizer(config.tokenizer)
        check_vocab_size(tokenizer, config.vocab_size, CorpusConfig.model_fields["vocab_size"].default)
        return tokenizer
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

    def documents(self, name: str, source: SourceConfig, split: Split, count: RowCount | None) -> Iterator[list[int]]:
        """The codes of every document: ids, and of held-out ones the bytes of each token 32 bits above (``_BYTES``)."""
        marks = {self.vocabulary.bos, self.vocabulary.eos}
        for texts in _batched(documents(source, self.seed, split, count), _ENCODE_AT_ONCE):
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


def _turns(config: CorpusConfig, split: Split, wanted: int) -> list[int]:
    """The source of each of ``wanted`` sequences, in the order that keeps every first part true to the shares.

    A share of the training text that comes to nothing is refused.
    """
    shares = list(_shares(config).values())
    taken = [0] * len(shares)
    turns: list[int] = []
    for number in range(wanted):
        turns.append(max(range(len(shares)), key=lambda index: shares[index] * (number + 1) - taken[index]))
        taken[turns[-1]] += 1
    if split == "train" and 0 in taken:
        missing = taken.index(0)
        raise UserError(
            f"corpus.sources.{list(config.sources)[missing]}: its share is {shares[missing]:.2g} of {wanted} training "
            "sequences, which is none; raise it or corpus.train_tokens, or remove the source."
        )
    return turns


def _interleave(
    config: CorpusConfig, reader: _Reader, split: Split, turns: list[int], counts: dict[str, RowCount]
) -> Iterator[_Packed]:
    """The sequences of a split, each of the source whose turn it is."""
    marks = (cast(int, reader.vocabulary.bos), cast(int, reader.vocabulary.eos))  # with_marks has seen to both
    streams = [
        pack_documents(reader.documents(name, source, split, counts.get(name)), config.sequence_length, *marks)
        for name, source in config.sources.items()
    ]
    taken = [0] * len(streams)
    for code in turns:
        try:
            document, sequence = next(streams[code])
        except StopIteration:
            name, share = list(_shares(config).items())[code]
            found = taken[code] * config.sequence_length
            raise UserError(
                f"corpus.sources.{name}: holds {found} {split} tokens, but its share asks for about "
                f"{round(share * len(turns) * config.sequence_length)}; add text, lower the share or "
                f"corpus.{split}_tokens."
            ) from None
        taken[code] += 1
        yield code, document, sequence


def _counted(stream: Iterator[_Packed], length: int, done: int, total: int, progress: OnProgress) -> Iterator[_Packed]:
    for number, item in enumerate(stream, 1):
        if number % _REPORT_EVERY == 0:
            progress(min(total, done + number * length), total)
        yield item


def _write_shards(folder: Path, stream: Iterator[_Packed], config: CorpusConfig, reader: _Reader) -> None:
    """Writes ``tokens-NNNNN.npy``, ``source.npy`` and ``document.npy``, one shard in memory at a time.

    Beside the tokens lie ``bytes-NNNNN.npy``, the bytes of text that each stands for, where a token's id does not tell
    it.
    """
    folder.mkdir()
    kind = np.uint16 if num_ids(reader.tokenizer) <= 1 << 16 else np.uint32
    codes: list[int] = []
    numbers: list[int] = []
    for shard, rows in enumerate(_groups(stream, max(1, _SHARD_TOKENS // config.sequence_length))):
        codes += [code for code, _, _ in rows]
        numbers += [document for _, document, _ in rows]
        coded = np.stack([sequence for *_, sequence in rows])
        np.save(folder / f"tokens-{shard:05d}.npy", (coded & _ID).astype(kind))
        if folder.name == "heldout" and not reader.vocabulary.exact:
            np.save(folder / f"bytes-{shard:05d}.npy", (coded >> _BYTES).astype(np.uint32))
    np.save(folder / "source.npy", np.asarray(codes, dtype=np.min_scalar_type(len(config.sources) - 1)))
    np.save(folder / "document.npy", np.asarray(numbers, dtype=np.uint32))


def _groups(stream: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while rows := list(itertools.islice(stream, size)):
        yield rows
