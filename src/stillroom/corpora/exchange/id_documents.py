"""Documents as ids: a flat array without marks, and where each document ends in it.

Others write documents one after another, with a mark (the id of a special token) before or after each, or none. A mark
opens or closes a document wherever it stands, so here they are taken out and the places where they stood are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary, encode_documents

TOKENS_AT_ONCE = 1 << 20
LONGEST = 1 << 22
"""Tokens of a document; a longer one is cut, so that memory does not grow with it."""
_TRIED = 32  # documents that are read as text and encoded again
_TRIED_TOKENS = 2000  # of each
_LEAST_ALIKE = 0.9


@dataclass(frozen=True)
class IdDocuments:
    """Some documents: their ids one after another, without marks, and the place after the last id of each."""

    ids: NDArray[np.uint32]
    ends: NDArray[np.int64]

    def __iter__(self) -> Iterator[NDArray[np.uint32]]:
        return (part for part in np.split(self.ids, self.ends[:-1]) if len(part))


def split_documents(ids: NDArray[Any], ends: NDArray[np.int64], marks: tuple[int, ...]) -> IdDocuments:
    """The documents in ``ids``, which end at ``ends`` and at every mark; empty ones are none."""
    is_mark = np.isin(ids, marks)
    kept_upto = np.cumsum(~is_mark, dtype=np.int64)
    bounds = np.union1d(ends, np.flatnonzero(is_mark) + 1)
    bounds = bounds[(bounds > 0) & (bounds <= len(ids))]
    kept: NDArray[np.int64] = np.unique(kept_upto[bounds - 1])
    return IdDocuments(ids[~is_mark].astype(np.uint32), kept[kept > 0])


def check_ids(ids: NDArray[Any], size: int, path: Path | str, first: int = 0) -> None:
    """Refuses ids that a tokenizer of ``size`` ids does not have; ``first`` is the place of the first of them."""
    if not len(ids) or (int(ids.max()) < size and int(ids.min()) >= 0):
        return
    place = int(np.flatnonzero((ids >= size) | (ids < 0))[0])
    raise UserError(
        f"{path}: token {first + place} is {int(ids[place])}, expected an id below {size}, which is all that this "
        "tokenizer has; give the tokenizer that the ids are of, or the right dtype."
    )


def check_tokenizer(batches: Iterator[IdDocuments], tokenizer: Any, vocabulary: Vocabulary, path: Path | str) -> None:
    """Refuses ids of another tokenizer: read as text by this one, the text does not give the same ids again.

    Looks at the first documents only. A few tokens may differ, as where a document was cut inside a word.
    """
    same = total = 0
    tried = (ids[:_TRIED_TOKENS] for batch in batches for ids in batch)
    for ids, _ in zip(tried, range(_TRIED), strict=False):
        again = np.asarray(encode_documents(tokenizer, [text_of_ids(vocabulary, ids)])[0])
        found, counts = np.unique(ids, return_counts=True)
        found_again, counts_again = np.unique(again, return_counts=True)
        _, ours, theirs = np.intersect1d(found, found_again, return_indices=True)
        same += int(np.minimum(counts[ours], counts_again[theirs]).sum())
        total += len(ids)
    if total and same < _LEAST_ALIKE * total:
        raise UserError(
            f"{path}: its first documents, read as text by this tokenizer, give {same / total:.0%} of their ids again, "
            "expected nearly all; give the tokenizer that the ids are of (options.check=false takes them as they are)."
        )


def text_of_ids(vocabulary: Vocabulary, ids: NDArray[Any]) -> str:
    """The text that a document's ids stand for, without the space that some tokenizers put before a text."""
    text = b"".join(vocabulary.pieces[i] for i in ids.tolist()).decode("utf-8", errors="replace")
    return text.removeprefix(" ") if vocabulary.space else text
