"""Tasks: which parts of a source are read together, in which order, for which split.

A task needs nothing of any other one and its content is a function of the plan alone, so that any number of processes
may do them in any order. How large tasks are follows from how many tokens are asked for, never from who does them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.exchange.id_documents import text_of_ids
from stillroom.corpora.sources.holding_out import content_hash, is_held_out
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import source_kind
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.sources.texts import cut
from stillroom.files import fingerprint
from stillroom.vocabulary import Vocabulary
from stillroom.worlds.base import Split

BYTES_PER_TOKEN = 4.5
"""Text behind a token, to guess how many tasks are needed before the first is done."""
HELDOUT_ONE_IN = 20
"""Texts of which one is held out, to guess how much must be read for the held-out split."""
_TASKS = 32  # that the tokens asked for come to, where a task is neither smallest nor largest
_SMALLEST, _LARGEST = 1 << 16, 1 << 21  # bytes of a task: at the end of a build others wait for the last one
_SMALLEST_PART, _LARGEST_PART = 1 << 15, 1 << 22
_MOST_TASKS, _MOST_PARTS = 1 << 14, 1 << 16  # of a source that is much larger than what is asked for
_STRETCHES = 16  # of a packed file: each is found by unpacking what is before it
_WORLD_BYTES = 128  # of a world's document, about
_FEWEST = 64  # documents of a world's task


@dataclass(frozen=True)
class Task:
    """What is read and encoded at one time: the texts of one split in some parts of a source."""

    source: str
    split: Split
    number: int
    """Place in the order of the source's tasks for this split."""
    parts: tuple[Part, ...]
    """Nothing for a world, whose documents are a function of ``number``."""
    stretch: tuple[int, int | None] | None = None
    """Of one packed file: first character and the one after the last, by where texts begin; None to its end."""
    documents: int = 0
    """How many a world gives."""

    @property
    def size(self) -> int:
        """Bytes to be read, as far as one can tell."""
        if self.stretch is None:
            return sum(part.size for part in self.parts) or self.documents * _WORLD_BYTES
        start, stop = self.stretch
        return (self.parts[0].size if stop is None else stop) - start

    @property
    def kept_size(self) -> float:
        """Bytes that are kept for its split, as far as one can tell."""
        return self.size / HELDOUT_ONE_IN if self.split == "heldout" and self.parts else float(self.size)

    def key(self) -> str:
        """A hash of what determines its content, beside what all tasks of a corpus share."""
        return fingerprint([self.source, self.split, self.number, [asdict(part) for part in self.parts],
                            self.stretch, self.documents])  # fmt: skip


@dataclass(frozen=True)
class TaskList:
    """The tasks of one source for one split, in order; a world's never end."""

    source: str
    split: Split
    tasks: tuple[Task, ...] = ()
    documents: int = 0
    """Of each task of a world."""

    def get(self, number: int) -> Task | None:
        """The task of a number; None where there are not so many."""
        if self.documents:
            return Task(self.source, self.split, number, (), documents=self.documents)
        return self.tasks[number] if number < len(self.tasks) else None


Parts = dict[str, list[Part]]
"""The parts of every source but worlds, in random order."""


def source_shares(config: CorpusConfig) -> dict[str, float]:
    """The part of the tokens that each source gives; they add up to 1."""
    total = sum(source.share for source in config.sources.values())
    return {name: source.share / total for name, source in config.sources.items()}


