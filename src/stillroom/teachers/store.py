"""Reads a label store: by content, in any order, from memory-mapped shards."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from stillroom.teachers import codebook
from stillroom.teachers import manifest as manifests
from stillroom.teachers.codec import Codec
from stillroom.teachers.labelling import read_codebook, shard_name
from stillroom.teachers.layout import Index, open_record, record_keys
from stillroom.teachers.manifest import Manifest
from stillroom.types import Batch, SoftLabels, UserError

OPEN_SHARDS = 128
"""Shards that stay mapped at one time."""


class LabelStore:
    """Labels by content: ``lookup`` of any sequences that were labelled, in any order and number."""

    def __init__(self, folder: Path, manifest: Manifest, index: Index, codec: Codec):
        self.folder, self.manifest, self.index, self.codec = folder, manifest, index, codec
        self._shards: OrderedDict[int, np.ndarray] = OrderedDict()

    @classmethod
    def open(cls, url: str | Path) -> Self:
        """The store in a folder. Its manifest, codebook and index are read; no shard is touched."""
        folder = Path(url)
        path = folder / "manifest.json"
        if not path.is_file():
            raise UserError(f"{folder}: holds no finished label store; expected manifest.json, run the label command.")
        manifest = manifests.from_text(path.read_bytes(), Manifest, str(path))
        codec = codebook.from_bytes(read_codebook(folder / "codebook.bin"))
        return cls(folder, manifest, Index(folder / "index.bin"), codec)

    def lookup(self, tokens_BT: torch.Tensor) -> SoftLabels:
        """Soft labels (B, T, K) of sequences of exactly the labelled ids; K is the widest position among them."""
        tokens = tokens_BT.cpu().numpy()
        keys_B = record_keys(tokens)
        rows_B = self.index.find(keys_B)
        if (rows_B < 0).any():
            self._refuse(tokens[int(np.argmin(rows_B >= 0))], keys_B[int(np.argmin(rows_B >= 0))])
        payloads = [self._payload(int(row), key.tobytes()) for row, key in zip(rows_B, keys_B, strict=True)]
        return self.codec.decode(payloads).tensors(len(tokens))

    def labels(self, batch: Batch) -> SoftLabels:
        """``lookup`` of a batch's tokens, on its device."""
        return self.lookup(batch.tokens_BT).to(batch.tokens_BT.device)

    def _payload(self, row: int, key: bytes) -> memoryview:
        columns = self.index.columns
        shard = int(columns["shard"][row])
        start = int(columns["offset"][row])
        record = self._shard(shard)[start : start + int(columns["length"][row])]
        return open_record(record.data, key, str(self.folder / shard_name(shard)))

    def _shard(self, shard: int) -> np.ndarray:
        if shard not in self._shards:
            self._shards[shard] = np.memmap(self.folder / shard_name(shard), np.uint8, mode="r")
            if len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
        self._shards.move_to_end(shard)
        return self._shards[shard]

    def _refuse(self, tokens_T: np.ndarray, key: Any) -> None:
        first = " ".join(str(token) for token in tokens_T[:8])
        raise UserError(
            f"{self.folder}: has no labels for the sequence {key.tobytes().hex()} of {len(tokens_T)} tokens that "
            f"begins {first} ...; label the corpus that holds it with 'stillroom label --out {self.folder}'."
        )
