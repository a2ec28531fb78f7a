"""Reads a label store: by content, in any order, from memory-mapped shards.

Letters: B sequences, T positions, K places of the widest position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from stillroom.teachers import codebook
from stillroom.teachers import manifest as manifests
from stillroom.teachers.access import MappedShards, Place, place_of
from stillroom.teachers.codec import Codec
from stillroom.teachers.layout import (
    CHECK_BYTES,
    Index,
    damaged,
    is_whole,
    open_record,
    read_codebook,
    read_table,
    record_keys,
    shard_name,
)
from stillroom.teachers.manifest import Manifest
from stillroom.types import Batch, SoftLabels, UserError


class LabelStore:
    """Labels by content: ``lookup`` of any sequences that were labelled, in any order and number."""

    def __init__(self, place: Place, manifest: Manifest, index: Index, codec: Codec, cache: Path | None = None):
        self.place, self.manifest, self.index, self.codec = place, manifest, index, codec
        self._cache = cache
        self._shards = MappedShards(place, manifest.num_shards)

    @classmethod
    def open(cls, url: str | Path, *, expect: Mapping[str, Any] | None = None, cache: Path | None = None) -> Self:
        """The store at a path or an fsspec URL. Its manifest, codebook and index are read; no shard is touched.

        ``expect`` holds names of the identity ("teacher", "tokenizer", "vocab_size", "corpus") with the values that the
        caller works with; a store of others is refused. ``cache`` is the folder for copies of a remote store.
        """
        place = place_of(url, cache)
        path = place.path("manifest.json")
        manifest = manifests.from_text(path.read_bytes(), Manifest, str(path))
        for name, value in (expect or {}).items():
            if manifest.identity.get(name) != value:
                raise UserError(
                    f"{place.name}: holds labels with {name} {manifest.identity.get(name)!r} but {value!r} is used "
                    "here; label again or open the store that fits."
                )
        codec = codebook.from_bytes(read_codebook(place.path("codebook.bin")))
        index = Index(place.path("index.bin"))
        if len(index) != manifest.num_records:
            raise damaged(str(index.path), f"it holds {len(index)} records and not {manifest.num_records}")
        return cls(place, manifest, index, codec, cache)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the store itself, rather than being sent its mapped files."""
        return _reopen, (type(self), self.place.name, self._cache)

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
        self._check_length(tokens)
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
        """Tokens (R, T) and labels of the records at some rows of the index: what the store holds, asked by number."""
        labels, tokens_RT = self.codec.decode_with_tokens(self.payloads(rows))
        return torch.from_numpy(tokens_RT.astype(np.int64)), labels.tensors(len(tokens_RT))

    def payloads(self, rows: range | list[int]) -> list[memoryview]:
        """The encoded records at some rows of the index, their checksums checked."""
        rows_R = np.asarray(rows, np.int64)
        return self._payloads(rows_R, self.index.keys(rows_R))

    def verify(self) -> Iterator[int]:
        """Checks every byte, shard by shard, and yields the number of shards done.

        Raises ``Damaged`` at the first fault.
        """
        self.index.verify()
        read_codebook(self.place.path("codebook.bin"))
        book = self.place.path("codebook.bin").read_bytes()[-8:]
        for shard in range(self.manifest.num_shards):
            name = f"{self.place.name}/{shard_name(shard)}"
            data = self._shards[shard].data
            table = read_table(data, name, book)
            if len(table.keys) != len(self.manifest.shard_range(shard)):
                raise damaged(name, f"it holds {len(table.keys)} records")
            for key, start, length in zip(table.keys, table.offsets.tolist(), table.lengths.tolist(), strict=True):
                payload = open_record(data[start : start + length], key.tobytes(), name)
                _, tokens_RT = self.codec.decode_with_tokens([payload])
                if record_keys(tokens_RT)[0].tobytes() != key.tobytes():
                    raise damaged(name, f"the tokens of record {key.tobytes().hex()[:12]} are not those it is named by")
            if (self.index.find(table.keys) < 0).any():
                raise damaged(str(self.index.path), f"it lacks records of shard {shard}")
            yield shard + 1

    def _payloads(self, rows_R: np.ndarray, keys_R: np.ndarray) -> list[memoryview]:
        shards, starts, lengths = (self.index.columns[name][rows_R].tolist() for name in ("shard", "offset", "length"))
        spans = list(zip(shards, starts, lengths, strict=True))
        self._shards.gather(spans)
        return [
            self._payload(shard, start, length, key.tobytes())
            for (shard, start, length), key in zip(spans, keys_R, strict=True)
        ]

    def _payload(self, shard: int, start: int, length: int, key: bytes) -> memoryview:
        record = self._shards.record(shard, start, length)
        if len(record) == length and is_whole(record, key):
            return record[:-CHECK_BYTES]
        name = f"{self.place.name}/{shard_name(shard)}"
        if len(record) < length:
            raise damaged(name, "it is shorter than the index says")
        return open_record(record, key, name)

    def _check_length(self, tokens_BT: np.ndarray) -> None:
        length = self.manifest.sequence_length
        if tokens_BT.ndim != 2 or tokens_BT.shape[1] != length:
            raise UserError(
                f"{self.place.name}: holds labels of sequences of {length} tokens but tokens of shape "
                f"{tuple(tokens_BT.shape)} were looked up; use the sequence length that was labelled."
            )

    def _refuse(self, tokens_T: np.ndarray, key: bytes) -> None:
        self.index.verify()  # a damaged index must not blame the corpus
        size = self.manifest.identity.get("vocab_size")
        if isinstance(size, int) and (largest := int(tokens_T.max())) >= size:
            raise UserError(
                f"{self.place.name}: holds labels of a vocabulary of {size} tokens but the id {largest} was looked up; "
                "these are ids of another tokenizer, so label their corpus with a teacher of that tokenizer."
            )
        first = " ".join(str(token) for token in tokens_T[:8])
        raise UserError(
            f"{self.place.name}: has no labels for the sequence {key.hex()} of {len(tokens_T)} tokens that begins "
            f"{first} ...; label the corpus that holds it with 'stillroom label CORPUS --out {self.place.name}', with "
            f"ids of the tokenizer {self.manifest.identity.get('tokenizer')}, whose labels these are."
        )


def _reopen(kind: type[LabelStore], url: str, cache: Path | None) -> LabelStore:
    return kind.open(url, cache=cache)


def keys_of(tokens_BT: torch.Tensor) -> list[str]:
    """The hexadecimal keys of some sequences."""
    return [key.tobytes().hex() for key in record_keys(tokens_BT.cpu().numpy())]
