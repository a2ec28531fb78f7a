"""Documents to sequences of T ids: in a random order, without duplicates where asked, packed one way or the other.

What comes of it depends on the tasks' content and on their order alone. Memory is that of one block of ids, whatever
the size of a corpus. Letters: N ids, D documents, S texts of a task, R sequences, T positions.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.corpora.ledger import TaskResult
from stillroom.corpora.order import permute
from stillroom.corpora.sources.table_rows import RowCount

BYTES_SHIFT = 32
"""Held-out ids carry the bytes of each token this many bits above."""
BLOCK_TOKENS = 1 << 20
_WINDOW, _WINDOW_TOKENS = 128, 1 << 22  # sequences whose documents are fitted together, and the most that is in them
_RUN = 1 << 24  # hashes of a sorted list in memory; longer ones lie on disk
_LONG = 64  # ids of a document, from where on it is copied by itself
_ROUNDING = 1e-12  # of the text: so much more is no other epoch


@dataclass(frozen=True)
class Documents:
    """Some documents one after another, marks included."""

    codes_N: NDArray[Any]
    """Ids; of held-out text with the bytes of each token ``BYTES_SHIFT`` bits above."""
    lengths_D: NDArray[np.int64]
    number_D: NDArray[np.uint64]
    """Of the text that each is a piece of, within its source."""

    def number_at(self, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Of the texts at these places in the ids; a place before them counts as the first."""
        return self.number_D[np.searchsorted(np.cumsum(self.lengths_D), places, side="right")]

    def until(self, tokens: float) -> Documents:
        """The first of them, as many as hold so many ids."""
        upto = np.cumsum(self.lengths_D)
        last = min(int(np.searchsorted(upto, tokens)) + 1, upto.size)
        return Documents(self.codes_N[: upto[last - 1]], self.lengths_D[:last], self.number_D[:last])


@dataclass
class SeenTexts:
    """Hashes of the texts that were given, as sorted lists of growing length; the long ones lie in files."""

    folder: Path
    _lists: list[NDArray[np.uint64]] = field(default_factory=list)

    def repeated(self, hash_S: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of these texts were given before, by themselves or by earlier ones; takes note of the others."""
        unique, first = np.unique(hash_S, return_index=True)
        old = np.zeros(unique.size, bool)
        for known in self._lists:
            place = np.minimum(np.searchsorted(known, unique), known.size - 1)
            old |= known[place] == unique
        repeated = np.ones(hash_S.size, bool)
        repeated[first[~old]] = False
        if (~old).any():
            self._add(unique[~old])
        return repeated

    def _add(self, new: NDArray[np.uint64]) -> None:
        while self._lists and self._lists[-1].size <= new.size and self._lists[-1].size + new.size <= _RUN:
            new = np.sort(np.concatenate([self._lists.pop(), new]))
        if new.size > _RUN // 2:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{len(self._lists):06d}.npy"
            np.save(file, new)
            new = np.load(file, mmap_mode="r")
        self._lists.append(new)


@dataclass
class SourceCounts:
    """What is known of a source's documents in the end."""

    texts: int = 0
    duplicates: int = 0
    repeated: float = 0.0
    """Times that its text was used, less one."""
    rows: RowCount = field(default_factory=RowCount)
    tokens: int = 0
    """Of the documents that were fitted into sequences, those of which follow."""
    cut_tokens: int = 0
    """Of documents longer than a sequence."""
    padded_tokens: int = 0

    def packing(self) -> dict[str, float]:
        """The share of tokens in documents that were cut, and that of the sequences that holds none."""
        held = max(1, self.tokens + self.padded_tokens)
        return {"cut": self.cut_tokens / max(1, self.tokens), "padded": self.padded_tokens / held}


@dataclass(frozen=True)
class DocumentOrder:
    """How the documents of a source are put in order."""

    seed: int
    most_epochs: float = 1.0
    """Most times that all of the text is used."""
    seen: SeenTexts | None = None
    """Where texts that were given before are left out."""
    block: int = BLOCK_TOKENS


def ordered_documents(
    read: Callable[[int], TaskResult | None], order: DocumentOrder, told: SourceCounts
) -> Iterator[Documents]:
    """The documents of a source's tasks in order, those of each task shuffled, over again up to ``most_epochs`` times.

    ``read`` gives the result of a task by its number, None behind the last.
    """
    drops: list[NDArray[np.int64]] = []
    bases: list[int] = []
    tokens = 0
    while (result := read(len(drops))) is not None:
        bases.append(told.texts)
        told.texts += result.hash_S.size
        told.rows += result.rows
        repeated = np.zeros(0, bool) if order.seen is None else order.seen.repeated(result.hash_S)
        drops.append(np.flatnonzero(repeated))
        told.duplicates += drops[-1].size
        for block in _shuffled(result, drops[-1], bases[-1], _seed(order.seed, 0, len(drops)), order.block):
            tokens += block.codes_N.size
            yield block
    for epoch in range(1, 1 + int(np.ceil(order.most_epochs - 1))) if tokens else ():
        left = tokens * (order.most_epochs - epoch)
        for number in permute(np.arange(len(drops)), len(drops), _seed(order.seed, epoch, 0)).tolist():
            again = read(number)
            assert again is not None
            for block in _shuffled(
                again, drops[number], bases[number], _seed(order.seed, epoch, number + 1), order.block
            ):
                if left <= _ROUNDING * tokens:
                    return
                block = block.until(left)
                left -= block.codes_N.size
                told.repeated += block.codes_N.size / tokens
                yield block


def _seed(seed: int, epoch: int, place: int) -> int:
    """A seed for the order of one thing in one epoch."""
    return (seed * 1_000_003 + epoch) * 1_000_003 + place


def _shuffled(result: TaskResult, dropped: NDArray[np.int64], base: int, seed: int, most: int) -> Iterator[Documents]:
    """The documents of a task in random order, about ``most`` ids at a time."""
    ends_D = result.ends_D.astype(np.int64)
    starts_D = np.concatenate([[0], ends_D[:-1]]) if ends_D.size else ends_D
    kept = np.ones(ends_D.size, bool) if not dropped.size else ~np.isin(result.text_D, dropped.astype(np.uint64))
    chosen = np.flatnonzero(kept)
    if not chosen.size:
        return
    chosen = chosen[permute(np.arange(chosen.size), chosen.size, seed)]
    lengths = ends_D[chosen] - starts_D[chosen]
    upto = np.cumsum(lengths)
    begin = 0
    while begin < chosen.size:
        done = upto[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(upto, done + most, side="right")))
        part = chosen[begin:end]
        number_D = (result.text_D[part] + np.uint64(base)).astype(np.uint64)
        yield Documents(_gathered(result, starts_D[part], lengths[begin:end]), lengths[begin:end], number_D)
        begin = end