def is_large(config: CorpusConfig) -> bool:
    """Whether some task would be larger, were there no largest size; that was 32 times as large in earlier versions."""
    splits: tuple[Split, ...] = ("heldout", "train")
    return any(_wanted_bytes(config, name, split) // _TASKS > _LARGEST for name in config.sources for split in splits)


def plan_parts(config: CorpusConfig, sizes: Mapping[str, int]) -> Parts:
    """The parts of every source in a random order that the seed determines; what they hold is not read.

    ``sizes`` are the bytes of each source's files.
    """
    found: Parts = {}
    for name, source in config.sources.items():
        kind = source_kind(source.kind)
        if kind.parts is None:
            continue
        total = sizes[name]
        wanted = min(_task_bytes(config, name, split, total) for split in ("train", "heldout"))
        size = max(min(max(wanted // 16, _SMALLEST_PART), _LARGEST_PART), total // _MOST_PARTS)
        found[name] = list(kind.parts(source, config.seed, size))
        Random(f"{config.seed}/{name}/parts").shuffle(found[name])
    return found


def task_lists(config: CorpusConfig, parts: Parts) -> dict[tuple[Split, str], TaskList]:
    """The tasks of every source for both splits."""
    lists = {}
    for split, name in itertools.product(("heldout", "train"), config.sources):
        if name not in parts:
            kept = 1 if split == "train" else HELDOUT_ONE_IN
            documents = max(_FEWEST, _task_bytes(config, name, split, 0) // kept // _WORLD_BYTES)
            lists[split, name] = TaskList(name, split, documents=documents)
            continue
        total = sum(part.size for part in parts[name])
        size, wanted = _task_bytes(config, name, split, total), _wanted_bytes(config, name, split)
        pieces = list(_grouped(parts[name], size, wanted))
        tasks = (Task(name, split, number, *piece) for number, piece in enumerate(pieces))
        lists[split, name] = TaskList(name, split, tuple(tasks))
    return lists


def _wanted_bytes(config: CorpusConfig, source: str, split: Split) -> float:
    """Text to be read for the tokens of a split that a source's share comes to."""
    tokens = config.train_tokens if split == "train" else config.heldout_tokens * HELDOUT_ONE_IN
    return tokens * source_shares(config)[source] * BYTES_PER_TOKEN


def _task_bytes(config: CorpusConfig, source: str, split: Split, total: int) -> int:
    wanted = int(_wanted_bytes(config, source, split)) // _TASKS
    return max(min(max(wanted, _SMALLEST), _LARGEST), total // _MOST_TASKS)


_Piece = tuple[tuple[Part, ...], tuple[int, int | None] | None]
"""Parts of a task, and the stretch where it is one of a packed file."""


def _grouped(parts: Sequence[Part], size: int, wanted: float) -> Iterator[_Piece]:
    """The pieces of work of about ``size`` bytes; stretches of long packed files lie evenly among the rest."""
    placed: list[tuple[float, int, _Piece]] = []
    small: list[Part] = []
    for place, part in enumerate(parts):
        length = max(size, int(min(part.size / _STRETCHES, wanted / 4)))
        if part.unit == "whole" and part.size > 2 * length:
            starts = range(0, part.size, length)
            chain = [((part,), (start, start + length)) for start in starts[:-1]] + [((part,), (starts[-1], None))]
            begin = (place + 0.5) / len(parts)
            placed += [((begin + number) / len(chain), place, piece) for number, piece in enumerate(chain)]
        else:
            small.append(part)
    groups = list(_by_size(small, size))
    placed += [((number + 0.5) / len(groups), -1, (group, None)) for number, group in enumerate(groups)]
    yield from (piece for _, _, piece in sorted(placed, key=lambda one: one[:2]))


def _by_size(parts: Sequence[Part], size: int) -> Iterator[tuple[Part, ...]]:
    group: list[Part] = []
    held = 0
    for part in parts:
        group.append(part)
        held += part.size
        if held >= size:
            yield tuple(group)
            group, held = [], 0
    if group:
        yield tuple(group)


def task_texts(task: Task, source: SourceConfig, seed: int, count: RowCount) -> Iterator[tuple[str, bytes]]:
    """The whole texts of a task with their content hashes; ``count`` is told of the rows read."""
    kind = source_kind(source.kind)
    if kind.documents is not None:
        own = int.from_bytes(hashlib.blake2b(f"{seed}/{task.source}/{task.number}".encode(), digest_size=7).digest())
        for text in itertools.islice(kind.documents(source, own, task.split), task.documents):
            yield text, content_hash(text)
        return
    assert kind.texts is not None
    read = count if task.stretch is None else RowCount()
    texts = itertools.chain.from_iterable(kind.texts(source, part, read) for part in task.parts)
    for text in texts if task.stretch is None else _within(texts, task.stretch, read, count):
        digest = content_hash(text)
        if is_held_out(digest, seed) == (task.split == "heldout"):
            yield text, digest


def ids_of(
    task: Task, source: SourceConfig, seed: int, vocabulary: Vocabulary
) -> Iterator[tuple[NDArray[np.uint32], bytes]]:
    """The documents of a task of a source of ids, with the hashes of what they say."""
    kind = source_kind(source.kind)
    assert kind.ids is not None
    for part in task.parts:
        for batch in kind.ids(source, part, vocabulary):
            for ids in batch:
                digest = content_hash(text_of_ids(vocabulary, ids))  # the one that it has in a source of text
                if is_held_out(digest, seed) == (task.split == "heldout"):
                    yield ids, digest


def _within(texts: Iterator[str], stretch: tuple[int, int | None], read: RowCount, count: RowCount) -> Iterator[str]:
    """The texts that begin in a stretch of a stream; ``count`` is told of the rows read for these, and for no others.

    ``read`` is told of every row that was read to get there.
    """
    (start, stop), place, known = stretch, 0, RowCount()
    for text in texts:
        if stop is not None and place >= stop:
            return
        if place >= start:
            count.tell(read, since=known)
            yield text
        known = replace(read)
        place += len(text)
    if stop is None:
        count.tell(read, since=known)


def pieces_of(text: str, source: SourceConfig) -> Iterator[str]:
    """The documents that a text is cut into; a world's are never cut."""
    limit = source.max_document_chars
    if len(text) <= limit or source_kind(source.kind).documents is not None:
        return iter((text,))
    return cut(text, limit)


def parts_json(parts: Parts) -> dict[str, JsonValue]:
    """Parts as they are written to the plan: names of files once."""
    found: dict[str, JsonValue] = {}
    for name, ones in parts.items():
        files = {file: place for place, file in enumerate(dict.fromkeys(part.file for part in ones))}
        rows: list[JsonValue] = [[files[p.file], p.start, p.stop, p.unit, p.size] for p in ones]
        found[name] = {"files": list(files), "parts": rows}
    return found


def parts_from(values: dict[str, dict[str, list]]) -> Parts:
    """Parts from what ``parts_json`` made of them."""
    return {name: [Part(one["files"][file], *rest) for file, *rest in one["parts"]] for name, one in values.items()}
