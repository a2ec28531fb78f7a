"""Whether evaluation items stand in the training text: n-grams of tokens that both hold.

Letters: I items, n tokens of a gram.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stillroom.results.schema import ContaminationResult, SetContamination
from stillroom.types import OnProgress, Sequences

NGRAM = 13
"""Tokens of an n-gram unless the caller says otherwise; the length that GPT-3's authors took (in words)."""
_SEQUENCES_AT_A_TIME = 4096
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def contamination(
    items: Mapping[str, Sequence[Sequence[int]]],
    training: Sequences,
    *,
    n: int = NGRAM,
    max_sequences: int | None = None,
    progress: OnProgress | None = None,
) -> ContaminationResult:
    """How much of each set of items (token ids each) the training sequences hold.

    An item shorter than n tokens is looked for whole. Per set: ``overlap``, the mean share of an item's n-grams that
    training holds; ``any`` and ``whole``, the shares of items of which one n-gram is there, or every one. The hash of
    an n-gram has 64 bits, so that a false match is not to be expected below some 10^9 tokens. With ``max_sequences``
    only as many training sequences are read, evenly spaced, and ``training_tokens`` says how many tokens they hold.
    """
    grams = {name: [_grams(ids, n) for ids in of_set if len(ids)] for name, of_set in items.items()}
    wanted: dict[int, set[int]] = {}
    for of_set in grams.values():
        for size, hashes in of_set:
            wanted.setdefault(size, set()).update(hashes.tolist())
    total = len(training) if max_sequences is None else min(max_sequences, len(training))
    places = np.linspace(0, len(training) - 1, total).astype(np.int64) if total else np.zeros(0, np.int64)
    found = _found(wanted, training, places, progress)
    return ContaminationResult(
        n=n,
        training_tokens=total * training.sequence_length,
        sets={name: _summary(of_set, found) for name, of_set in grams.items() if of_set},
    )


def _grams(ids: Sequence[int], n: int) -> tuple[int, NDArray[np.uint64]]:
    size = min(n, len(ids))
    return size, _hashes(np.asarray(ids, dtype=np.uint64)[None], size)[0]


def _hashes(tokens_BT: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Hash of the n tokens from each position on, (B, T - n + 1)."""
    width = tokens_BT.shape[1] - n + 1
    hashes = np.zeros((len(tokens_BT), width), dtype=np.uint64)
    for place in range(n):
        hashes = (hashes ^ (tokens_BT[:, place : place + width] + np.uint64(1))) * _MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _found(
    wanted: Mapping[int, set[int]], training: Sequences, places: NDArray[np.int64], progress: OnProgress | None
) -> dict[int, NDArray[np.uint64]]:
    """For every size of gram the wanted hashes that training holds, sorted."""
    sought = {size: np.array(sorted(hashes), dtype=np.uint64) for size, hashes in wanted.items()}
    seen = {size: np.zeros(len(hashes), dtype=bool) for size, hashes in sought.items()}
    for start in range(0, len(places), _SEQUENCES_AT_A_TIME):
        part = places[start : start + _SEQUENCES_AT_A_TIME].tolist()
        tokens_BT = training.batch(part).tokens_BT.numpy().astype(np.uint64)
        for size, hashes in sought.items():
            if size <= tokens_BT.shape[1]:
                there = _hashes(tokens_BT, size).ravel()
                places_N = np.searchsorted(hashes, there)
                places_N[places_N == len(hashes)] = 0
                seen[size][places_N[hashes[places_N] == there]] = True
        if progress:
            progress(start + len(part), len(places))
    return {size: hashes[seen[size]] for size, hashes in sought.items()}


def _summary(
    of_set: Sequence[tuple[int, NDArray[np.uint64]]], found: Mapping[int, NDArray[np.uint64]]
) -> SetContamination:
    share_I = np.array([np.isin(hashes, found[size]).mean() for size, hashes in of_set])
    return SetContamination(
        num=len(share_I),
        overlap=float(share_I.mean()),
        any=float((share_I > 0).mean()),
        whole=float((share_I == 1).mean()),
    )
