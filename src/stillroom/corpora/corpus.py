"""A built corpus: packed sequences in memory-mapped shards, and the batches made of them.

Letters: B sequences, T positions. The shift by one token is written once, in ``next_token_targets``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from stillroom import disk
from stillroom.checksums import require
from stillroom.corpora.corpus_files import GROWING, CorpusFiles, FinishedFiles, GrowingFiles, RemoteFiles, ShardFiles
from stillroom.corpora.sources.source_kinds import is_world
from stillroom.corpora.tokenizer import load_tokenizer, special_ids, with_marks
from stillroom.files import read_json_object
from stillroom.places import find_part
from stillroom.strict import parse
from stillroom.types import IGNORE_INDEX, Batch, SpecialIds, UserError
from stillroom.vocabulary import Vocabulary

SCHEMA = 2


def next_token_targets(tokens_BT: Tensor, document_BT: Tensor, mark: int | None = None) -> Tensor:
    """The token that follows each position inside its document, else ``IGNORE_INDEX``; (B, T) int64.

    ``mark`` is the id that closes a document and opens the next, where a tokenizer has one for both: it is a target of
    the position before it although it stands in the next document.
    """
    targets = torch.full_like(tokens_BT, IGNORE_INDEX)
    counted = document_BT[:, 1:] == document_BT[:, :-1]
    if mark is not None:
        counted = counted | ((tokens_BT[:, 1:] == mark) & (tokens_BT[:, :-1] != mark))
    targets[:, :-1] = torch.where(counted, tokens_BT[:, 1:], IGNORE_INDEX)
    return targets


def make_batch(tokens_BT: Tensor, bos: int, eos: int | None = None) -> Batch:
    """A batch from packed ids: documents are what begins at a ``bos``; a sequence may begin inside one.

    One ``bos`` after another is what fills a sequence behind its documents: nothing is learnt there.
    """
    document = torch.cumsum(tokens_BT == bos, dim=1, dtype=torch.int32)
    return Batch(tokens_BT, next_token_targets(tokens_BT, document, bos if bos == eos else None), document)


@dataclass(frozen=True)
class SequenceSet:
    """The S sequences of one split, memory-mapped; also any first part of them (``first``).

    ``shards`` are tokens, (n, T) each, all but the last equally long; ``source``, (S,), has places in the corpus's
    source names, and ``document``, (S,), the source's text in which each begins: what is sampled together.
    """

    shards: Sequence[NDArray[np.unsignedinteger[Any]]]
    source: NDArray[np.unsignedinteger[Any]]
    document: NDArray[np.unsignedinteger[Any]]
    bos: int
    size: int
    eos: int | None = None
    bytes: Sequence[NDArray[np.uint32]] = ()
    """Bytes of text that each token stands for, shaped as ``shards``; empty where an id alone tells it."""
    shuffle_sequences: int = 0
    """Sequences among which the order of training is shuffled; 0 means all."""

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

    @property
    def texts(self) -> NDArray[np.int64]:
        """A number (S,) for the text of a source in which each sequence begins: what is sampled together has one."""
        pairs_2S = np.stack([self.source.astype(np.uint64), self.document.astype(np.uint64)])
        return np.unique(pairs_2S, axis=1, return_inverse=True)[1].reshape(-1)

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
    files: CorpusFiles

    @property
    def identity(self) -> str:
        """Hash of everything that determines the tokens."""
        return self.manifest["identity"]

    @property
    def place(self) -> str:
        """Its folder, or the address that it is read from."""
        return self.files.address if isinstance(self.files, RemoteFiles) else str(self.folder)

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
        return [name for name, source in self.manifest["source_configs"].items() if not is_world(source["kind"])]

    @property
    def isolate(self) -> bool:
        """Whether packed documents are kept from seeing one another."""
        return self.manifest["isolate_documents"]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The corpus's tokenizer."""
        return with_marks(load_tokenizer(self.files.path("tokenizer")))

    @cached_property
    def text_identity(self) -> str:
        """Hash of the held-out sequences and their tokenizer: models that were measured on the same have the same."""
        about = (self.manifest["tokenizer_hash"], self.manifest["sequence_length"], self.isolate)
        state = xxhash.xxh3_128(repr(about).encode())
        for shard in self.heldout.shards:
            state.update(np.ascontiguousarray(shard).data)
        return state.hexdigest()

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

    def shard_of(self, token: int) -> str:
        """The file that holds a training token, by its place."""
        return self._names("train")[0][token // self.manifest["sequence_length"] // self.manifest["rows_per_shard"]]

    @cached_property
    def train(self) -> SequenceSet:
        """Sequences to train on."""
        return self._split("train")

    @cached_property
    def heldout(self) -> SequenceSet:
        """Sequences from files and items that training never sees."""
        return self._split("heldout")

    def _split(self, name: str) -> SequenceSet:
        source, document = (
            np.load(self.files.path(f"{name}/{part}.npy"), mmap_mode="r") for part in ("source", "document")
        )
        tokens, counted = self._names(name)
        return SequenceSet(
            ShardFiles(self.files, tokens), source, document, self.manifest["bos"], len(source), self.manifest["eos"],
            ShardFiles(self.files, counted), self.manifest.get("shuffle_sequences", 0),
        )  # fmt: skip

    def _names(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Files of the shards of a split: ids, and bytes where they are counted; schema 1 does not say how many."""
        if self.manifest["schema"] < 2:
            found = (sorted((self.folder / split).glob(f"{kind}-*.npy")) for kind in ("tokens", "bytes"))
            tokens, counted = (tuple(f"{split}/{file.name}" for file in files) for files in found)
            return tokens, counted
        shards = range(-(-self.manifest["sequences"][split] // self.manifest["rows_per_shard"]))
        tokens, counted = (tuple(f"{split}/{kind}-{n:05d}.npy" for n in shards) for kind in ("tokens", "bytes"))
        return tokens, counted if split == "heldout" and self.manifest["heldout_bytes"] else ()


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


class _Manifest2(_Manifest):
    """What it holds since schema 2."""

    sequences: dict[str, int]
    rows_per_shard: int = Field(gt=0)
    shuffle_sequences: int = Field(ge=0)
    heldout_bytes: bool


def open_corpus(folder: Path | str, wait_for: int = 0) -> Corpus:
    """A corpus from its folder, that of a run or an address; ``UserError`` for one made by a newer version.

    An address is a text such as ``s3://bucket/corpus``: shards are copied to the local cache as they are read.

    With ``wait_for``, one that is being built too, as soon as it has so many training tokens; what of it is not there
    yet is waited for when it is asked for. It must be built with ``corpus.shuffle_tokens`` of at most ``wait_for``, so
    that training does not begin all over it.
    """
    if "://" in str(folder):
        files = RemoteFiles(str(folder))
        return _opened(files.folder, files.path("corpus.json"), files)
    folder = Path(folder)
    if wait_for and not disk.is_finished(folder):
        return _growing(folder, wait_for)
    found = find_part("corpus", folder).path
    if "://" in found:
        return open_corpus(found)
    folder = Path(found)
    return _opened(folder, folder / "corpus.json", FinishedFiles(folder))


def _opened(folder: Path, file: Path, files: CorpusFiles) -> Corpus:
    require(file)
    manifest = read_json_object(file, "that of a built corpus")
    schema = manifest.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(f"{folder}: corpus schema {schema} is newer than {SCHEMA}, which this version reads; upgrade.")
    parse(_Manifest2 if schema == SCHEMA else _Manifest, manifest, str(file))
    return Corpus(folder, manifest, files)


def _growing(folder: Path, wait_for: int) -> Corpus:
    files = GrowingFiles(folder)
    while files.find("corpus.json") is None and files.find(GROWING) is None:
        files.wait("corpus.json")
    if (finished := files.find("corpus.json")) is not None:
        return _opened(folder, finished, files)
    corpus = _opened(folder, files.path(GROWING), files)
    manifest = corpus.manifest
    length, sequences = manifest["sequence_length"], manifest["sequences"]["train"]
    window, tokens = manifest["shuffle_sequences"] * length, min(wait_for, sequences * length)
    if not 0 < window <= tokens:
        raise UserError(
            f"{folder}: is being built and its order of training shuffled among {window or 'all'} tokens, so that it "
            f"begins all over them; wait for its end, or build it with corpus.shuffle_tokens of at most {tokens}."
        )
    files.path(corpus.shard_of(tokens - 1))
    return corpus
