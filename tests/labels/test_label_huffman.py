"""Codes that are written by hand are zstd's: any decoder reads them, and what they lack goes another way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import zstandard

from stillroom.labels.codecs import huffman
from stillroom.labels.codecs.symbols import ESCAPE, PairCoder, SymbolCoder
from stillroom.labels.format.layout import Damaged


def geometric(rate: float, count: int, seed: int = 0) -> np.ndarray:
    return np.minimum(np.random.default_rng(seed).geometric(rate, count) - 1, huffman.LAST_SYMBOL).astype(np.uint8)


def counts_of(symbols: np.ndarray) -> np.ndarray:
    return np.bincount(symbols, minlength=256)


@pytest.mark.parametrize(
    ("rate", "count"), list(itertools.product((0.03, 0.3, 0.7), (6, 90, 1023, 1024, 9000, 131_071)))
)
def test_frames_are_read_by_zstd_alone(rate: float, count: int) -> None:
    symbols = geometric(rate, count)
    dictionary = huffman.dictionary(counts_of(geometric(rate, 200_000, seed=1)) + (np.arange(256) < 129))
    code = huffman.code_of(dictionary)
    assert code is not None
    frame = code.frame(symbols)
    assert frame is not None
    reader = zstandard.ZstdDecompressor(
        dict_data=zstandard.ZstdCompressionDict(dictionary), format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    assert reader.decompress(frame, max_output_size=count) == symbols.tobytes()


def test_lengths_are_the_best_of_all_codes() -> None:
    counts = np.zeros(256, np.int64)
    counts[[3, 5, 8, 13]] = (1, 2, 4, 9)
    bits = huffman.lengths(counts)
    assert bits[[3, 5, 8, 13]].tolist() == [3, 3, 2, 1]
    steep = np.zeros(256, np.int64)
    steep[:40] = 2 ** np.arange(40)
    limited = huffman.lengths(steep)[:40]
    assert limited.max() == huffman.MAX_BITS
    assert (0.5**limited).sum() == pytest.approx(1.0)


def test_a_code_comes_back_from_its_dictionary() -> None:
    counts = counts_of(geometric(0.1, 50_000))
    code = huffman.code_of(huffman.dictionary(counts))
    assert code is not None
    counts[: int(np.flatnonzero(counts)[-1])] += counts[: int(np.flatnonzero(counts)[-1])] == 0
    assert code.bits.tolist() == huffman.lengths(counts).tolist()


def test_a_column_is_close_to_its_entropy_and_brings_no_table() -> None:
    sample = [geometric(0.2, 2000, seed) for seed in range(30)]
    coder = SymbolCoder.train(sample)
    column = geometric(0.2, 2000, seed=99)
    share = counts_of(column)[counts_of(column) > 0] / 2000
    entropy_bytes = -2000 * float((share * np.log2(share)).sum()) / 8
    assert len(coder.encode(column)) < 1.03 * entropy_bytes + 20
    assert len(coder.encode(column)) < len(SymbolCoder().encode(column)) - 10


def test_symbols_that_the_code_lacks_go_another_way() -> None:
    coder = SymbolCoder.train([geometric(0.5, 900, seed) for seed in range(20)])
    strange = geometric(0.5, 900)
    strange[::7] = 255
    assert (coder.decode([coder.encode(strange)], [900]) == strange).all()


def test_a_column_of_the_usual_symbol_takes_no_bytes() -> None:
    coder = SymbolCoder.train([np.full(500, 49, np.uint8) for _ in range(10)])
    assert coder.encode(np.full(500, 49, np.uint8)) == b""
    assert coder.decode([b"", coder.encode(np.full(3, 7, np.uint8))], [4, 3]).tolist() == [49] * 4 + [7] * 3


def test_a_frame_of_another_length_is_damage() -> None:
    coder = SymbolCoder.train([geometric(0.3, 700, seed) for seed in range(20)])
    frame = coder.encode(geometric(0.3, 700))
    with pytest.raises(Damaged, match="length"):
        coder.decode([frame], [701])


def test_pairs_that_are_rare_are_written_out() -> None:
    first, second = np.arange(400) % 200, np.arange(400) % 7
    coder = PairCoder.train(first, second)
    symbols, rest = coder.encode(first, second)
    assert (symbols == ESCAPE).any()
    back = coder.decode(symbols, rest)
    assert (back[0] == first).all()
    assert (back[1] == second).all()
