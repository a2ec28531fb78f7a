"""The ledger of a build: a folder for every task that is done, which says by itself what it holds and of which build.

A folder appears whole or not at all. One that does not hold what its record says, or that belongs to another build, is
named and refused: it is never taken on trust.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from stillroom import disk
from stillroom.checksums import check_of, hash_of_file
from stillroom.corpora.encoding import Encoded, Encoder
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import source_kind
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.tasks import Task, ids_of, pieces_of, task_texts
from stillroom.files import disk_errors, json_text, read_json_object
from stillroom.strict import parse
from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary

DATA, RECORD = "data.bin", "task.json"
_BATCH_CHARS, _BATCH_DOCUMENTS = 1 << 17, 4096  # encoded at one time
_BATCH_IDS = 1 << 18
_ALIGNED = 8  # bytes
_Document = TypeVar("_Document", str, "NDArray[np.uint32]")
OnTokens = Callable[[int], None]
"""Hears the tokens that the task under way has made so far."""


class UnfinishedError(UserError):
    """A mistake after which what is done of a build stays, to be gone on with."""


class _Array(BaseModel):
    """Kind of number and how many."""

    model_config = ConfigDict(strict=True)

    kind: str
    count: int


class _Record(BaseModel):
    """What ``task.json`` holds."""

    model_config = ConfigDict(strict=True, extra="forbid")

    build: str
    task: str
    tokens: int
    rows: dict[str, int]
    arrays: dict[str, _Array]
    """In the order in which they lie in ``data.bin``."""
    xxh3_128: str
    check: str


@dataclass(frozen=True)
class TaskResult:
    """What a task made, memory-mapped. Letters: N ids, D documents, S texts."""

    tokens: int
    rows: RowCount
    arrays: dict[str, NDArray[Any]]

    @property
    def ids_N(self) -> NDArray[Any]:
        """Ids of all documents one after another, each between its marks."""
        return self.arrays["ids"]

    @property
    def bytes_N(self) -> NDArray[Any] | None:
        """Bytes of text of every token; None where an id tells it."""
        return self.arrays.get("bytes")

    @property
    def ends_D(self) -> NDArray[np.uint64]:
        """Where in the ids each document ends."""
        return self.arrays["ends"]

    @property
    def text_D(self) -> NDArray[np.uint64]:
        """Which of the task's texts each document is a piece of."""
        return self.arrays["texts"]

    @property
    def hash_S(self) -> NDArray[np.uint64]:
        """The first 64 bits of the content hash of every text."""
        return self.arrays["hashes"]


