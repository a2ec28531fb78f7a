"""A store that a plain web server serves: by range where it knows ranges, by whole files where not."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from stillroom.labels import Damaged, LabelStore
from stillroom.labels.format.layout import record_keys
from stillroom.types import UserError


class Plain(SimpleHTTPRequestHandler):
    """Whole files; counts what it sends."""

    sent: list[tuple[str, int, int]]
    """File, first byte, bytes."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        self.answer(path.name, path.read_bytes())

    def answer(self, name: str, data: bytes) -> None:
        self.give(200, name, 0, data)

    def give(self, status: int, name: str, start: int, data: bytes) -> None:
        type(self).sent.append((name, start, len(data)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Ranged(Plain):
    """Parts of files, as most servers give them."""

    def answer(self, name: str, data: bytes) -> None:
        asked = self.headers.get("Range")
        if asked is None:
            self.give(200, name, 0, data)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if int(first) >= len(data):
            self.send_error(416)
            return
        self.give(206, name, int(first), data[int(first) : int(last) + 1])


@contextmanager
def served(kind: type[Plain], folder: Path) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """The URL of a folder and what was sent of it."""
    handler = type("Handler", (kind,), {"sent": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("stillroom.labels.remote.BLOCK_BYTES", 512)


def shard_bytes(sent: list[tuple[str, int, int]]) -> int:
    return sum(size for name, _, size in sent if name.startswith("0"))


@pytest.mark.parametrize("kind", [Ranged, Plain])
def test_a_served_store_gives_the_labels_of_the_folder(corpus, made, tmp_path, small_blocks, kind):
    tokens = corpus.batch([20, 3, 11, 3]).tokens_BT
    wanted = LabelStore.open(made).lookup(tokens)
    with served(kind, made) as (url, sent):
        store = LabelStore.open(f"{url}/", cache=tmp_path)
        assert not any(name.startswith("0") for name, _, _ in sent)  # opening reads no shard
        found = store.lookup(tokens)
        assert torch.equal(found.ids, wanted.ids) and torch.equal(found.weights, wanted.weights)
        before = shard_bytes(sent)
        again = LabelStore.open(url, cache=tmp_path).lookup(tokens)  # another run, from the cache
        assert torch.equal(again.ids, wanted.ids) and shard_bytes(sent) == before
        assert sum(1 for _ in store.verify()) == 3


def test_one_record_costs_a_few_blocks_and_reading_on_reads_ahead(corpus, made, tmp_path, small_blocks):
    with served(Ranged, made) as (url, sent):
        store = LabelStore.open(url, cache=tmp_path)
        store.lookup(corpus.batch([9]).tokens_BT)
        assert 0 < shard_bytes(sent) <= 3 * 512 < (made / "shards/00000001.bin").stat().st_size
        for number in range(6):  # one after another, as they lie in the shard
            store.lookup(corpus.batch([number]).tokens_BT)
        row = store.index.find(record_keys(corpus.batch([5]).tokens_BT.numpy()))[0]
        last = int(store.index.columns["offset"][row] + store.index.columns["length"][row] - 1) // 512
        ahead = tmp_path / next(tmp_path.iterdir()) / f"blocks/shards/00000000.bin/{last + 1:06d}"
        deadline = time.monotonic() + 10
        while not ahead.is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ahead.is_file()


def test_the_cache_may_vanish_and_the_server_may_not(corpus, made, tmp_path, small_blocks):
    tokens = corpus.batch([5, 17]).tokens_BT
    wanted = LabelStore.open(made).lookup(tokens)
    with served(Ranged, made) as (url, _):
        store = LabelStore.open(url, cache=tmp_path / "cache")
        store.lookup(tokens)
        shutil.rmtree(tmp_path / "cache")
        assert torch.equal(store.lookup(tokens).ids, wanted.ids)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match=r"cannot be read .*check the address"):
        store.lookup(tokens)
    with pytest.raises(UserError, match="cannot be read"):
        LabelStore.open(url, cache=tmp_path / "cache")


def test_an_address_without_a_store_is_told_in_one_sentence(tmp_path):
    with served(Ranged, tmp_path) as (url, _), pytest.raises(UserError, match=r"holds no finished label store"):
        LabelStore.open(url, cache=tmp_path / "cache")


def test_damage_on_the_way_is_noticed(corpus, made, tmp_path, small_blocks):
    broken = tmp_path / "store"
    shutil.copytree(made, broken)
    shard = broken / "shards/00000000.bin"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with served(Ranged, broken) as (url, _):
        store = LabelStore.open(url, cache=tmp_path / "cache")
        with pytest.raises(Damaged, match="does not match its checksum"):
            store.lookup(corpus.batch(range(8)).tokens_BT)
