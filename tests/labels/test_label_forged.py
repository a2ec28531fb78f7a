"""A store whose checksums hold but whose bytes nobody's labels gave: refused in a sentence, with little memory."""

from __future__ import annotations

import dataclasses
import random
import struct

import numpy as np
import pytest
import zstandard

from stillroom.labels import Damaged, LabelStore
from stillroom.labels.codecs import codebook
from stillroom.labels.codecs.position_kinds import Rankings
from stillroom.labels.codecs.sampled import SampledEntries
from stillroom.labels.codecs.symbols import PairCoder, SymbolCoder
from stillroom.labels.format.layout import Index, checksum, index_header
from stillroom.labels.format.record import Columns, pack_record
from tiny_labels import TinySequences, make


@pytest.fixture(scope="module", params=[{"codec": "sampled", "num_samples": 8}, {"codec": "top-k"}])
def store(teacher, tmp_path_factory, request):
    """Four short sequences."""
    folder = tmp_path_factory.mktemp("forged") / "labels"
    make(teacher, TinySequences(count=4, sequence_length=8), folder, **request.param)
    return LabelStore.open(folder)


@pytest.mark.parametrize("size", [5, 200, 2**45])
def test_a_frame_of_another_size_than_expected_is_refused_before_it_is_opened(size):
    frame = bytes([0b1110_0000]) + struct.pack("<Q", size) + b"\x01\x00\x00"
    with pytest.raises(Damaged, match="another length"):
        SymbolCoder().decode([frame], [100])


def test_a_frame_that_says_its_right_size_is_read():
    column = np.arange(100, dtype=np.uint8)
    parameters = zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=True)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(column.tobytes())
    assert np.array_equal(SymbolCoder().decode([frame], [100]), column)


def test_a_dictionary_that_is_none_is_refused():
    coder = SymbolCoder(dictionary=struct.pack("<II", 0xEC30A437, 1) + bytes(20))
    with pytest.raises(Damaged, match="cannot be decoded"):
        coder.decode([b"\x00\x00\x01\x00\x00"], [1])


def test_mutated_codebooks_are_refused_or_read_without_another_error(store):
    """Of 3,000 changed bodies under a frame of their own: what is read as a codec decodes, or says what is damaged."""
    body = zstandard.decompress(codebook.to_bytes(store.codec))
    payloads = store.payloads(range(2))
    chance, refused = random.Random(0), 0
    for _ in range(3000):
        changed = bytearray(body)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(min(len(body), chance.choice((64, len(body)))))] = chance.randrange(256)
        del changed[chance.choice((len(changed), chance.randrange(len(changed)))) :]
        try:
            codebook.from_bytes(zstandard.compress(bytes(changed)), type(store.codec.entries)).decode_with_tokens(
                payloads
            )
        except Damaged:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize("data", [b"", b"nothing", zstandard.compress(b""), zstandard.compress(b"\x05\x01")])
def test_bytes_that_are_no_codebook_are_refused(data):
    with pytest.raises(Damaged, match="codebook"):
        codebook.from_bytes(data, SampledEntries)


def test_a_codebook_is_not_unpacked_beyond_its_limit(monkeypatch):
    bomb = zstandard.compress(bytes(codebook.MAX_BYTES + 1))
    monkeypatch.setattr(zstandard, "decompress", lambda data: pytest.fail("was unpacked"))
    with pytest.raises(Damaged, match="more than"):
        codebook.from_bytes(bomb, SampledEntries)


def test_tables_of_other_sizes_are_refused(store):
    codec = store.codec
    changes = [{"length": 2**31}, {"gold_guess": codec.gold_guess[:-1]}, {"coders": {}}]
    far = tuple(tuple(np.append(of, np.uint8(40)) for of in kind) for kind in codec.missed.bits)
    changes.append({"missed": dataclasses.replace(codec.missed, bits=far)})
    for change in changes:
        with pytest.raises(Damaged, match="codebook holds tables"):
            codebook.from_bytes(codebook.to_bytes(dataclasses.replace(codec, **change)), type(codec.entries))


def test_rankings_and_pairs_of_too_many_numbers_are_refused():
    with pytest.raises(Damaged, match="rankings"):
        Rankings.from_bytes(struct.pack("<BIII", 255, 1 << 20, 0, 0) + bytes((1 << 20) + 510))
    with pytest.raises(Damaged, match="pairs"):
        PairCoder.from_bytes(struct.pack("<H", 300) + bytes(2400))


def test_a_set_of_more_ids_than_the_vocabulary_is_refused(store):
    codec = store.codec
    if "sizes_high" not in codec.coders:
        pytest.skip("sampled labels have no such sizes")
    names = codec.names
    symbols = {name: np.full(8, 255, np.uint8) if name.startswith("sizes") else np.zeros(8, np.uint8) for name in names}
    plain = {name: b"" for name in names if name not in codec.coders}
    record = pack_record(Columns(symbols, plain), codec.coders, names)
    with pytest.raises(Damaged, match="more ids than the vocabulary"):
        codec.decode([memoryview(record)])


def test_nothing_is_found_in_an_empty_index(tmp_path):
    path = tmp_path / "index.bin"
    path.write_bytes(index_header(0) + checksum(index_header(0)))
    index = Index(path)
    index.verify()
    assert index.find(np.zeros(3, "V16")).tolist() == [-1, -1, -1]