@dataclass(frozen=True)
class Ledger:
    """The tasks of a build that are done, under ``folder``."""

    folder: Path
    build: str
    """Hash of what all tasks share."""
    sources: dict[str, SourceConfig]
    seed: int
    encoder: Encoder

    @cached_property
    def root(self) -> Path:
        """Where the tasks are."""
        return self.folder / "tasks"

    def place(self, task: Task) -> Path:
        """The folder of a task."""
        code = list(self.sources).index(task.source)
        return self.root / f"{task.split}-{code:03d}-{task.number:06d}"

    def is_done(self, task: Task) -> bool:
        """Whether its folder is there."""
        return disk.is_finished(self.place(task))

    def read(self, task: Task) -> TaskResult:
        """What a finished task made; a ``UserError`` that names what is not as it was written."""
        place = self.place(task)
        record = self._record(task)
        data = np.memmap(place / DATA, np.uint8, "r") if (place / DATA).stat().st_size else np.empty(0, np.uint8)
        arrays, start = {}, 0
        for name, one in record.arrays.items():
            stop = start + np.dtype(one.kind).itemsize * one.count
            arrays[name] = data[start:stop].view(np.ndarray).view(one.kind)
            start = stop + -stop % _ALIGNED
        return TaskResult(record.tokens, RowCount(**record.rows), arrays)

    def _record(self, task: Task) -> _Record:
        place = self.place(task)
        try:
            values = read_json_object(place / RECORD, "the record of a finished task")
            record = parse(_Record, values, str(place / RECORD))
            digest = hash_of_file(place / DATA)
        except UserError as error:
            raise self._lies(place, str(error)) from error
        if record.check != check_of({name: value for name, value in values.items() if name != "check"}):
            raise self._lies(place, f"{RECORD} is not as it was written")
        if (record.build, record.task) != (self.build, task.key()):
            raise self._lies(place, f"{RECORD} is of another build or task")
        if digest != record.xxh3_128:
            raise self._lies(place, f"{DATA} does not match its checksum")
        return record

    def _lies(self, place: Path, what: str) -> UserError:
        return UnfinishedError(
            f"{place}: is said to be a finished part of the corpus and is not ({what}); remove {place}, then run the "
            "same command again, which makes that part anew."
        )

    def run(self, task: Task, hear: OnTokens = lambda tokens: None) -> bool:
        """Does a task unless it is done; False where another process is doing it now."""
        place = self.place(task)
        with disk_errors(place):
            try:
                with disk.held(self.root / f".{place.name}.lock"):
                    if not self.is_done(task):
                        self._make(task, place, hear)
            except disk.Busy:
                return False
        return True

    def _make(self, task: Task, place: Path, hear: OnTokens) -> None:
        for left in self.root.glob(f".{place.name}.part-*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(dir=self.root, prefix=f".{place.name}.part-"))
        try:
            record = self._written(task, work / DATA, hear)
            with (work / RECORD).open("w") as stream:  # which makes no folder, where the build is gone meanwhile
                stream.write(json_text(record))
                stream.flush()
                disk.flush(stream.fileno())
            disk.let_all_read(work, 0o755)
            disk.publish(work, place)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _written(self, task: Task, path: Path, hear: OnTokens) -> dict[str, Any]:
        """Writes the data of a task and returns its record."""
        rows = RowCount()
        with path.open("wb") as stream:
            writer = _Writer(stream)
            made = _Made(task, self.sources[task.source], self.seed)
            for encoded in made.batches(self.encoder, rows):
                writer.add("ids", encoded.ids_N)
                hear(made.tokens)
            for name, array in made.arrays().items():
                writer.add(name, array)
            stream.flush()
            disk.flush(stream.fileno())
        body = {"build": self.build, "task": task.key(), "tokens": made.tokens, "rows": asdict(rows)}
        body |= {"arrays": writer.arrays, "xxh3_128": writer.digest.hexdigest()}
        return body | {"check": check_of(body)}


class _Writer:
    """Appends arrays to a file and remembers what it wrote."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._size, self.digest = stream, 0, xxhash.xxh3_128()
        self.arrays: dict[str, dict[str, Any]] = {}

    def add(self, name: str, array: NDArray[Any]) -> None:
        if name not in self.arrays:
            self._put(bytes(-self._size % _ALIGNED))
            self.arrays[name] = {"kind": array.dtype.newbyteorder("<").str, "count": 0}
        self.arrays[name]["count"] += array.size
        self._put(array.tobytes())

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self.digest.update(data)
        self._size += len(data)


class _Made:
    """The documents of a task, batch by batch; keeps what is written behind the ids."""

    def __init__(self, task: Task, source: SourceConfig, seed: int) -> None:
        self._task, self._source, self._seed = task, source, seed
        self.tokens = 0
        self._lengths: list[NDArray[Any]] = []
        self._texts: list[NDArray[Any]] = []
        self._bytes: list[NDArray[Any]] = []
        self._hashes = bytearray()

    def batches(self, encoder: Encoder, rows: RowCount) -> Iterator[Encoded]:
        """Encodes the documents; those that are ids already get their marks."""
        compare = self._task.split == "heldout"
        if source_kind(self._source.kind).ids is None:
            pairs = self._batched(self._texts_of(rows), _BATCH_CHARS)
            made = ((encoder.encode(self._task.source, texts, compare=compare), owners) for texts, owners in pairs)
        else:
            pairs = self._batched(self._ids_of(encoder.vocabulary), _BATCH_IDS)
            made = ((encoder.marked_ids(ids, compare=compare), owners) for ids, owners in pairs)
        for encoded, owners in made:
            kept = encoded.lengths_D > 0
            self._lengths.append(encoded.lengths_D[kept])
            self._texts.append(np.asarray(owners, np.uint64)[kept])
            if encoded.bytes_N is not None:
                self._bytes.append(encoded.bytes_N)
            self.tokens += encoded.ids_N.size
            yield encoded

    def _texts_of(self, rows: RowCount) -> Iterator[tuple[int, str]]:
        """The documents, each with the number of the text that it is a piece of."""
        for number, (text, digest) in enumerate(task_texts(self._task, self._source, self._seed, rows)):
            self._hashes += digest[:8]
            yield from ((number, piece) for piece in pieces_of(text, self._source))

    def _ids_of(self, vocabulary: Vocabulary) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        for number, (ids, digest) in enumerate(ids_of(self._task, self._source, self._seed, vocabulary)):
            self._hashes += digest[:8]
            yield number, ids

    def _batched(
        self, documents: Iterator[tuple[int, _Document]], size: int
    ) -> Iterator[tuple[list[_Document], list[int]]]:
        """Documents, of ``size`` letters or ids at a time, and the texts that they are of."""
        found: list[_Document] = []
        owners: list[int] = []
        held = 0
        for number, document in documents:
            found.append(document)
            owners.append(number)
            held += len(document)
            if held >= size or len(found) >= _BATCH_DOCUMENTS:
                yield found, owners
                found, owners, held = [], [], 0
        if found:
            yield found, owners

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is written behind the ids."""
        lengths = np.concatenate([np.empty(0, np.uint64), *self._lengths])
        found: dict[str, NDArray[Any]] = {"bytes": np.concatenate(self._bytes)} if self._bytes else {}
        return found | {
            "ends": np.cumsum(lengths, dtype=np.uint64),
            "texts": np.concatenate([np.empty(0, np.uint64), *self._texts]),
            "hashes": np.frombuffer(bytes(self._hashes), "<u8"),
        }