def _gathered(result: TaskResult, starts_D: NDArray[np.int64], lengths_D: NDArray[np.int64]) -> NDArray[Any]:
    """The ids of documents, from where each starts."""
    ids_N = _slices(result.ids_N, starts_D, lengths_D)
    if result.bytes_N is None:
        return ids_N
    bytes_N = _slices(result.bytes_N, starts_D, lengths_D)
    return ids_N.astype(np.int64) | bytes_N.astype(np.int64) << BYTES_SHIFT


def _slices(array_N: NDArray[Any], starts_D: NDArray[np.int64], lengths_D: NDArray[np.int64]) -> NDArray[Any]:
    """Slices of an array one after another: copied each by itself where they are long, else all at one time."""
    upto = np.cumsum(lengths_D)
    if upto[-1] < _LONG * upto.size:
        return array_N[np.repeat(starts_D - (upto - lengths_D), lengths_D) + np.arange(upto[-1])]
    stops = (starts_D + lengths_D).tolist()
    return np.concatenate([array_N[start:stop] for start, stop in zip(starts_D.tolist(), stops, strict=True)])


Rows = tuple[NDArray[Any], NDArray[np.uint64]]
"""Sequences (R, T), and for each the number of the text in which it begins (R,)."""


def concatenated(documents: Iterator[Documents], length: int) -> Iterator[Rows]:
    """Sequences cut from all documents one after another; what is left at the end is too short for one."""
    left = np.empty(0)  # ids that no sequence has yet
    first = np.uint64()  # the number of the text that they begin in
    for block in documents:
        codes = np.concatenate([left, block.codes_N]) if left.size else block.codes_N
        starts = np.arange(0, codes.size + 1, length)  # of the sequences, and of what is left
        number_R = block.number_at(starts[starts < codes.size] - left.size)
        if left.size:
            number_R[0] = first
        if starts[-1]:
            yield codes[: starts[-1]].reshape(-1, length), number_R[: starts.size - 1]
        if starts[-1] < codes.size:
            first = number_R[-1]
        left = codes[starts[-1] :].copy()


