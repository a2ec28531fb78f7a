"""Reads a label store: by content, in any order, from memory-mapped shards.

Letters: B sequences, T positions, K places of the widest position.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from stillroom.files import read_bytes
from stillroom.labels.codecs import codebook
from stillroom.labels.codecs.record_codec import RecordCodec
from stillroom.labels.format import manifest as manifests
from stillroom.labels.format.layout import (
    CHECK_BYTES,
    Damaged,
    Index,
    ShardCounts,
    ShardTable,
    index_size,
    is_whole,
    read_codebook,
    read_table,
    record_keys,
    record_payloads,
    shard_name,
)
from stillroom.labels.format.manifest import Manifest
from stillroom.labels.remote import MappedShards, Place, place_of
from stillroom.types import Batch, SoftLabels, UserError


class LabelStore:
    """Labels by content: ``lookup`` of any sequences that were labelled, in any order and number."""

    def __init__(self, place: Place, manifest: Manifest, index: Index, codec: RecordCodec, cache: Path | None = None):
        self.place, self.manifest, self.index, self.codec = place, manifest, index, codec
        self._cache = cache
        self._shards = MappedShards(place, manifest.num_shards)

    @classmethod
    def open(cls, url: str | Path, *, expect: Mapping[str, Any] | None = None, cache: Path | None = None) -> Self:
        """The store at a path or an fsspec URL. Its manifest, codebook and index are read; no shard is touched.

        ``expect`` holds names of the identity ("teacher", "tokenizer", "vocab_size", "corpus") with the values that the
        caller works with; a store of others raises ``UserError``, and one that is
        not as it was written ``Damaged``. ``cache`` is the folder for copies of a remote store.
        """
        place = place_of(url, cache)
        path = place.path("manifest.json")
        manifest = manifests.from_text(read_bytes(path), Manifest, str(path))
        for name, value in (expect or {}).items():
            if manifest.identity.get(name) != value:
                raise UserError(
                    f"{place.name}: holds labels with {name} {manifest.identity.get(name)!r} but {value!r} is used "
                    "here; label again or open the store that fits."
                )
        codec = codebook.from_bytes(read_codebook(place.path("codebook.bin")), manifest.settings.codec.coder)
        index = Index(place.path("index.bin"))
        if len(index) != manifest.num_records:
            raise place.damaged("index.bin", f"it holds {len(index)} records and not {manifest.num_records}")
        return cls(place, manifest, index, codec, cache)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the store itself, rather than being sent its mapped files."""
        return _reopen, (type(self), self.place.url, self._cache)

    def __len__(self) -> int:
        """Distinct sequences."""
        return len(self.index)

    def __contains__(self, tokens_T: torch.Tensor) -> bool:
        """Whether a sequence has labels."""
        return bool(self.index.find(record_keys(tokens_T[None].cpu().numpy()))[0] >= 0)

    def lookup(self, tokens_BT: torch.Tensor) -> SoftLabels:
        """Soft labels (B, T, K) of sequences of exactly the labelled ids; K is the widest position among them.

        Raises a ``UserError`` for a sequence without labels; it names the sequence and the command that labels it.
        """
        tokens = tokens_BT.cpu().numpy()
        self._check_tokens(tokens)
        keys_B = record_keys(tokens)
        rows_B = self.index.find(keys_B)
        if (rows_B < 0).any():
            absent = int(np.argmax(rows_B < 0))
            self._refuse(tokens[absent], keys_B[absent].tobytes())
        return self.codec.decode(self._payloads(rows_B, keys_B)).tensors(len(tokens))

    def labels(self, batch: Batch) -> SoftLabels:
        """``lookup`` of a batch's tokens, on its device."""
        return self.lookup(batch.tokens_BT).to(batch.tokens_BT.device)

    def read(self, rows: range | list[int]) -> tuple[torch.Tensor, SoftLabels]:
        """Tokens (R, T) and labels of the records at R rows of the index: what the store holds, asked by number."""
        labels, tokens_RT = self.codec.decode_with_tokens(self.payloads(rows))
        return torch.from_numpy(tokens_RT.astype(np.int64)), labels.tensors(len(tokens_RT))

    def payloads(self, rows: range | list[int]) -> list[memoryview]:
        """The encoded records at some rows of the index, their checksums checked."""
        rows_R = np.asarray(rows, np.int64)
        return self._payloads(rows_R, self.index.keys(rows_R))

    def verify(self) -> Iterator[int]:
        """Checks every byte, shard by shard, and yields the number of shards done.

        Index and manifest must be those of these very shards.
        Raises ``Damaged`` at the first fault.
        """
        self.index.verify()
        path = self.place.path("codebook.bin")
        read_codebook(path)
        book, found, counts = read_bytes(path)[-CHECK_BYTES:], 0, ShardCounts()
        size = path.stat().st_size + index_size(len(self.index))
        for shard in range(self.manifest.num_shards):
            table = self._verify_shard(shard, book)
            found += self._verify_index(shard, table)
            counts, size = counts.plus(table.counts), size + len(self._shards[shard])
            yield shard + 1
        if found != len(self.index):
            raise self.place.damaged("index.bin", f"{len(self.index) - found} of its records are in no shard")
        self._verify_manifest(counts, size)

    def _verify_manifest(self, counts: ShardCounts, size: int) -> None:
        """Whether the manifest sums up these shards, and not those of another store."""
        manifest, targets = self.manifest, max(1, counts.targets)
        sums = {
            "num_entries": (manifest.num_entries, counts.entries),
            "num_bytes": (manifest.num_bytes, size),
            "teacher_entropy_nats": (manifest.teacher_entropy_nats, counts.entropy_nats / targets),
            "teacher_ce_nats": (manifest.teacher_ce_nats, counts.gold_nats / targets),
        }
        for name, (said, found) in sums.items():
            if not math.isclose(said, found, rel_tol=1e-9):
                raise self.place.damaged("manifest.json", f"it says {name} {said} but the shards hold {found}")

    def _verify_shard(self, shard: int, codebook: bytes) -> ShardTable:
        """The table of a shard every byte of which is as written, its tokens those that its keys name."""
        file = shard_name(shard)
        name, data = f"{self.place.name}/{file}", self._shards[shard].data
        table = read_table(data, name, codebook)
        if len(table.keys) != len(self.manifest.shard_range(shard)):
            raise self.place.damaged(file, f"it holds {len(table.keys)} records")
        for key, payload in zip(table.keys, record_payloads(data, name, codebook), strict=True):
            labels, tokens_RT = self.codec.decode_with_tokens([payload])
            if record_keys(tokens_RT)[0].tobytes() != key.tobytes():
                what = f"the tokens of record {key.tobytes().hex()[:12]} are not those it is named by"
                raise self.place.damaged(file, what)
            if max(int(labels.ids_NK.max()), int(tokens_RT.max())) >= self.manifest.vocab_size:
                raise self.place.damaged(file, "it names ids beyond the vocabulary")
        return table

    def _verify_index(self, shard: int, table: ShardTable) -> int:
        """How many records of a shard the index leads to; each has its place, or that of an equal one before it."""
        rows_R = self.index.find(table.keys)
        if (rows_R < 0).any():
            raise self.place.damaged("index.bin", f"it lacks records of shard {shard}")
        shard_R, start_R, length_R = (self.index.columns[name][rows_R] for name in ("shard", "offset", "length"))
        is_here_R = (shard_R == shard) & (start_R == table.offsets)
        is_before_R = (shard_R < shard) | ((shard_R == shard) & (start_R < table.offsets))
        if not (is_before_R | (is_here_R & (length_R == table.lengths))).all():
            raise self.place.damaged("index.bin", f"it does not lead to the records of shard {shard}")
        return int(is_here_R.sum())

    def _payloads(self, rows_R: np.ndarray, keys_R: np.ndarray) -> list[memoryview]:
        shards, starts, lengths = (self.index.columns[name][rows_R].tolist() for name in ("shard", "offset", "length"))
        spans = list(zip(shards, starts, lengths, strict=True))
        self._shards.gather(spans)
        return [
            self._payload(shard, start, length, key.tobytes())
            for (shard, start, length), key in zip(spans, keys_R, strict=True)
        ]

    def _payload(self, shard: int, start: int, length: int, key: bytes) -> memoryview:
        for read in (self._shards.record, self._shards.again):
            record = read(shard, start, length)
            if len(record) == length and is_whole(record, key):
                return record[:-CHECK_BYTES]
        fault = self._fault(shard, start, length, key)
        self._shards.forget(shard)
        raise fault

    def _fault(self, shard: int, start: int, length: int, key: bytes) -> Damaged:
        """What is wrong where a record is not whole: the index that leads there, or the shard."""
        file, short = shard_name(shard), key.hex()[:12]
        try:
            table = read_table(self._shards[shard].data, file)
        except UserError:
            return self.place.damaged(file, f"the record of sequence {short} does not match its checksum")
        at = np.flatnonzero(table.offsets == start)
        if len(at) and table.keys[at[0]].tobytes() == key and int(table.lengths[at[0]]) == length:
            return self.place.damaged(file, f"the record of sequence {short} does not match its checksum")
        return self.place.damaged("index.bin", f"it leads to {file} for sequence {short}, which is not there")

    def _check_tokens(self, tokens_BT: np.ndarray) -> None:
        length = self.manifest.sequence_length
        if tokens_BT.ndim != 2 or tokens_BT.shape[1] != length:
            raise UserError(
                f"{self.place.name}: holds labels of sequences of {length} tokens but tokens of shape "
                f"{tuple(tokens_BT.shape)} were looked up; use the sequence length that was labelled."
            )
        size = self.manifest.vocab_size
        if tokens_BT.size and not 0 <= tokens_BT.min() <= tokens_BT.max() < size:
            token = tokens_BT.min() if tokens_BT.min() < 0 else tokens_BT.max()
            raise UserError(
                f"{self.place.name}: holds labels for a tokenizer of {size} tokens but token id {token} was looked up, "
                "which is of another tokenizer; use the corpus and tokenizer that were labelled."
            )

    def _refuse(self, tokens_T: np.ndarray, key: bytes) -> None:
        self.index.verify()  # a damaged index, or that of another store, must not blame the corpus
        self.payloads([0])
        first = " ".join(str(token) for token in tokens_T[:8])
        raise UserError(
            f"{self.place.name}: has no labels for the sequence {key.hex()} of {len(tokens_T)} tokens that begins "
            f"{first} ...; use the corpus that was labelled, or label its own by 'stillroom label TEACHER --corpus "
            "CORPUS --out LABELS'."
        )


def _reopen(kind: type[LabelStore], url: str, cache: Path | None) -> LabelStore:
    return kind.open(url, cache=cache)


def keys_of(tokens_BT: torch.Tensor) -> list[str]:
    """The hexadecimal keys of some sequences."""
    return [key.tobytes().hex() for key in record_keys(tokens_BT.cpu().numpy())]
