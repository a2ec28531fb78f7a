"""Stores behind URLs, caches that vanish, the index at scale, and what inspection says."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from rich.console import Console

from stillroom.config import LabelsConfig
from stillroom.labels import LabelStore, inspect_store, keys_of, price
from stillroom.labels.format import manifest as manifests
from stillroom.labels.format.index import write_index
from stillroom.labels.format.layout import (
    SCHEMA,
    ShardCounts,
    ShardTable,
    key_halves,
    pack_shard,
    read_table,
    record_keys,
)
from stillroom.labels.terminal import inspection_tables
from stillroom.types import UserError
from tiny_labels import IDENTITY


@pytest.fixture
def remote(made):
    """The store in fsspec's memory."""
    system = fsspec.filesystem("memory")
    root = f"/labels-{time.monotonic_ns()}"
    for path in made.rglob("*"):
        if path.is_file():
            system.pipe_file(f"{root}/{path.relative_to(made)}", path.read_bytes())
    yield f"memory:/{root}"
    system.rm(root, recursive=True)


def test_a_url_gives_the_labels_of_the_folder(corpus, made, remote, tmp_path):
    tokens = corpus.batch(range(len(corpus))).tokens_BT
    wanted = LabelStore.open(made).lookup(tokens)
    for url, cache in ((remote, tmp_path / "cache"), (f"file://{made}", None)):
        assert torch.equal(LabelStore.open(url, cache=cache).lookup(tokens).ids, wanted.ids)


def test_another_process_opens_the_store_itself(corpus, made, remote, tmp_path):
    tokens = corpus.batch([3]).tokens_BT
    for store in (LabelStore.open(made), LabelStore.open(remote, cache=tmp_path)):
        sent = pickle.dumps(store)
        assert len(sent) < 1000 and torch.equal(pickle.loads(sent).lookup(tokens).ids, store.lookup(tokens).ids)


class Counted:
    """Counts the bytes that a filesystem is asked for, and may do without ranges."""

    def __init__(self, monkeypatch, has_ranges: bool = True):
        self.read: list[tuple[str, int]] = []
        kind = type(fsspec.filesystem("memory"))
        real = kind.cat_file

        def cat_file(system, path, start=None, end=None, **options):
            data = real(system, path, start, end, **options) if has_ranges else real(system, path)
            self.read.append((path.rpartition("/")[2], len(data)))
            return data

        monkeypatch.setattr(kind, "cat_file", cat_file)

    def shard_bytes(self) -> int:
        return sum(size for name, size in self.read if name.startswith("0"))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("stillroom.labels.remote.BLOCK_BYTES", 512)


def test_a_record_is_read_by_range_and_then_from_the_cache(corpus, made, remote, tmp_path, monkeypatch, small_blocks):
    counted = Counted(monkeypatch)
    store = LabelStore.open(remote, cache=tmp_path)
    tokens = corpus.batch([9]).tokens_BT
    wanted = LabelStore.open(made).lookup(tokens)
    assert torch.equal(store.lookup(tokens).ids, wanted.ids)
    fetched = counted.shard_bytes()
    size = (made / "shards/00000001.bin").stat().st_size
    assert 0 < fetched <= 3 * 512 < size
    assert torch.equal(store.lookup(tokens).ids, wanted.ids)
    assert torch.equal(LabelStore.open(remote, cache=tmp_path).lookup(tokens).ids, wanted.ids)
    assert counted.shard_bytes() == fetched


def test_many_records_are_fetched_in_one_request(corpus, made, remote, tmp_path, monkeypatch, small_blocks):
    system = fsspec.filesystem("memory")
    real, asked = type(system).cat_ranges, []

    def cat_ranges(self, paths, *spans, **options):
        asked.append(len(paths))
        return real(self, paths, *spans, **options)

    monkeypatch.setattr(type(system), "cat_ranges", cat_ranges)
    tokens = corpus.batch([1, 20, 10]).tokens_BT
    found = LabelStore.open(remote, cache=tmp_path).lookup(tokens)
    assert torch.equal(found.weights, LabelStore.open(made).lookup(tokens).weights)
    assert len(asked) == 1 and asked[0] >= 3