def best_fit(documents: Iterator[Documents], length: int, fill: int, seed: int, told: SourceCounts) -> Iterator[Rows]:
    """Sequences that hold documents whole where those fit; what stays free is filled with ``fill``.

    The documents of ``_WINDOW`` sequences at a time are taken by length, the longest first, and each is put where it
    leaves the least free (best-fit decreasing, as in Ding et al. 2024, arXiv 2404.10830). One longer than a sequence
    is cut into whole sequences and a rest, which opens one: elsewhere it would belong to the document before it.
    """
    for number, window in enumerate(_windows(documents, min(_WINDOW * length, max(_WINDOW_TOKENS, 8 * length)))):
        lengths, numbers, opens = _cut_long(window, length, told)
        starts = np.cumsum(lengths) - lengths
        bins = _fitted(lengths, opens, length)
        rows = np.full((len(bins), length), fill, window.codes_N.dtype)
        first = np.empty(len(bins), np.uint64)
        for place, row in enumerate(permute(np.arange(len(bins)), len(bins), _seed(seed, 1, number)).tolist()):
            end = 0
            for piece in bins[place]:
                size = int(lengths[piece])
                rows[row, end : end + size] = window.codes_N[starts[piece] : starts[piece] + size]
                end += size
            first[row] = numbers[bins[place][0]]
            told.padded_tokens += length - end
        yield rows, first


def _windows(documents: Iterator[Documents], tokens: int) -> Iterator[Documents]:
    """The same documents, as many at a time as hold ``tokens``, however they come."""
    held: list[Documents] = []
    size = 0
    for block in documents:
        while size + block.codes_N.size >= tokens:
            part = block.until(tokens - size)
            end, last = part.codes_N.size, part.lengths_D.size
            yield _joined([*held, part])
            block = Documents(block.codes_N[end:], block.lengths_D[last:], block.number_D[last:])
            held, size = [], 0
        if block.lengths_D.size:
            held.append(block)
            size += block.codes_N.size
    if held:
        yield _joined(held)


def _joined(held: list[Documents]) -> Documents:
    codes, lengths, numbers = zip(*((one.codes_N, one.lengths_D, one.number_D) for one in held), strict=True)
    return Documents(np.concatenate(codes), np.concatenate(lengths), np.concatenate(numbers))


def _cut_long(
    window: Documents, length: int, told: SourceCounts
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Lengths and numbers with every document longer than a sequence in pieces, and which do not begin one."""
    pieces = -(-window.lengths_D // length)
    told.tokens += int(window.lengths_D.sum())
    told.cut_tokens += int(window.lengths_D[pieces > 1].sum())
    lengths = np.full(int(pieces.sum()), length, np.int64)
    lengths[np.cumsum(pieces) - 1] = window.lengths_D - (pieces - 1) * length
    opens = np.ones(lengths.size, bool)
    opens[np.cumsum(pieces) - pieces] = False
    return lengths, np.repeat(window.number_D, pieces), opens


def _fitted(lengths: NDArray[np.int64], opens: NDArray[np.bool_], length: int) -> list[list[int]]:
    """Which pieces go together, none longer than ``length`` in all; those that ``opens`` tells come first in one."""
    bins: list[list[int]] = []
    by_space: dict[int, list[int]] = {}
    spaces: list[int] = []  # those that some group has, sorted
    for piece in np.lexsort((-lengths, ~opens)).tolist():
        size = int(lengths[piece])
        place = bisect.bisect_left(spaces, size)
        if opens[piece] or place == len(spaces):
            group, space = len(bins), length
            bins.append([])
        else:
            space = spaces[place]
            group = by_space[space].pop()
            if not by_space[space]:
                del by_space[space], spaces[place]
        bins[group].append(piece)
        left = space - size
        if left:
            if left not in by_space:
                bisect.insort(spaces, left)
            by_space.setdefault(left, []).append(group)
    return bins


class Taken:
    """Takes sequences from a stream of them, as many as are asked for at a time."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self._rows, self._held = rows, []
        self.count = 0
        """Sequences taken."""

    def take(self, number: int) -> Rows | None:
        """The next sequences; None where there are not so many."""
        held: list[Rows] = self._held
        have = sum(one[1].size for one in held)
        while have < number:
            more = next(self._rows, None)
            if more is None:
                self.count += have
                return None
            held.append(more)
            have += more[1].size
        rows, first = (np.concatenate(parts) for parts in zip(*held, strict=True))
        self._held = [(rows[number:], first[number:])] if have > number else []
        self.count += number
        return rows[:number], first[:number]


def turns(shares: list[float], wanted: int) -> Iterator[int]:
    """The source of each of ``wanted`` sequences, in the order that keeps every first part true to the shares."""
    if len(shares) == 1:
        yield from itertools.repeat(0, wanted)
        return
    taken = [0] * len(shares)
    for number in range(1, wanted + 1):
        code = max(range(len(shares)), key=lambda index: shares[index] * number - taken[index])
        taken[code] += 1
        yield code
