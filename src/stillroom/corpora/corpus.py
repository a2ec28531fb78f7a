"""A built corpus: packed sequences in memory-mapped shards, and the batches made of them.

Letters: B sequences, T positions. The shift by one token is written once, in ``next_token_targets``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from stillroom.checksums import require
from stillroom.corpora.tokenizer import load_tokenizer, special_ids, with_marks
from stillroom.files import read_json_object
from stillroom.places import find_part
from stillroom.strict import parse
from stillroom.types import IGNORE_INDEX, Batch, SpecialIds, UserError
from stillroom.vocabulary import Vocabulary
from stillroom.worlds import TEXT_WORLDS

SCHEMA = 1


def pack_documents(
    documents: Iterable[Sequence[int]], length: int, bos: int, eos: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Sequences of exactly T = ``length`` ids, (T,), cut from the stream bos, document, eos, bos, document, eos, ...

    Each comes with the number of the document in which it begins. Where one id marks both ends it is written once
    between two documents, which it closes and opens.
    """
    closing = [] if bos == eos else [eos]
    buffer: list[int] = []
    first = 0  # the document in which the buffer begins
    for number, document in enumerate(documents):
        if not buffer:
            first = number
        buffer += [bos, *document, *closing]
        whole = len(buffer) // length * length
        for start in range(0, whole, length):
            yield (first if start == 0 else number), np.asarray(buffer[start : start + length], dtype=np.int64)
        del buffer[:whole]
        if whole:
            first = number


def next_token_targets(tokens_BT: Tensor, document_BT: Tensor, mark: int | None = None) -> Tensor:
    """The token that follows each position inside its document, else ``IGNORE_INDEX``; (B, T) int64.

    ``mark`` is the id that closes a document and opens the next, where a tokenizer has one for both: it is a target of
    the position before it although it stands in the next document.
    """
    targets = torch.full_like(tokens_BT, IGNORE_INDEX)
    counted = document_BT[:, 1:] == document_BT[:, :-1]
    if mark is not None:
        counted = counted | (tokens_BT[:, 1:] == mark)
    targets[:, :-1] = torch.where(counted, tokens_BT[:, 1:], IGNORE_INDEX)
    return targets


def make_batch(tokens_BT: Tensor, bos: int, eos: int | None = None) -> Batch:
    """A batch from packed ids: documents are what begins at a ``bos``; a sequence may begin inside one."""
    document = torch.cumsum(tokens_BT == bos, dim=1, dtype=torch.int32)
    return Batch(tokens_BT, next_token_targets(tokens_BT, document, bos if bos == eos else None), document)


