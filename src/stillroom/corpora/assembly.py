"""Puts a corpus together from the tasks of its build, shard after shard; what is not done yet is done or waited for.

Everything follows from the order of tasks, never from who did them or when. Shards appear in order, each whole, so that
training may begin on the first ones.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from stillroom.corpora.ledger import DATA, TaskResult
from stillroom.corpora.plan_file import Build
from stillroom.corpora.sequences import (
    BLOCK_TOKENS,
    BYTES_SHIFT,
    DocumentOrder,
    Rows,
    SeenTexts,
    SourceCounts,
    Taken,
    best_fit,
    concatenated,
    ordered_documents,
    turns,
)
from stillroom.corpora.tasks import BYTES_PER_TOKEN, Task, source_shares
from stillroom.corpora.workers import Crew, do_one
from stillroom.files import file_aside
from stillroom.types import OnProgress, UserError
from stillroom.worlds.base import Split

SHARD_TOKENS = 1 << 24
_ID = (1 << BYTES_SHIFT) - 1
_PAUSE, _LOOK_SECONDS = 0.05, 0.5
_CAUTION = 1.5  # by how much a task may hold more tokens than guessed before the first is done
_CODES = 1 << 20  # worked out at one time


@dataclass
class BuildProgress:
    """Tells how many tokens all processes together have made, by what they have written."""

    root: Path
    bytes_per_id: int
    total: int
    tell: OnProgress
    _most: int = 0
    _next: float = -math.inf

    def look(self, _: int = 0) -> None:
        """Counts anew where the last count is a while ago."""
        begin = time.monotonic()
        if begin < self._next:
            return
        sizes = (file.stat().st_size for file in self.root.glob("*/" + DATA))
        try:
            self._most = max(self._most, min(self.total, sum(sizes) // self.bytes_per_id))
        except FileNotFoundError:  # one was finished meanwhile
            return
        self.tell(self._most, self.total)
        self._next = time.monotonic() + max(_LOOK_SECONDS, 100 * (time.monotonic() - begin))


@dataclass
class Supply:
    """Gives what tasks made: does those that are not done, or waits for whoever does them."""

    build: Build
    crew: Crew
    progress: BuildProgress
    shared: bool
    """Whether other processes may look for work."""
    _wanted: dict[tuple[Split, str], int] = field(default_factory=dict)
    _finished: set[str] = field(default_factory=set)

    def result(self, task: Task, ahead: int) -> TaskResult:
        """What a task made; its list is said to be wanted as far as ``ahead``."""
        self._want((task.split, task.source), max(ahead, task.number + 1))
        ledger = self.build.ledger
        while not ledger.is_done(task):
            self.progress.look()
            is_helped = self.crew.check()
            if is_helped or not (ledger.run(task, self.progress.look) or do_one(self.build, self._finished)):
                time.sleep(_PAUSE)
        return ledger.read(task)

    def foresee(self) -> None:
        """Says which training tasks are needed in any case: helpers do them where held-out text leaves them idle."""
        config = self.build.plan.config
        for name, share in source_shares(config).items():
            if (first := self.build.plan.lists["train", name].get(0)) is not None:
                guess = config.train_tokens * share * BYTES_PER_TOKEN / max(1.0, first.kept_size)
                self._want(("train", name), math.floor(guess / 2))

    def _want(self, key: tuple[Split, str], number: int) -> None:
        if self._wanted.get(key, 0) < number:
            self._wanted[key] = number
            if self.shared:
                self.build.want(self._wanted)


class _Source:
    """One source's sequences for one split, made as they are taken."""

    def __init__(self, supply: Supply, name: str, split: Split, sequences: int, seen: SeenTexts | None) -> None:
        config = supply.build.plan.config
        self._supply, self._config, self.name, self._split = supply, config, name, split
        self._tasks = supply.build.plan.lists[split, name]
        self._wanted = sequences
        self._found = 0
        self.told = SourceCounts()
        self._taken = Taken(self._rows(seen))

    def _rows(self, seen: SeenTexts | None) -> Iterator[Rows]:
        config = self._config
        place = list(config.sources).index(self.name)
        seed = (config.seed * 2 + (self._split == "train")) * 1_000_003 + place
        block = max(BLOCK_TOKENS // len(config.sources), 16 * config.sequence_length)
        most = config.sources[self.name].epochs if self._split == "train" else 1.0
        order = DocumentOrder(seed, most, None if self._tasks.documents else seen, block)
        documents = ordered_documents(self._read, order, self.told)
        if config.packing == "concat":
            return concatenated(documents, config.sequence_length)
        return best_fit(documents, config.sequence_length, self._supply.build.marks.bos, seed, self.told)

    def _read(self, number: int) -> TaskResult | None:
        task = self._tasks.get(number)
        if task is None:
            return None
        result = self._supply.result(task, self._ahead(task))
        self._found += result.tokens
        return result

    def _ahead(self, task: Task) -> int:
        """How many tasks will be needed, as far as one can tell when it is one's turn."""
        kept = 1 - self.told.duplicates / max(1, self.told.texts)
        guess = _CAUTION * task.kept_size / BYTES_PER_TOKEN
        each = self._found * kept / task.number if self._found and task.number else guess
        left = self._wanted * self._config.sequence_length - self._found * kept
        return task.number + math.ceil(max(0.0, left) / max(1.0, each))

    def take(self, number: int) -> Rows:
        """The next sequences; a ``UserError`` where the source has not so many."""
        rows = self._taken.take(number)
        if rows is not None:
            return rows
        where = f"corpus.sources.{self.name}"
        if not self._taken.count:
            place = self._config.sources[self.name].path
            raise UserError(
                f"{where}{f' ({place})' if place else ''}: holds no text for the {self._split} split that makes a "
                f"sequence, in {self.told.texts} texts (about one in twenty is held out, by its content); add text or "
                "shorten corpus.sequence_length."
            )
        length, source = self._config.sequence_length, self._config.sources[self.name]
        more = f" (used {source.epochs:g} times, as epochs of the source allows)" if source.epochs != 1 else ""
        other = ", raise epochs of the source" if self._split == "train" else ""
        raise UserError(
            f"{where}: holds {self._taken.count * length} {self._split} tokens{more}, but its share asks for about "
            f"{self._wanted * length}; add text{other}, lower the share or corpus.{self._split}_tokens."
        )


def num_sequences(tokens: int, length: int) -> int:
    """Sequences that hold so many tokens."""
    return -(-tokens // length)


def rows_of_shard(length: int, shuffle_tokens: int) -> int:
    """Sequences of a shard; of a corpus that is trained on while it grows, no more than are shuffled at once."""
    return max(1, min(SHARD_TOKENS, shuffle_tokens or SHARD_TOKENS) // length)


def assemble(supply: Supply, split: Split, folder: Path) -> dict[str, SourceCounts]:
    """Writes ``tokens-NNNNN.npy``, ``source.npy`` and ``document.npy`` of a split; returns what is told of its sources.

    Beside the tokens lie ``bytes-NNNNN.npy``, the bytes of text that each stands for, where an id does not tell it.
    """
    config, encoder = supply.build.plan.config, supply.build.ledger.encoder
    length = config.sequence_length
    wanted = num_sequences(config.train_tokens if split == "train" else config.heldout_tokens, length)
    folder.mkdir(parents=True, exist_ok=True)
    code_R = _codes(folder / "source.npy", source_shares(config), wanted, split)
    sources = _sources(supply, split, np.bincount(code_R, minlength=len(config.sources)).tolist())
    document_R = open_memmap(folder / "document.npy", "w+", np.uint64, (wanted,))
    rows = rows_of_shard(length, config.shuffle_tokens)
    is_counted = split == "heldout" and not encoder.vocabulary.exact
    for shard, begin in enumerate(range(0, wanted, rows)):
        part = code_R[begin : begin + rows]
        tokens_RT = np.empty((part.size, length), np.int64 if is_counted else encoder.kind)
        for code, source in enumerate(sources):
            places = np.flatnonzero(part == code)
            if places.size == part.size:
                tokens_RT, document_R[begin + places] = source.take(part.size)
            elif places.size:
                tokens_RT[places], document_R[begin + places] = source.take(places.size)
        if is_counted:
            _save(folder / f"bytes-{shard:05d}.npy", (tokens_RT >> BYTES_SHIFT).astype(np.uint32))
            tokens_RT = (tokens_RT & _ID).astype(encoder.kind)
        _save(folder / f"tokens-{shard:05d}.npy", tokens_RT)
    document_R.flush()
    return {one.name: one.told for one in sources}


def _sources(supply: Supply, split: Split, sequences: list[int]) -> list[_Source]:
    config = supply.build.plan.config
    seen = SeenTexts(supply.build.folder / "seen" / split) if config.deduplicate else None
    return [_Source(supply, name, split, count, seen) for name, count in zip(config.sources, sequences, strict=True)]


def _codes(file: Path, shares: dict[str, float], wanted: int, split: Split) -> NDArray[np.unsignedinteger]:
    """The source of every sequence, as it is written; a share of the training text that is none is refused."""
    code_R = open_memmap(file, "w+", np.min_scalar_type(len(shares) - 1), (wanted,))
    stream = turns(list(shares.values()), wanted)
    for begin in range(0, wanted, _CODES):
        count = min(_CODES, wanted - begin)
        code_R[begin : begin + count] = np.fromiter(itertools.islice(stream, count), code_R.dtype, count)
    code_R.flush()
    taken = np.bincount(code_R, minlength=len(shares))
    if split == "train" and not taken.all():
        name, share = list(shares.items())[int(taken.argmin())]
        raise UserError(
            f"corpus.sources.{name}: its share is {share:.2g} of {wanted} training sequences, which is none; raise it "
            "or corpus.train_tokens, or remove the source."
        )
    return code_R


def _save(file: Path, array: NDArray[np.generic]) -> None:
    with file_aside(file) as scratch:
        np.save(scratch, array)
