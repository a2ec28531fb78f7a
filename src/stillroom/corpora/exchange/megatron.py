"""Megatron's indexed datasets: ids in ``NAME.bin``, and in ``NAME.idx`` the sequences and documents among them.

The index: ``MMIDIDX``, version 1 (u64), a code of the ids' dtype (u8), the number of sequences and of document places
(u64 each), then tokens of each sequence (i32), where each begins in bytes (i64), and of every document its first
sequence and, one more, the end (i64). As in megatron-core 0.16, ``core/datasets/indexed_dataset.py``.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.corpora.exchange.id_documents import IdDocuments
from stillroom.corpora.exchange.token_file import TokenFile, mapped
from stillroom.files import reading
from stillroom.types import UserError

_MAGIC = b"MMIDIDX\x00\x00"
_OLD_MAGIC = b"TNTIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_KINDS = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_AT_ONCE = 1 << 20
_MOST_SHORT = 65500
"""From this many ids on Megatron writes them in 32 bits."""


def open_megatron(path: Path) -> TokenFile:
    """The ids and documents of ``NAME.bin``, whose index lies beside it."""
    index = _Index.of(path.with_suffix(".idx"))
    ids = mapped(path, index.kind)
    if index.num_bytes != ids.nbytes:
        raise UserError(
            f"{index.path}: tells of {index.num_bytes} bytes of ids, {path.name} has {ids.nbytes}; they do not belong "
            "together, or one is cut off: fetch both again."
        )
    return TokenFile(path, ids, index.num_documents, index.bounds)


@dataclass(frozen=True)
class _Index:
    """An index file; its columns are memory-mapped."""

    path: Path
    kind: np.dtype[Any]
    lengths: NDArray[np.int32]  # tokens of every sequence
    starts: NDArray[np.int64]  # bytes before every sequence
    documents: NDArray[np.int64]  # the first sequence of every document, and the end

    @classmethod
    def of(cls, path: Path) -> _Index:
        """The index of a file; a ``UserError`` where it is none or has another size than it tells."""
        with reading(path, "the index that Megatron writes beside its .bin"), path.open("rb") as stream:
            head, size = stream.read(_HEADER.size), path.stat().st_size
        magic, version, code, sequences, documents = _HEADER.unpack(head.ljust(_HEADER.size, b"\0"))
        if magic != _MAGIC or version != 1:
            old = (
                " (it is of the format before 2020: let Megatron write it again)" if head.startswith(_OLD_MAGIC) else ""
            )
            raise UserError(f"{path}: is no index of Megatron's, version 1{old}; expected one beside {path.stem}.bin.")
        if code not in _KINDS:
            raise UserError(f"{path}: its ids are of dtype {code}, expected whole numbers; it is no index of tokens.")
        at = _HEADER.size
        if size != at + 12 * sequences + 8 * documents or not sequences:
            raise UserError(
                f"{path}: tells of {sequences} sequences and {documents} document places and has {size} bytes, "
                f"expected {at + 12 * sequences + 8 * documents} (and one sequence at least); it is cut off, or "
                "not of text alone: write it again."
            )
        lengths, starts = (
            np.memmap(path, "<i4", "r", at, (sequences,)),
            np.memmap(path, "<i8", "r", at + 4 * sequences, (sequences,)),
        )
        places = np.memmap(path, "<i8", "r", at + 12 * sequences, (documents,)) if documents else np.empty(0, np.int64)
        if documents > 1 and (places[0], places[-1]) != (0, sequences):
            raise UserError(
                f"{path}: its documents are sequences {places[0]} to {places[-1]}, expected 0 to {sequences}; it is "
                "damaged: write it again."
            )
        return cls(path, np.dtype(_KINDS[code]), lengths, starts, places)

    @property
    def num_documents(self) -> int:
        """Documents; sequences where no document was ever closed."""
        return len(self.documents) - 1 if len(self.documents) > 1 else len(self.lengths)

    @property
    def num_bytes(self) -> int:
        """Bytes of all sequences."""
        return int(self.starts[-1]) + int(self.lengths[-1]) * self.kind.itemsize

    def bounds(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where documents ``start`` to ``stop`` begin, in tokens, and the last ends."""
        whole = len(self.documents) > 1
        firsts = np.asarray(self.documents[start : stop + 1] if whole else np.arange(start, stop + 1), np.int64)
        if (np.diff(firsts) < 0).any() or firsts[0] < 0 or firsts[-1] > len(self.lengths):
            raise UserError(
                f"{self.path}: documents {start} to {stop} are of sequences that are not there or not in order; it is "
                "damaged: write it again."
            )
        first, last = int(firsts[0]), int(firsts[-1])
        sizes = self.lengths[first:last].astype(np.int64) * self.kind.itemsize
        begin = self.starts[first] if first < len(self.starts) else self.num_bytes
        begins = begin + np.append(0, np.cumsum(sizes))
        if (sizes < 0).any() or (begins[:-1] != self.starts[first:last]).any():
            raise UserError(
                f"{self.path}: sequences {first} to {last} do not follow one another in the .bin; the index is "
                "damaged, or of a part of that file: write both again."
            )
        return begins[firsts - first] // self.kind.itemsize


def write_megatron(path: Path, batches: Iterable[IdDocuments], size: int) -> int:
    """Writes ``path`` (.bin) and its index, one sequence to a document; returns the tokens.

    ``size`` is the number of the tokenizer's ids.
    """
    code = 8 if size < _MOST_SHORT else 4
    kind, tokens = np.dtype(_KINDS[code]), 0
    with path.open("wb") as ids, tempfile.TemporaryFile(dir=path.parent) as kept:
        for batch in batches:
            batch.ids.astype(kind).tofile(ids)
            kept.write(np.diff(batch.ends, prepend=0).astype("<i4").tobytes())
            tokens += len(batch.ids)
        kept.flush()
        count = kept.tell() // 4
        lengths = np.memmap(kept, "<i4", "r", 0, (count,)) if count else np.empty(0, "<i4")
        with path.with_suffix(".idx").open("wb") as index:
            index.write(_HEADER.pack(_MAGIC, 1, code, count, count + 1))
            lengths.tofile(index)
            begin = 0
            for start in range(0, count, _AT_ONCE):
                ends = begin + np.cumsum(lengths[start : start + _AT_ONCE], dtype=np.int64) * kind.itemsize
                np.append(begin, ends[:-1]).astype("<i8").tofile(index)
                begin = int(ends[-1])
            for start in range(0, count + 1, _AT_ONCE):
                np.arange(start, min(count + 1, start + _AT_ONCE), dtype="<i8").tofile(index)
    return tokens
