"""One store being made, step by step: plan, codebook, shards, fidelity, index, manifest.

Whatever is written is written aside and renamed, so a file exists only when it is complete, and any number of writers
of one plan may work on one folder: they never talk, and it does not matter who writes what.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stillroom.files import read_bytes, read_json_object, write_bytes, write_first
from stillroom.labels.codecs import codebook
from stillroom.labels.codecs.record_codec import RecordCodec
from stillroom.labels.format import manifest as manifests
from stillroom.labels.format.index import write_index
from stillroom.labels.format.layout import (
    CHECK_BYTES,
    Damaged,
    ShardCounts,
    ShardTable,
    checksum,
    pack_shard,
    read_codebook,
    read_table,
    record_keys,
    record_payloads,
    shard_name,
)
from stillroom.labels.format.manifest import Manifest, Plan
from stillroom.labels.ragged import NO_GOLD, RaggedLabels, check_labels
from stillroom.types import OnProgress, SoftLabels, UserError

FORWARD_TOKENS = 4096
"""Tokens per forward pass of the teacher. Part of the plan: a matrix product of another size may round otherwise."""
SAMPLE_TOKENS = 32_768
"""Tokens that the codebook is fitted to."""
FIDELITY_TOKENS = 2048
"""Positions on which the fidelity is measured."""


class StoreSource(Protocol):
    """Where labels come from: a teacher that is run, or labels that somebody else wrote."""

    def rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        """Token ids (B, T) and labels (B·T) of some sequences."""
        ...

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """How far stored labels of some sequences are from what they were made from."""
        ...


class StoreWriter:
    """One store being made: what every rank does, step by step."""

    def __init__(self, source: StoreSource, plan: Plan, folder: Path):
        self.source, self.plan, self.folder = source, plan, folder
        self.settings = plan.settings
        self._sample: dict[int, tuple[np.ndarray, RaggedLabels]] = {}

    def prepare(self) -> None:
        """Writes the plan, or refuses a folder that holds another one.

        The codebook's sample is read before, so that a teacher that cannot be labelled with leaves no trace.
        """
        path = self.folder / "plan.json"
        others = [file for file in self.folder.glob("*") if not file.name.startswith(".")] if not path.exists() else []
        if others and not path.exists():  # asked again: another writer may have begun meanwhile
            raise UserError(f"{self.folder}: holds files that are no label store; give an empty or new folder.")
        if path.exists():
            manifests.refuse_difference(self._found_plan(path), self.plan, str(self.folder))
            return
        self._read_sample()
        _write(path, manifests.to_text(self.plan).encode())

    def _found_plan(self, path: Path) -> Plan:
        """The plan that the folder was begun with; a damaged one is written again where a manifest repeats it."""
        try:
            return manifests.from_text(read_bytes(path), Plan, str(path))
        except Damaged:
            finished = self.folder / "manifest.json"
            if not finished.exists():
                raise Damaged(
                    f"{path}: is damaged, so nothing says what the labels are of; use a new folder."
                ) from None
            found = manifests.plan_of(manifests.from_text(read_bytes(finished), Manifest, str(finished)))
        _write(path, manifests.to_text(found).encode())
        return found

    @cached_property
    def codec(self) -> RecordCodec:
        """The codec with the store's codebook; fitted and written by whichever rank comes first."""
        path = self.folder / "codebook.bin"
        if not path.exists():
            self._read_sample()
            sample = [piece for tokens_BT, rows in self._sample.values() for piece in _records(tokens_BT, rows)]
            write_first(
                path, _with_check(codebook.to_bytes(codebook.fit(self.settings.codec, self.plan.vocab_size, sample)))
            )
        return codebook.from_bytes(read_codebook(path), self.settings.codec.coder)

    def _read_sample(self) -> None:
        """Keeps the labels that the codebook is fitted to, until the first shard is written."""
        for number in range(min(self._num_batches(0), max(1, SAMPLE_TOKENS // self._batch_tokens))):
            if number not in self._sample:
                self._sample[number] = self._rows(self._batch_range(0, number))

    def _rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        """Token ids (B, T) and labels (B·T) of some sequences, checked."""
        tokens_BT, rows = self.source.rows(numbers)
        check_labels(rows, self.plan.vocab_size)
        return tokens_BT, rows

    @cached_property
    def codebook_hash(self) -> bytes:
        """What a shard says of the codebook that it was written with."""
        path = self.folder / "codebook.bin"
        if not path.exists():
            _ = self.codec  # fitted again, to the same bytes
        return read_bytes(path)[-CHECK_BYTES:]

    @property
    def _length(self) -> int:
        return self.plan.sequence_length

    @property
    def _batch_tokens(self) -> int:
        return self.plan.forward_sequences * self._length

    def _num_batches(self, shard: int) -> int:
        return -(-len(self.plan.shard_range(shard)) // self.plan.forward_sequences)

    def _batch_range(self, shard: int, number: int) -> range:
        size = self.plan.forward_sequences
        return self.plan.shard_range(shard)[number * size : (number + 1) * size]

    def shard_path(self, shard: int) -> Path:
        """Where a shard lies."""
        return self.folder / shard_name(shard)

    def is_complete(self, shard: int) -> bool:
        """Whether a shard is there and whole, every record of it."""
        path = self.shard_path(shard)
        if not path.exists():
            return False
        try:
            record_payloads(read_bytes(path), str(path), self.codebook_hash)
        except Damaged:
            return False
        return True

    def label_shard(self, shard: int, progress: Callable[[int], None]) -> None:
        """Labels the sequences of a shard and writes it."""
        codec, keys, payloads, counts = self.codec, [], [], ShardCounts()
        for number in range(self._num_batches(shard)):
            ready = self._sample.pop(number, None) if shard == 0 else None
            tokens_BT, rows = ready or self._rows(self._batch_range(shard, number))
            payloads += [codec.encode(tokens_T, piece) for tokens_T, piece in _records(tokens_BT, rows)]
            keys.append(record_keys(tokens_BT))
            counts = counts.plus(_counts(rows))
            progress(tokens_BT.size)
        data = pack_shard(np.concatenate(keys), payloads, self._length, self.codebook_hash, counts)
        _write(self.shard_path(shard), data)

    @cached_property
    def fidelity(self) -> dict[str, float | int | str]:
        """What the store's first labels lost, against the live teacher; measured once per store."""
        path = self.folder / "fidelity.json"
        with contextlib.suppress(UserError):  # missing or damaged, it is measured
            kept: dict[str, Any] = read_json_object(path)
            return kept
        numbers = self._batch_range(0, 0)[: max(1, FIDELITY_TOKENS // self._length)]
        name = str(self.shard_path(0))
        payloads = record_payloads(read_bytes(self.shard_path(0)), name, self.codebook_hash)[: len(numbers)]
        labels = self.codec.decode(payloads).tensors(len(payloads))
        _write(path, json.dumps(self.source.distance(numbers, labels), allow_nan=False).encode())
        measured: dict[str, Any] = read_json_object(path)
        return measured

    def finish(self) -> Manifest | None:
        """Writes index and manifest when every shard is there; None when some are still missing."""
        path = self.folder / "manifest.json"
        if not all(self.shard_path(shard).exists() for shard in range(self.plan.num_shards)):
            return None
        try:
            counts = functools.reduce(ShardCounts.plus, (table.counts for _, table in self._tables()))
            num_records = write_index(self.folder / "index.bin", self._tables, self.plan.num_sequences)
            _write(path, manifests.to_text(self._manifest(num_records, counts)).encode())
            self._tidy()
        except FileNotFoundError:  # another writer finished meanwhile and tidied away what was being written here
            if not path.exists():
                raise
        return manifests.from_text(path.read_bytes(), Manifest, str(path))

    def _tables(self) -> Iterator[tuple[int, ShardTable]]:
        for shard in range(self.plan.num_shards):
            path = self.shard_path(shard)
            yield shard, read_table(path.read_bytes(), str(path), self.codebook_hash)

    def _manifest(self, num_records: int, counts: ShardCounts) -> Manifest:
        names = [shard_name(shard) for shard in range(self.plan.num_shards)] + ["codebook.bin", "index.bin"]
        return Manifest(
            **asdict(self.plan),
            num_records=num_records,
            num_tokens=self.plan.num_sequences * self._length,
            num_entries=counts.entries,
            num_bytes=sum((self.folder / name).stat().st_size for name in names),
            teacher_entropy_nats=counts.entropy_nats / max(1, counts.targets),
            teacher_ce_nats=counts.gold_nats / max(1, counts.targets),
            fidelity=self.fidelity,
        )

    def _tidy(self) -> None:
        """Removes what killed writers left aside; every file that such leavings would have become is complete."""
        for leaving in (*self.folder.glob(".*"), *self.folder.glob("shards/.*")):
            if leaving.is_dir():
                shutil.rmtree(leaving, ignore_errors=True)
            else:
                leaving.unlink(missing_ok=True)


def write_store(
    source: StoreSource,
    plan: Plan,
    folder: Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    progress: OnProgress | None = None,
) -> Manifest | None:
    """Writes the shards of one rank and finishes the store if all are there; returns the manifest if so."""
    writer = StoreWriter(source, plan, folder)
    writer.prepare()
    shards = range(rank, plan.num_shards, world_size)
    total = sum(len(plan.shard_range(shard)) for shard in shards) * plan.sequence_length
    done = 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        if progress is not None:
            progress(done, total)

    for shard in shards:
        if writer.is_complete(shard):
            advance(len(plan.shard_range(shard)) * plan.sequence_length)
        else:
            writer.label_shard(shard, advance)
    return writer.finish()


def _counts(rows: RaggedLabels) -> ShardCounts:
    has_gold_N = rows.gold_rank_N != NO_GOLD
    return ShardCounts(
        entries=len(rows.ids_E),
        targets=int(has_gold_N.sum()),
        entropy_nats=float(rows.entropy_N[has_gold_N].sum(dtype=np.float64)),
        gold_nats=-float(rows.gold_logprob_N.sum(dtype=np.float64)),
    )


def _records(tokens_BT: np.ndarray, rows: RaggedLabels) -> list[tuple[np.ndarray, RaggedLabels]]:
    return list(zip(tokens_BT, rows.split(tokens_BT.shape[1]), strict=True))


def _with_check(data: bytes) -> bytes:
    return data + checksum(data)


def _write(path: Path, data: bytes) -> None:
    """Writes a file of the store; of several writers all write the same bytes, and one may tidy up after itself."""
    try:
        write_bytes(path, data)
    except FileNotFoundError:
        if not path.exists():
            raise