def test_a_filesystem_without_ranges_gives_whole_shards(corpus, made, remote, tmp_path, monkeypatch, small_blocks):
    counted = Counted(monkeypatch, has_ranges=False)
    store = LabelStore.open(remote, cache=tmp_path)
    tokens = corpus.batch(range(len(corpus))).tokens_BT
    assert torch.equal(store.lookup(tokens).ids, LabelStore.open(made).lookup(tokens).ids)
    fetched = counted.shard_bytes()
    store.lookup(tokens)
    assert counted.shard_bytes() == fetched and len(list(tmp_path.rglob("0000000?.bin"))) == 3


def test_reading_in_order_reads_ahead(corpus, made, remote, tmp_path, small_blocks):
    store = LabelStore.open(remote, cache=tmp_path)
    for number in range(6):  # one after another, as they lie in the shard
        store.lookup(corpus.batch([number]).tokens_BT)
    blocks = int(store.index.columns["offset"][store.index.find(record_keys(corpus.batch([5]).tokens_BT.numpy()))[0]])
    deadline = time.monotonic() + 10
    wanted = blocks // 512 + 2  # the block after the one that was read last
    while not (here := list(tmp_path.rglob(f"00000000.bin/{wanted:06d}"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert here


def test_every_record_of_a_remote_store_is_whole_whatever_the_blocks(corpus, made, remote, tmp_path, monkeypatch):
    tokens = corpus.batch(range(len(corpus))).tokens_BT
    wanted = LabelStore.open(made).lookup(tokens)
    for size in (97, 1 << 20):
        monkeypatch.setattr("stillroom.labels.remote.BLOCK_BYTES", size)
        store = LabelStore.open(remote, cache=tmp_path / str(size))
        assert torch.equal(store.lookup(tokens).weights, wanted.weights)
        assert list(store.verify())[-1] == store.manifest.num_shards


def test_a_cache_that_vanishes_is_filled_again(corpus, remote, tmp_path):
    cache = tmp_path / "cache"
    store = LabelStore.open(remote, cache=cache)
    first = store.lookup(corpus.batch([0]).tokens_BT)
    while cache.exists():  # reading ahead may be writing meanwhile
        shutil.rmtree(cache, ignore_errors=True)
    tokens = corpus.batch(range(len(corpus))).tokens_BT
    assert torch.equal(store.lookup(tokens).entropy[:1], first.entropy)


def test_a_remote_store_that_was_made_anew_is_not_read_from_the_old_cache(corpus, made, remote, tmp_path):
    LabelStore.open(remote, cache=tmp_path).lookup(corpus.batch([0]).tokens_BT)
    system = fsspec.filesystem("memory")
    root = remote.removeprefix("memory:/")
    system.pipe_file(f"{root}/manifest.json", (made / "manifest.json").read_bytes().replace(b"  ", b" "))
    LabelStore.open(remote, cache=tmp_path).lookup(corpus.batch([0]).tokens_BT)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_without_a_store_is_named(tmp_path):
    for url in (tmp_path, "memory://nothing-here"):
        with pytest.raises(UserError, match=r"no finished label store.*run the label command"):
            LabelStore.open(url, cache=tmp_path)


def test_another_length_is_refused(corpus, made):
    with pytest.raises(UserError, match="sequences of 32 tokens"):
        LabelStore.open(made).lookup(corpus.batch([0]).tokens_BT[:, :-1])


def test_what_is_inside_is_known_without_reading_it(corpus, made):
    store = LabelStore.open(made)
    assert len(store) == len(corpus)
    assert corpus.batch([3]).tokens_BT[0] in store
    assert torch.zeros(corpus.sequence_length, dtype=torch.long) not in store
    assert len(set(keys_of(corpus.batch(range(5)).tokens_BT))) == 5


def many_shards(folder: Path, count: int, template: Path) -> None:
    """A store of ``count`` shards with one record each, whose shards are files that are never opened."""
    keys = record_keys(np.arange(4 * count).reshape(count, 4))
    tables = (
        (number, ShardTable(keys[number : number + 1], np.array([80]), np.array([9]), ShardCounts()))
        for number in range(count)
    )
    folder.mkdir()
    assert write_index(folder / "index.bin", lambda: tables, count) == count
    shutil.copy(template / "codebook.bin", folder / "codebook.bin")
    labels = LabelsConfig(shard_sequences=1).canonical()
    manifest = manifests.Manifest(
        schema=SCHEMA, identity=IDENTITY, labels=labels, num_sequences=count, sequence_length=4, isolate_documents=True,
        precision="fp32", forward_sequences=1, num_records=count, num_tokens=4 * count, num_entries=0, num_bytes=0,
        teacher_entropy_nats=0.0, teacher_ce_nats=0.0,
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifests.to_text(manifest))
    (folder / "shards").mkdir()


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_opening_touches_no_shard_and_finds_every_key(made, tmp_path, count):
    many_shards(tmp_path / "labels", count, made)
    if count == 100_000:
        for number in range(count):
            (tmp_path / f"labels/shards/{number:08d}.bin").touch()
    began = time.monotonic()
    store = LabelStore.open(tmp_path / "labels")
    assert time.monotonic() - began < 1.0
    wanted = record_keys(np.arange(4 * count).reshape(count, 4))
    rows = store.index.find(wanted)
    assert np.array_equal(store.index.columns["shard"][rows], np.arange(count))


def test_an_index_sorted_in_buckets_is_the_index_sorted_at_once(tmp_path, monkeypatch):
    keys = record_keys(np.random.default_rng(0).integers(0, 300, (500, 2)))

    def tables():
        for shard in range(5):
            here = keys[100 * shard : 100 * shard + 100]
            yield shard, ShardTable(here, np.arange(100), np.full(100, 1), ShardCounts())

    at_once = write_index(tmp_path / "a", tables, 500)
    monkeypatch.setattr("stillroom.labels.format.index.BUCKET_RECORDS", 64)
    assert write_index(tmp_path / "b", tables, 500) == at_once == len(np.unique(keys))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_shard_lists_its_records():
    keys = record_keys(np.arange(8).reshape(2, 4))
    data = pack_shard(keys, [b"abc", b"defgh"], 4, b"12345678", ShardCounts(7, 5, 1.5, 2.5))
    table = read_table(data, "shard", b"12345678")
    assert table.counts == ShardCounts(7, 5, 1.5, 2.5)
    assert np.array_equal(key_halves(table.keys), key_halves(keys))
    assert [data[start : start + length - 8] for start, length in zip(table.offsets, table.lengths, strict=True)] == [
        b"abc",
        b"defgh",
    ]
    with pytest.raises(UserError, match="another codebook"):
        read_table(data, "shard", b"87654321")


def test_inspection_counts_every_byte_and_shows_text(made):
    store = LabelStore.open(made)
    inspection = inspect_store(store, decode=lambda ids: "".join(chr(97 + one % 26) for one in ids), positions=3)
    assert sum(inspection.bytes_by_column.values()) == pytest.approx(inspection.bytes_per_token, rel=0.02)
    assert inspection.listed_mass == pytest.approx(1.0) and inspection.tail_mass == 0.0
    assert len(inspection.shown) == 3 and all(shown.alternatives for shown in inspection.shown)
    assert sum(inspection.entropy_counts) > 0
    json.dumps(inspection.as_dict())
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(inspection_tables(inspection))
    text = console.export_text()
    console.file.close()
    assert "bytes per token" in text and "fidelity: gradient_error" in text and "nats" in text


def test_fidelity_is_measured_on_the_store_itself(made):
    fidelity = LabelStore.open(made).manifest.fidelity
    assert 0 < float(fidelity["squared_error_over_independent"]) <= 0.6
    assert 0 < float(fidelity["gradient_error"]) < 0.1


def test_a_price_before_any_teacher_runs():
    config = LabelsConfig()
    quoted = price(10_000_000, 2.7e8, config, 49_152)
    assert quoted.teacher_flops == 2.7e15 and quoted.hours is None and 10 < quoted.bytes_per_token < 40
    measured = price(3_600_000, 2.7e8, config, 49_152, tokens_per_second=1000, bytes_per_token=21.0)
    assert measured.hours == pytest.approx(1.0) and measured.num_bytes == pytest.approx(7.56e7)
    assert any("hours" in sentence for sentence in measured.sentences())
