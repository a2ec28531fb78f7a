"""A file of token ids, memory-mapped, and its documents, a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.corpora.exchange.id_documents import LONGEST, TOKENS_AT_ONCE, IdDocuments, split_documents
from stillroom.files import reading
from stillroom.types import UserError


@dataclass(frozen=True)
class TokenFile:
    """Ids of a file, and the places of its documents where an index tells them."""

    path: Path
    ids: NDArray[Any]
    num_documents: int = 0
    bounds: Callable[[int, int], NDArray[np.int64]] | None = None
    """Of documents ``start`` to ``stop``: where each begins and, one more, where the last ends; checked. None where
    marks alone tell documents apart."""

    def indexed(self, start: int, stop: int, marks: tuple[int, ...]) -> Iterator[IdDocuments]:
        """The documents with these numbers, about a million tokens at once."""
        assert self.bounds is not None
        for first in range(start, stop, TOKENS_AT_ONCE):
            places = self.bounds(first, min(first + TOKENS_AT_ONCE, stop))
            while len(places) > 1:
                many = int(np.searchsorted(places, places[0] + TOKENS_AT_ONCE, "right"))
                here = places[: max(2, many)]
                yield from self._cut(int(here[0]), here, marks)
                places = places[len(here) - 1 :]

    def _cut(self, begin: int, places: NDArray[np.int64], marks: tuple[int, ...]) -> Iterator[IdDocuments]:
        """The documents of ``places``; a single one that is too long in pieces."""
        end = int(places[-1])
        for start in range(begin, end, LONGEST):
            stop = min(end, start + LONGEST)
            yield split_documents(self.ids[start:stop], np.union1d(places - start, [stop - start]), marks)

    def marked(self, start: int, stop: int, marks: tuple[int, ...]) -> Iterator[IdDocuments]:
        """The documents that begin in a range of tokens, told apart by marks; without marks the range as it is."""
        place, end = (self._begin(at, marks) if marks else at for at in (start, stop))
        while place < end:
            block = self.ids[place : min(end, place + TOKENS_AT_ONCE)]
            if marks and place + len(block) < end:
                found = np.flatnonzero(np.isin(block, marks))
                last = int(found[-1]) + 1 if len(found) else self._begin(place + len(block), marks) - place
                block = self.ids[place : min(end, place + last)]
            yield split_documents(block, np.array([len(block)]), marks)
            place += len(block)

    def _begin(self, place: int, marks: tuple[int, ...]) -> int:
        """Where the first document begins at or after a place: behind the next mark, or where a document is cut."""
        if place <= 0:
            return 0
        last = min(len(self.ids), place - 1 + LONGEST)
        for start in range(place - 1, last, TOKENS_AT_ONCE):
            found = np.flatnonzero(np.isin(self.ids[start : min(last, start + TOKENS_AT_ONCE)], marks))
            if len(found):
                return start + int(found[0]) + 1
        return last


def mapped(path: Path, kind: np.dtype[Any], offset: int = 0) -> NDArray[Any]:
    """The numbers of a file, memory-mapped; a ``UserError`` where its size does not fit them."""
    with reading(path, "a file of token ids"):
        size = path.stat().st_size - offset
        if size <= 0:
            raise UserError(f"{path}: is empty, expected token ids; write it again.")
        if size % kind.itemsize:
            raise UserError(
                f"{path}: has {size} bytes, which is no whole number of {kind.name} ids; it is cut off, or of another "
                "dtype: fetch it again, or say its dtype."
            )
        return np.memmap(path, kind, "r", offset)
