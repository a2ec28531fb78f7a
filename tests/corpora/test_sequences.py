"""Documents to sequences: what is packed, left out, used again and filled, against the definition in plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stillroom.corpora import sequences as module
from stillroom.corpora.corpus import make_batch
from stillroom.corpora.ledger import TaskResult
from stillroom.corpora.sequences import (
    DocumentOrder,
    Documents,
    SeenTexts,
    SourceCounts,
    Taken,
    best_fit,
    concatenated,
    ordered_documents,
    turns,
)
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.types import IGNORE_INDEX

BOS, EOS = 0, 1
TEXTS = st.lists(st.lists(st.integers(3, 50), max_size=40), min_size=1, max_size=40)


def blocks_of(texts, sizes, both=EOS) -> list[Documents]:
    """Documents with their marks, in blocks of the sizes that repeat."""
    marked = [[BOS, *text, *([both] if both != BOS else [])] for text in texts]
    blocks, place = [], 0
    for size in [*sizes, *([len(texts)] * 2)]:
        part = marked[place : place + size]
        if part:
            lengths, numbers = [len(one) for one in part], range(place, place + len(part))
            flat = np.asarray([i for one in part for i in one], np.uint16)
            blocks.append(Documents(flat, np.asarray(lengths, np.int64), np.asarray(numbers, np.uint64)))
        place += size
    return blocks


def joined(rows) -> tuple[list[list[int]], list[int]]:
    found = list(rows)
    return [row for one, _ in found for row in one.tolist()], [int(n) for _, first in found for n in first]


@given(TEXTS, st.lists(st.integers(1, 5)), st.integers(2, 17), st.sampled_from([BOS, EOS]))
def test_concatenating_loses_nothing_but_the_unfinished_end(texts, sizes, length, eos):
    packed, numbers = joined(concatenated(iter(blocks_of(texts, sizes, eos)), length))
    ends = [] if eos == BOS else [EOS]
    stream = [token for text in texts for token in (BOS, *text, *ends)]
    owner = [number for number, text in enumerate(texts) for _ in (BOS, *text, *ends)]
    flat = [token for sequence in packed for token in sequence]
    assert numbers == owner[: len(flat) : length]
    assert flat == stream[: len(flat)] and len(stream) - len(flat) < length


@given(TEXTS, st.lists(st.integers(1, 5)), st.integers(4, 17), st.sampled_from([BOS, EOS]))
def test_best_fit_keeps_whole_what_fits_and_loses_nothing(texts, sizes, length, eos):
    told = SourceCounts()
    packed, numbers = joined(best_fit(iter(blocks_of(texts, sizes, eos)), length, BOS, 3, told))
    ends = [] if eos == BOS else [EOS]
    wanted, cut = Counter(), 0
    for text in texts:
        document = (BOS, *text, *ends)
        cut += len(document) * (len(document) > length)
        wanted.update(document[i : i + length] for i in range(0, len(document), length))
    found, filled = Counter(), 0
    for row in packed:
        assert len(row) == length
        pieces, opened = [], []
        for token in row:
            if token == BOS and opened:
                pieces.append(tuple(opened))
                opened = []
            opened.append(token)
        pieces.append(tuple(opened))
        while len(pieces) > 1 and pieces[-1] == (BOS,) and (filled := filled + 1):
            pieces.pop()
        found.update(pieces)
    if all(texts):  # an empty document of one mark looks like what fills a sequence
        assert found == wanted and told.padded_tokens == filled
    assert told.cut_tokens == cut and told.tokens == sum(2 + len(text) - (eos == BOS) for text in texts)
    assert len(numbers) == len(packed) and set(numbers) <= set(range(len(texts)))


def test_a_rest_opens_a_sequence_and_is_no_part_of_what_is_before_it():
    texts = [[5] * 9, [6] * 3, [7] * 3]  # 11, 5 and 5 ids with their marks: 8 + a rest of 3
    packed, _ = joined(best_fit(iter(blocks_of(texts, [])), 8, BOS, 0, SourceCounts()))
    assert sorted(packed) == sorted(
        [[BOS, *[5] * 7], [5, 5, EOS, BOS, 6, 6, 6, EOS], [BOS, 7, 7, 7, EOS, BOS, BOS, BOS]]
    ) or sorted(packed) == sorted([[BOS, *[5] * 7], [5, 5, EOS, BOS, 7, 7, 7, EOS], [BOS, 6, 6, 6, EOS, BOS, BOS, BOS]])


def test_best_fit_does_not_depend_on_how_documents_come(monkeypatch):
    monkeypatch.setattr(module, "_WINDOW", 2)
    texts = [list(range(3, 3 + n % 11)) for n in range(200)]
    once = joined(best_fit(iter(blocks_of(texts, [200])), 16, BOS, 5, SourceCounts()))
    for sizes in ([1] * 200, [7] * 30, [150, 1, 1]):
        assert joined(best_fit(iter(blocks_of(texts, sizes)), 16, BOS, 5, SourceCounts())) == once


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.sampled_from([BOS, EOS]))
def test_nothing_is_learnt_from_what_fills_a_sequence(sizes, eos):
    texts = [[9] * size for size in sizes]
    packed, _ = joined(best_fit(iter(blocks_of(texts, [], eos)), 16, BOS, 0, SourceCounts()))
    targets = make_batch(torch.tensor(packed), BOS, eos).targets_BT
    for row, target in zip(packed, targets.tolist(), strict=True):
        end = max(place for place, token in enumerate(row) if token != BOS)
        assert all(one == IGNORE_INDEX for one in target[end + 1 :])


# Order, duplicates and epochs.


def result_of(texts: list[list[int]]) -> TaskResult:
    """A task whose texts are one document each; equal texts have equal hashes."""
    lengths = np.asarray([len(text) for text in texts])
    arrays = {
        "ids": np.asarray([i for text in texts for i in text], np.uint16),
        "ends": np.cumsum(lengths).astype(np.uint64),
        "texts": np.arange(len(texts), dtype=np.uint64),
        "hashes": np.asarray([hash(tuple(text)) & (2**64 - 1) for text in texts], np.uint64),
    }
    return TaskResult(int(lengths.sum()), RowCount(rows=len(texts)), arrays)


def documents_of(tasks, order, told=None) -> list[tuple[int, tuple[int, ...]]]:
    """Number and ids of every document, in order."""
    results = [result_of(task) for task in tasks]
    found = []
    for block in ordered_documents(lambda n: results[n] if n < len(results) else None, order, told or SourceCounts()):
        parts = np.split(block.codes_N, np.cumsum(block.lengths_D)[:-1])
        found += [(int(n), tuple(part.tolist())) for n, part in zip(block.number_D, parts, strict=True)]
    return found


TASKS = st.lists(
    st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=3), min_size=1, max_size=8), min_size=1, max_size=5
)


@given(TASKS, st.integers(1, 30), st.integers(0, 9))
def test_every_document_comes_once_whatever_the_blocks(tasks, block, seed):
    found = documents_of(tasks, DocumentOrder(seed, block=block))
    assert sorted(found) == list(enumerate(tuple(text) for task in tasks for text in task))
    assert found == documents_of(tasks, DocumentOrder(seed))


@given(tasks=TASKS)
@settings(deadline=None)
def test_the_first_of_equal_texts_stays(tasks, tmp_path_factory):
    told = SourceCounts()
    found = documents_of(tasks, DocumentOrder(1, seen=SeenTexts(tmp_path_factory.mktemp("seen"))), told)
    first = {}
    for number, text in enumerate(tuple(text) for task in tasks for text in task):
        first.setdefault(text, number)
    assert sorted(found) == sorted((number, text) for text, number in first.items())
    assert told.duplicates == sum(map(len, tasks)) - len(first)


def test_texts_that_were_seen_are_known_when_their_lists_lie_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_RUN", 64)
    seen, known = SeenTexts(tmp_path / "seen"), set()
    generator = np.random.default_rng(0)
    for _ in range(60):
        hashes = generator.integers(0, 3000, 40).astype(np.uint64)
        expected = []
        for one in hashes.tolist():
            expected.append(one in known)
            known.add(one)
        assert seen.repeated(hashes).tolist() == expected
    assert len(list((tmp_path / "seen").iterdir())) > 5


@example([[[3]]], 1.0000000000000002, 0, 1)
@given(TASKS, st.floats(1.0, 4.0), st.integers(0, 9), st.sampled_from([1, 5, 10**6]))
def test_text_is_used_again_in_another_order_and_no_more_often_than_it_may_be(tasks, epochs, seed, block):
    told = SourceCounts()
    found = documents_of(tasks, DocumentOrder(seed, epochs, block=block), told)
    total = sum(len(text) for task in tasks for text in task)
    used = sum(len(text) for _, text in found)
    longest = max(len(text) for task in tasks for text in task)
    assert epochs * total - 1e-6 <= used < epochs * total + longest
    counts = Counter(found)
    assert max(counts.values()) - min(counts.values()) <= 1 and max(counts.values()) <= np.ceil(epochs)
    assert abs(told.repeated - (used / total - 1)) < 1e-9


def test_epochs_differ_in_their_order():
    tasks = [[[n, m] for m in range(3, 23)] for n in range(3, 9)]
    found = documents_of(tasks, DocumentOrder(0, 3.0))
    first, second, third = (found[i * 120 : (i + 1) * 120] for i in range(3))
    assert sorted(first) == sorted(second) == sorted(third)
    assert first != second and second != third and first != third


# What is taken, by shares.


@given(st.lists(st.integers(0, 7)), st.lists(st.integers(0, 9)))
def test_what_is_taken_comes_in_order(sizes, asked):
    rows = np.arange(sum(sizes) * 2).reshape(-1, 2)
    ends = np.cumsum(sizes)
    stream = (
        (rows[end - n : end], np.arange(end - n, end).astype(np.uint64)) for n, end in zip(sizes, ends, strict=True)
    )
    taken, place = Taken(stream), 0
    for number in asked:
        got = taken.take(number) if number else None
        if number and place + number > len(rows):
            assert got is None and taken.count == len(rows)
            return
        if number:
            assert got is not None and got[0].tolist() == rows[place : place + number].tolist()
            assert got[1].tolist() == list(range(place, place + number))
        place += number


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8), st.integers(1, 400))
def test_every_first_part_of_the_turns_is_true_to_the_shares(weights, wanted):
    shares = [weight / sum(weights) for weight in weights]
    taken = np.cumsum(np.eye(len(shares))[list(turns(shares, wanted))], axis=0)
    ideal = np.arange(1, wanted + 1)[:, None] * np.asarray(shares)
    assert np.abs(taken - ideal).max() < max(1.0, 0.5 * len(shares))
