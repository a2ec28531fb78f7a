"""Runs a teacher over a corpus and writes its labels: resumable, atomic, by any number of ranks that never talk.

A store is a folder: ``plan.json`` (what is asked for), ``codebook.bin`` (fitted to a first sample), ``shards/``, and,
once every shard is there, ``index.bin`` and ``manifest.json``. A file exists only when it is complete.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stillroom.config import LabelsConfig
from stillroom.files import disk_errors, read_json, write_bytes
from stillroom.models import precision_name
from stillroom.teachers import codebook
from stillroom.teachers import manifest as manifests
from stillroom.teachers.capture import ModelScores, Scores, capture
from stillroom.teachers.codec import Codec
from stillroom.teachers.fidelity import measure
from stillroom.teachers.indexing import write_index
from stillroom.teachers.layout import (
    SCHEMA,
    Damaged,
    ShardCounts,
    ShardTable,
    checksum,
    key_halves,
    open_record,
    pack_shard,
    read_codebook,
    read_table,
    record_keys,
    shard_name,
)
from stillroom.teachers.manifest import Manifest, Plan
from stillroom.teachers.rows import NO_GOLD, Rows
from stillroom.teachers.sampling import offsets
from stillroom.types import Sequences, SoftLabels, UserError

FORWARD_TOKENS = 4096
"""Tokens per forward pass of the teacher. Part of the plan: a matrix product of another size may round otherwise."""
SAMPLE_TOKENS = 32_768
"""Tokens that the codebook is fitted to."""
FIDELITY_TOKENS = 2048
"""Positions on which the fidelity is measured."""
Progress = Callable[[int, int], None]


class Source(Protocol):
    """Where labels come from: a teacher that is run, or labels that somebody else wrote."""

    def rows(self, numbers: range) -> tuple[np.ndarray, Rows]:
        """Token ids (B, T) and labels (B·T) of some sequences."""
        ...

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """How far stored labels of some sequences are from what they were made from."""
        ...


@dataclass(frozen=True)
class TeacherSource:
    """Labels of a teacher that is run over a corpus."""

    scores: Scores
    sequences: Sequences
    config: LabelsConfig
    vocab_size: int

    def rows(self, numbers: range) -> tuple[np.ndarray, Rows]:
        """See ``Source``."""
        batch = self.sequences.batch(list(numbers))
        tokens_BT = batch.tokens_BT.cpu().numpy()
        if tokens_BT.max() >= self.vocab_size:
            raise UserError(
                f"corpus: token id {tokens_BT.max()} found but the tokenizer has {self.vocab_size} tokens; "
                "use the teacher's tokenizer."
            )
        offset_N = offsets(key_halves(record_keys(tokens_BT)), tokens_BT.shape[1], self.config.seed)
        return tokens_BT, capture(self.scores, batch, offset_N, self.config)

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """See ``Source``."""
        return measure(self.scores, self.sequences.batch(list(numbers)), labels, self.config)


class Labeller:
    """One store being made: what every rank does, step by step."""

    def __init__(self, source: Source, plan: Plan, folder: Path):
        self.source, self.plan, self.folder = source, plan, folder
        self.config = plan.config
        self._sample: dict[int, tuple[np.ndarray, Rows]] = {}

    def prepare(self) -> None:
        """Writes the plan, or refuses a folder that holds another one."""
        path = self.folder / "plan.json"
        others = [file for file in self.folder.glob("*") if not file.name.startswith(".")] if not path.exists() else []
        if others and not path.exists():  # asked again: another writer may have begun meanwhile
            raise UserError(f"{self.folder}: holds files that are no label store; give an empty or new folder.")
        if path.exists():
            found = manifests.from_text(path.read_bytes(), Plan, str(path))
            manifests.refuse_difference(found, self.plan, str(self.folder))
            return
        _write(path, manifests.to_text(self.plan).encode())

    @cached_property
    def codec(self) -> Codec:
        """The codec with the store's codebook; fitted and written by whichever rank comes first."""
        path = self.folder / "codebook.bin"
        if not path.exists():
            batches = range(min(self._num_batches(0), max(1, SAMPLE_TOKENS // self._batch_tokens)))
            for number in batches:
                self._sample[number] = self.source.rows(self._batch_range(0, number))
            sample = [piece for tokens_BT, rows in self._sample.values() for piece in _records(tokens_BT, rows)]
            _write_first(path, _with_check(codebook.to_bytes(codebook.fit(self.config, self.plan.vocab_size, sample))))
        return codebook.from_bytes(read_codebook(path))

    @cached_property
    def codebook_hash(self) -> bytes:
        """What a shard says of the codebook that it was written with."""
        return (self.folder / "codebook.bin").read_bytes()[-8:]

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
        """Whether a shard is there and whole, its records aside (they carry checksums of their own)."""
        path = self.shard_path(shard)
        if not path.exists():
            return False
        try:
            read_table(path.read_bytes(), str(path), self.codebook_hash)
        except Damaged:
            return False
        return True

    def label_shard(self, shard: int, progress: Callable[[int], None]) -> None:
        """Labels the sequences of a shard and writes it."""
        codec, keys, payloads, counts = self.codec, [], [], ShardCounts()
        for number in range(self._num_batches(shard)):
            ready = self._sample.pop(number, None) if shard == 0 else None
            tokens_BT, rows = ready or self.source.rows(self._batch_range(shard, number))
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
        if not path.exists():
            numbers = self._batch_range(0, 0)[: max(1, FIDELITY_TOKENS // self._length)]
            data = self.shard_path(0).read_bytes()
            table = read_table(data, str(self.shard_path(0)), self.codebook_hash)
            records = zip(table.keys, table.offsets.tolist(), table.lengths.tolist(), strict=True)
            payloads = [
                open_record(memoryview(data)[start : start + length], key.tobytes(), str(self.shard_path(0)))
                for key, start, length in itertools.islice(records, len(numbers))
            ]
            labels = self.codec.decode(payloads).tensors(len(payloads))
            _write(path, json.dumps(self.source.distance(numbers, labels)).encode())
        return read_json(path)

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


def _counts(rows: Rows) -> ShardCounts:
    has_gold_N = rows.gold_rank_N != NO_GOLD
    return ShardCounts(
        entries=len(rows.ids_E),
        targets=int(has_gold_N.sum()),
        entropy_nats=float(rows.entropy_N[has_gold_N].sum(dtype=np.float64)),
        gold_nats=-float(rows.gold_logprob_N.sum(dtype=np.float64)),
    )


def _records(tokens_BT: np.ndarray, rows: Rows) -> list[tuple[np.ndarray, Rows]]:
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


def _write_first(path: Path, data: bytes) -> None:
    """Writes a file unless it is there already: of several writers the first one's file is everyone's."""
    with disk_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def make_plan(
    scores: Scores,
    sequences: Sequences,
    config: LabelsConfig,
    identity: dict[str, Any],
    *,
    isolate: bool,
    precision: str,
) -> Plan:
    """The plan of a store that holds labels of all ``sequences``."""
    manifests.check_identity(identity)
    return Plan(
        schema=SCHEMA,
        identity={name: identity[name] for name in manifests.IDENTITY},
        labels=config.canonical(),
        num_sequences=len(sequences),
        sequence_length=sequences.sequence_length,
        isolate_documents=isolate,
        precision=precision_name(precision, scores.device),
        forward_sequences=max(1, FORWARD_TOKENS // sequences.sequence_length),
    )


def label_part(
    teacher: Any,
    sequences: Sequences,
    config: LabelsConfig,
    folder: Path,
    *,
    identity: dict[str, Any],
    rank: int = 0,
    world_size: int = 1,
    isolate: bool = True,
    precision: str = "auto",
    progress: Progress | None = None,
) -> Manifest | None:
    """Labels the shards of one rank (every ``world_size``-th) and finishes the store if all are there.

    Returns the manifest, or None where other ranks still have shards to write. ``teacher`` is a causal language model,
    or anything that gives ``Scores``. ``progress`` hears (tokens done, tokens to do) of this rank.
    """
    manifests.check_identity(identity)
    is_scores = hasattr(teacher, "chunks")
    scores = teacher if is_scores else ModelScores(teacher.eval(), int(identity["vocab_size"]), isolate, precision)
    plan = make_plan(scores, sequences, config, identity, isolate=isolate, precision=precision)
    source = TeacherSource(scores, sequences, plan.config, plan.vocab_size)
    return write_store(source, plan, folder, rank=rank, world_size=world_size, progress=progress)


def write_store(
    source: Source,
    plan: Plan,
    folder: Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    progress: Progress | None = None,
) -> Manifest | None:
    """Writes the shards of one rank and finishes the store if all are there; returns the manifest if so."""
    labeller = Labeller(source, plan, folder)
    labeller.prepare()
    shards = range(rank, plan.num_shards, world_size)
    total = sum(len(plan.shard_range(shard)) for shard in shards) * plan.sequence_length
    done = 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        if progress is not None:
            progress(done, total)

    for shard in shards:
        if labeller.is_complete(shard):
            advance(len(plan.shard_range(shard)) * plan.sequence_length)
        else:
            labeller.label_shard(shard, advance)
    return labeller.finish()


def label(teacher: Any, sequences: Sequences, config: LabelsConfig, folder: Path, **options: Any) -> Manifest:
    """Labels all sequences into a store in this process and returns its manifest; see ``label_part``."""
    manifest = label_part(teacher, sequences, config, folder, **options)
    assert manifest is not None, "one process labels every shard"
    return manifest
