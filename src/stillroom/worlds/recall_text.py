"""Which character follows which in the source of the installed Python library: the background of the recall world.

Letters: V characters. Imports files, types and where the library is; needs no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stillroom.files import read_bytes
from stillroom.types import UserError
from stillroom.worlds.library import library_files

_FEWEST, _MOST = 4, 90


@dataclass(frozen=True)
class CharacterBigrams:
    """V characters, most frequent first, how often each occurs and what follows it."""

    characters: tuple[str, ...]
    unigram_V: NDArray[np.float64]
    """Probability of each character, never increasing."""
    rows_VV: NDArray[np.float64]
    """``rows_VV[a, b]`` is the probability that ``b`` follows ``a``; every row sums to 1."""


@lru_cache(maxsize=1)
def _pair_counts() -> NDArray[np.int64]:
    """How often each pair of bytes occurs in the library's source, (128, 128); other bytes are left out."""
    counts = np.zeros(128 * 128, dtype=np.int64)
    for file in library_files()[1]:
        codes = np.frombuffer(read_bytes(file, "Python source"), dtype=np.uint8).astype(np.int64)
        first, second = codes[:-1], codes[1:]
        both = (first < 128) & (second < 128)
        counts += np.bincount((first * 128 + second)[both], minlength=128 * 128)
    return counts.reshape(128, 128)


@lru_cache(maxsize=8)
def library_bigrams(num_characters: int = 65) -> CharacterBigrams:
    """Bigrams of the ``num_characters`` most frequent characters of the library's source.

    Pairs with another character are left out, so the rows are those of the text with such places cut.

    Raises:
        UserError: ``num_characters`` is outside 4 to 90, or the library's source is not installed.
    """
    if not _FEWEST <= num_characters <= _MOST:
        raise UserError(
            f"characters is {num_characters}, expected {_FEWEST} to {_MOST}: so many characters occur often enough."
        )
    counts = _pair_counts()
    if counts.sum() < 10_000:
        raise UserError("the Python library's source is not installed here; install it with Python, or pass bigrams.")
    chosen = np.argsort(-counts.sum(1), kind="stable")[:num_characters]
    pairs = counts[np.ix_(chosen, chosen)].astype(np.float64)
    singles = counts.sum(1)[chosen].astype(np.float64)
    return CharacterBigrams(
        tuple(chr(code) for code in chosen), singles / singles.sum(), pairs / pairs.sum(1, keepdims=True)
    )