@dataclass(frozen=True)
class SequenceSet:
    """The S sequences of one split, memory-mapped; also any first part of them (``first``).

    ``shards`` are tokens, (n, T) each, all but the last equally long; ``source``, (S,), has places in the corpus's
    source names, and ``document``, (S,), the source's document in which each begins: what is sampled together.
    """

    shards: tuple[NDArray[np.unsignedinteger[Any]], ...]
    source: NDArray[np.unsignedinteger[Any]]
    document: NDArray[np.uint32]
    bos: int
    size: int
    eos: int | None = None
    bytes: tuple[NDArray[np.uint32], ...] = ()
    """Bytes of text that each token stands for, shaped as ``shards``; empty where an id alone tells it."""

    @property
    def sequence_length(self) -> int:
        """T, in tokens."""
        return self.shards[0].shape[1]

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return self.size * self.sequence_length

    def __len__(self) -> int:
        return self.size

    def first(self, num_tokens: int) -> SequenceSet:
        """The first sequences, as many as hold ``num_tokens`` (at least one): the same data for every arm.

        Raises ``UserError`` where there are fewer.
        """
        size = max(1, num_tokens // self.sequence_length)
        if size > self.size:
            raise UserError(
                f"corpus: {size} sequences were asked for, it holds {self.size}; raise corpus.train_tokens."
            )
        return replace(self, source=self.source[:size], document=self.document[:size], size=size)

    def tokens(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Token ids (len(indices), T)."""
        return self._rows(self.shards, indices)

    def token_bytes(self, indices: Sequence[int]) -> NDArray[np.int64] | None:
        """Bytes of text of every token (len(indices), T), 0 for marks; None where an id alone tells it."""
        return self._rows(self.bytes, indices) if self.bytes else None

    def _rows(self, shards: Sequence[NDArray[Any]], indices: Sequence[int]) -> NDArray[np.int64]:
        rows_per_shard = shards[0].shape[0]
        result = np.empty((len(indices), self.sequence_length), dtype=np.int64)
        for row, index in enumerate(indices):
            if not 0 <= index < self.size:
                raise IndexError(f"sequence {index} of {self.size}")
            result[row] = shards[index // rows_per_shard][index % rows_per_shard]
        return result

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers, in this order."""
        return make_batch(torch.from_numpy(self.tokens(indices)), self.bos, self.eos)


@dataclass(frozen=True)
class Corpus:
    """A corpus folder: ``corpus.json``, ``tokenizer/``, ``train/*.npy``, ``heldout/*.npy``."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def identity(self) -> str:
        """Hash of everything that determines the tokens."""
        return self.manifest["identity"]

    @property
    def vocab_size(self) -> int:
        """V, specials included."""
        return self.manifest["vocab_size"]

    @property
    def source_names(self) -> list[str]:
        """Names of the sources, in the order of the codes in ``SequenceSet.source``."""
        return self.manifest["sources"]

    @property
    def real_sources(self) -> list[str]:
        """Names of the sources that hold text of people; the others are worlds."""
        worlds = TEXT_WORLDS.names()
        return [name for name, source in self.manifest["source_configs"].items() if source["kind"] not in worlds]

    @property
    def isolate(self) -> bool:
        """Whether packed documents are kept from seeing one another."""
        return self.manifest["isolate_documents"]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The corpus's tokenizer."""
        return with_marks(load_tokenizer(self.folder / "tokenizer"))

    def check_bytes(self) -> None:
        """Raises ``UserError`` where the bytes of held-out tokens are neither told by their ids nor stored."""
        if not self.manifest.get("bytes_counted") and not Vocabulary.of(self.tokenizer).exact:
            raise UserError(
                f"{self.folder}: was built before the bytes behind its tokenizer's tokens were counted in the text, so "
                "bits per byte would be wrong; build the corpus again."
            )

    @property
    def special_ids(self) -> SpecialIds:
        """The ids that open and close its documents, and that its tokenizer pads with."""
        return SpecialIds(self.manifest["bos"], self.manifest["eos"], special_ids(self.tokenizer).pad)

    @cached_property
    def train(self) -> SequenceSet:
        """Sequences to train on."""
        return self._split("train")

    @cached_property
    def heldout(self) -> SequenceSet:
        """Sequences from files and items that training never sees."""
        return self._split("heldout")

    def _split(self, name: str) -> SequenceSet:
        folder = self.folder / name
        require(folder)
        shards = tuple(np.load(file, mmap_mode="r") for file in sorted(folder.glob("tokens-*.npy")))
        source, document = np.load(folder / "source.npy"), np.load(folder / "document.npy")
        counted = tuple(np.load(file, mmap_mode="r") for file in sorted(folder.glob("bytes-*.npy")))
        marks = (self.manifest["bos"], self.manifest["eos"])
        return SequenceSet(shards, source, document, marks[0], len(source), marks[1], counted)


class _Manifest(BaseModel):
    """What every ``corpus.json`` holds."""

    model_config = ConfigDict(strict=True)

    schema_: int = Field(alias="schema")
    identity: str
    sources: list[str]
    source_configs: dict[str, dict[str, Any]]
    isolate_documents: bool
    sequence_length: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    tokenizer_hash: str
    bos: int | None
    eos: int | None


def open_corpus(folder: Path) -> Corpus:
    """A corpus from its folder or that of a run; ``UserError`` for one made by a newer version."""
    folder = Path(find_part("corpus", folder).path)
    file = folder / "corpus.json"
    require(file)
    manifest = read_json_object(file, "that of a built corpus")
    schema = manifest.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(f"{folder}: corpus schema {schema} is newer than {SCHEMA}, which this version reads; upgrade.")
    parse(_Manifest, manifest, str(file))
    return Corpus(folder, manifest)
