"""Servers that do not answer as they should: the right labels, or one sentence, soon, with little memory, and no trace.

Each behaviour is tried on each kind of file of a store, at every request and at the first request of each file alone.
"""

from __future__ import annotations

import gzip
import os
import socket
import socketserver
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from stillroom.http import HttpFiles, printable_url
from stillroom.labels import LabelStore
from stillroom.types import SoftLabels, UserError

BLOCK = 512


class Asked:
    """One request, and what an honest server would say to it."""

    def __init__(self, sock: socket.socket, path: str, headers: dict[str, str], whole: bytes, number: int, port: int):
        self.sock, self.path, self.headers, self.whole, self.number, self.port = (
            sock,
            path,
            headers,
            whole,
            number,
            port,
        )
        first, _, last = headers.get("range", "").removeprefix("bytes=").partition("-")
        self.has_range = bool(first)
        self.first, self.end = (int(first), int(last) + 1) if first else (0, len(whole))
        self.data = whole[self.first : self.end]

    def send(self, *pieces: bytes | str) -> None:
        for piece in pieces:
            self.sock.sendall(piece.encode() if isinstance(piece, str) else piece)

    def say(self, status: int, body: bytes, *headers: str, length: int | None = None) -> None:
        size = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status} So", "Connection: close", f"Content-Length: {size}", *headers]
        self.send("\r\n".join(lines) + "\r\n\r\n", body)

    def honest(self, *headers: str) -> None:
        if not self.has_range:
            self.say(200, self.whole, *headers)
        elif self.first >= len(self.whole):
            self.say(416, b"")
        else:
            end = self.first + len(self.data) - 1
            self.say(206, self.data, f"Content-Range: bytes {self.first}-{end}/{len(self.whole)}", *headers)

    def endless(self, *pieces: bytes | str) -> None:
        with suppress(OSError):
            while True:
                self.send(*pieces)

    def drip(self, data: bytes) -> None:
        with suppress(OSError):
            for place in range(len(data)):
                self.send(data[place : place + 1])
                time.sleep(0.02)
            time.sleep(1)


def _another_part(asked: Asked, *, says: str) -> None:
    if not asked.has_range:
        asked.honest()
        return
    data = asked.whole[asked.first + 7 : asked.end + 7]
    claims = {"truth": asked.first + 7, "lie": asked.first}
    header = [] if says == "nothing" else [f"Content-Range: bytes {claims[says]}-{claims[says] + len(data) - 1}/99999"]
    asked.say(206, data, *header)


def _flipped(asked: Asked) -> None:
    changed = bytearray(asked.whole)
    for place in range(100, len(changed), 300):
        changed[place] ^= 4
    body = bytes(changed)[asked.first : asked.end]
    asked.say(206 if asked.has_range else 200, body)


def _page(asked: Asked, status: int = 200) -> None:
    asked.say(status, b"<!DOCTYPE html><html>Please log in\x1b[31m</html>" * 20, "Content-Type: text/html")


def _abort(asked: Asked) -> None:
    """Half of the body and then a reset."""
    asked.say(200, asked.whole[: len(asked.whole) // 2], length=len(asked.whole))
    asked.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _chunked(asked: Asked, *, ends: bool) -> None:
    asked.send(f"HTTP/1.1 {206 if asked.has_range else 200} So\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(asked.data), 300):
        piece = asked.data[start : start + 300]
        asked.send(f"{len(piece):x}\r\n", piece, "\r\n")
    if ends:
        asked.send("0\r\n\r\n")
    else:
        asked.endless("10000\r\n", bytes(65536), "\r\n")


def _redirect(asked: Asked, target: str, status: int = 302) -> None:
    asked.say(status, b"", f"Location: {target}")


def _elsewhere(asked: Asked) -> None:
    """To the same file under another name of this machine."""
    if asked.headers.get("host", "").startswith("localhost"):
        assert "authorization" not in asked.headers
        asked.honest()
    else:
        _redirect(asked, f"http://localhost:{asked.port}{asked.path}")


def _endless_redirect(asked: Asked) -> None:
    asked.send("HTTP/1.1 302 So\r\nLocation: /elsewhere/", asked.path, "\r\n\r\n")
    asked.endless(bytes(65536))


def _sometimes(asked: Asked, status: int) -> None:
    """An error twice, then what was asked for."""
    asked.honest() if asked.number % 3 == 2 else asked.say(status, b"busy")


RIGHT: dict[str, Callable[[Asked], object]] = {
    "parts and what they are": lambda asked: asked.honest(),
    "parts without saying what they are": lambda asked: asked.say(206 if asked.has_range else 200, asked.data),
    "whole files to every request": lambda asked: asked.say(200, asked.whole),
    "another part, and says so": lambda asked: _another_part(asked, says="truth"),
    "more than the part": lambda asked: asked.say(206 if asked.has_range else 200, asked.whole),
    "chunks": lambda asked: _chunked(asked, ends=True),
    "more than its length": lambda asked: asked.say(
        206 if asked.has_range else 200, asked.data + b"more", length=len(asked.data)
    ),
    "errors twice": lambda asked: _sometimes(asked, 503),
    "too many requests twice": lambda asked: _sometimes(asked, 429),
    "another host": _elsewhere,
    "whole files without a length": lambda asked: asked.send("HTTP/1.0 200 So\r\n\r\n", asked.whole),
}
"""Behaviours that the right labels come of."""
WRONG: dict[str, Callable[[Asked], object]] = {
    "another part, and says nothing": lambda asked: _another_part(asked, says="nothing"),
    "another part, and lies": lambda asked: _another_part(asked, says="lie"),
    "half, said to be whole": lambda asked: asked.say(
        206 if asked.has_range else 200, asked.data[: len(asked.data) // 2]
    ),
    "half of its length": lambda asked: asked.say(
        206 if asked.has_range else 200, asked.data[: len(asked.data) // 2], length=len(asked.data)
    ),
    "nothing": lambda asked: asked.say(206 if asked.has_range else 200, b""),
    "nothing, not satisfiable": lambda asked: asked.say(416, b""),
    "no content": lambda asked: asked.say(204, b""),
    "a body without end": lambda asked: asked.endless("HTTP/1.1 200 So\r\n\r\n", bytes(65536)),
    "a part without end": lambda asked: (asked.send("HTTP/1.1 206 So\r\n\r\n"), asked.endless(bytes(65536))),
    "chunks without end": lambda asked: _chunked(asked, ends=False),
    "a chunk without end": lambda asked: asked.send(
        "HTTP/1.1 200 So\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", bytes(3000)
    ),
    "headers without end": lambda asked: (asked.send("HTTP/1.1 200 So\r\n"), asked.endless("X: " + "y" * 9000, "\r\n")),
    "a line without end": lambda asked: asked.endless("y" * 65536),
    "go on without end": lambda asked: asked.endless("HTTP/1.1 100 Go on\r\n\r\n"),
    "a body that drips": lambda asked: (asked.send("HTTP/1.1 200 So\r\n\r\n"), asked.drip(asked.whole)),
    "headers that drip": lambda asked: asked.drip(b"HTTP/1.1 200 So\r\nX: " + bytes(2000)),
    "silence": lambda asked: time.sleep(1),
    "silence after the headers": lambda asked: (asked.say(200, b"", length=1000), time.sleep(1)),
    "the end of the connection": lambda asked: None,
    "a reset": lambda asked: asked.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    "a reset in the middle": _abort,
    "no HTTP": lambda asked: asked.send("SSH-2.0-OpenSSH_9.6\r\n"),
    "no number of a status": lambda asked: asked.send("HTTP/1.1 OK fine\r\n\r\n"),
    "no number of a length": lambda asked: asked.send("HTTP/1.1 200 So\r\nContent-Length: -5\r\n\r\nxxxxx"),
    "an enormous length": lambda asked: asked.say(206 if asked.has_range else 200, asked.data, length=10**15),
    "gzip": lambda asked: asked.say(
        206 if asked.has_range else 200, gzip.compress(asked.data), "Content-Encoding: gzip"
    ),
    "a page": _page,
    "a page as a part": lambda asked: _page(asked, 206),
    "other bytes": lambda asked: asked.say(206 if asked.has_range else 200, os.urandom(len(asked.data))),
    "zeros": lambda asked: asked.say(206 if asked.has_range else 200, bytes(len(asked.data))),
    "flipped bits": _flipped,
    "to ftp": lambda asked: _redirect(asked, "ftp://127.0.0.1/x"),
    "to a file": lambda asked: _redirect(asked, "file:///etc/passwd"),
    "to data": lambda asked: _redirect(asked, "data:,hello", 301),
    "to itself": lambda asked: _redirect(asked, asked.path, 307),
    "on and on": lambda asked: _redirect(asked, f"{asked.path}x", 308),
    "to nowhere": lambda asked: asked.say(302, b""),
    "to an address that is none": lambda asked: _redirect(asked, "http://[::1/x"),
    "to a name that is none": lambda asked: _redirect(asked, "http://..../x"),
    "a chunk of less than nothing": lambda asked: asked.send(
        "HTTP/1.1 200 So\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx"
    ),
    "with a body without end elsewhere": _endless_redirect,
    "to a port of nobody": lambda asked: _redirect(asked, "http://127.0.0.1:1/x"),
    "an error": lambda asked: asked.say(500, b"oh"),
    "a bad gateway": lambda asked: asked.say(502, b"oh" * 9999),
    "not allowed": lambda asked: asked.say(403, b"no"),
    "a password wanted": lambda asked: asked.say(401, b"no", 'WWW-Authenticate: Basic realm="x"'),
    "not there": lambda asked: asked.say(404, b"no"),
    "gone": lambda asked: asked.say(410, b"no"),
    "a status of nobody": lambda asked: asked.say(799, b"no"),
}
"""Behaviours that one sentence comes of, where they last."""
ODD = RIGHT | WRONG
FILES = {"manifest": "manifest.json", "index": "index.bin", "codebook": "codebook.bin", "shards": "shards/"}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address, block_on_close, request_queue_size = True, True, False, 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients go away in the middle."""


@contextmanager
def serving(folder: Path, behaves: Callable[[Asked], object]) -> Iterator[str]:
    """The address of a folder that is served in some way."""
    counts: dict[str, int] = {}
    lock = threading.Lock()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            stream = self.request.makefile("rb")
            path = stream.readline().decode().split(" ")[1]
            lines = iter(lambda: stream.readline().decode().strip(), "")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            stream.close()
            with lock:
                number = counts[path] = counts.get(path, -1) + 1
            file = folder / path.lstrip("/")
            whole = file.read_bytes() if file.is_file() else b""
            behaves(Asked(self.request, path, headers, whole, number, port))

    server = _Server(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr("stillroom.labels.remote.BLOCK_BYTES", BLOCK)
    monkeypatch.setattr("stillroom.http.SECONDS", 0.25)
    monkeypatch.setattr("stillroom.http.SLOWEST", 1e5)
    monkeypatch.setattr("stillroom.http.PAUSES", (0.0, 0.0))
    monkeypatch.setattr("stillroom.http.LONGEST", 1 << 20)
    monkeypatch.setattr("stillroom.labels.remote.LONGEST", 1 << 20)


@pytest.fixture(scope="module")
def tokens(corpus) -> torch.Tensor:
    return corpus.batch([20, 3, 11]).tokens_BT


@pytest.fixture(scope="module")
def wanted(made, tokens) -> SoftLabels:
    return LabelStore.open(made).lookup(tokens)


def same(found: SoftLabels, wanted: SoftLabels) -> bool:
    return torch.equal(found.ids, wanted.ids) and torch.equal(found.weights, wanted.weights)


def looked_up(url: str, tokens: torch.Tensor, cache: Path) -> SoftLabels | str:
    """The labels, or the one sentence that came instead, in bounded time."""
    begin = time.monotonic()
    try:
        return LabelStore.open(url, cache=cache).lookup(tokens)
    except UserError as error:
        sentence = str(error)
        assert "127.0.0.1" in sentence and sentence.endswith(".") and "\x1b" not in sentence
        assert sentence.count(". ") == 0 and len(sentence) < 600, sentence
        return sentence
    finally:
        assert time.monotonic() - begin < 8


@pytest.mark.parametrize(
    "file", ["manifest", "shards", *(pytest.param(name, marks=pytest.mark.slow) for name in ("index", "codebook"))]
)
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_server_gives_the_right_labels_or_a_sentence_and_poisons_nothing(
    made, tokens, wanted, tmp_path, odd, file
):
    def behaves(asked: Asked) -> None:
        is_odd = still and asked.path.lstrip("/").removeprefix("elsewhere/").startswith(FILES[file])
        ODD[odd](asked) if is_odd else asked.honest()

    still = True
    with serving(made, behaves) as url:
        found = looked_up(url, tokens, tmp_path)
        if odd in RIGHT:
            assert not isinstance(found, str), found
        assert isinstance(found, str) or same(found, wanted)
        still = False  # from now on the server is honest: what was cached of it before must not matter
        again = looked_up(url, tokens, tmp_path)
        assert not isinstance(again, str), again
        assert same(again, wanted)
    assert not [path for path in tmp_path.rglob(".*")]


@pytest.mark.parametrize("odd", WRONG)
def test_one_odd_answer_to_each_request_is_got_over_by_the_next_command(made, tokens, wanted, tmp_path, odd):
    def behaves(asked: Asked) -> None:
        ODD[odd](asked) if asked.number == 0 else asked.honest()

    with serving(made, behaves) as url:
        for _ in range(8):  # manifest, codebook, index, three shards
            found = looked_up(url, tokens, tmp_path)
            if not isinstance(found, str):
                break
        assert not isinstance(found, str), found
        assert same(found, wanted)


@pytest.mark.parametrize("odd", [name for name in WRONG if "without end" in name])
def test_what_does_not_end_takes_little_memory(made, tokens, tmp_path, odd):
    with serving(made, WRONG[odd]) as url:
        tracemalloc.start()
        assert isinstance(looked_up(url, tokens, tmp_path), str)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16e6


@pytest.mark.parametrize("poison", [b"", b"short", b"<html>" * 400, bytes(BLOCK)])
@pytest.mark.parametrize("file", ["blocks", "index.bin", "codebook.bin", "manifest.json", "shards"])
def test_a_cache_that_an_older_version_poisoned_heals(made, tokens, wanted, tmp_path, poison, file):
    with serving(made, lambda asked: asked.honest()) as url:
        assert not isinstance(looked_up(url, tokens, tmp_path), str)
        (cache,) = tmp_path.iterdir()
        if file == "shards":
            for number in range(3):
                (cache / f"shards/{number:08d}.bin").parent.mkdir(exist_ok=True)
                (cache / f"shards/{number:08d}.bin").write_bytes(poison)
        for path in (cache / "blocks").rglob("0*") if file == "blocks" else [cache / file]:
            if path.is_file():
                path.write_bytes(poison)
        found = looked_up(url, tokens, tmp_path)
        assert not isinstance(found, str), found
        assert same(found, wanted)


def test_a_store_that_is_changed_while_it_is_read_is_noticed(teacher, corpus, made, tokens, wanted, tmp_path):
    from tiny_labels import make

    make(teacher, corpus, tmp_path / "other", num_samples=20)
    changed: list[Path] = []

    def behaves(asked: Asked) -> None:
        for folder in changed:
            asked.whole = (folder / asked.path.lstrip("/")).read_bytes()
            asked.data = asked.whole[asked.first : asked.end]
        asked.honest()

    with serving(made, behaves) as url:
        store = LabelStore.open(url, cache=tmp_path / "cache")
        changed.append(tmp_path / "other")
        with pytest.raises(UserError, match="is not what belongs to this store"):
            store.lookup(tokens)
        assert not isinstance(looked_up(url, tokens, tmp_path / "cache"), str)  # the new store, opened anew
        changed.clear()
        found = looked_up(url, tokens, tmp_path / "cache")
        assert not isinstance(found, str) and same(found, wanted)


def test_a_name_and_a_password_are_used_and_never_printed(made, tokens, wanted, tmp_path):
    def behaves(asked: Asked) -> None:
        is_known = asked.headers.get("authorization") == "Basic YWRhOnMzY3JldCE="
        _elsewhere(asked) if is_known or asked.headers["host"].startswith("localhost") else asked.say(401, b"")

    with serving(made, behaves) as url:
        secret = url.replace("http://", "http://ada:s3cret%21@")
        found = looked_up(secret, tokens, tmp_path)
        assert not isinstance(found, str), found
        assert same(found, wanted)
        store = LabelStore.open(secret, cache=tmp_path)
        assert "s3cret" not in store.place.name
        for wrong in (secret.replace("s3cret", "s3wrong"), f"{secret}/nowhere"):
            sentence = looked_up(wrong, tokens, tmp_path)
            assert isinstance(sentence, str) and "s3" not in sentence and "ada" not in sentence
    with pytest.raises(UserError) as refused:
        LabelStore.open(secret, cache=tmp_path)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [
        ("https://host/a/b?X-Amz-Signature=abc", "https://host/a/b"),
        ("https://me:pw@host:81/a", "https://host:81/a"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("labels/here", "labels/here"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url, is_shown):
    assert printable_url(url) == is_shown


def test_an_address_that_is_none_is_told_in_a_sentence(tokens, tmp_path):
    for url in ("http://", "http://127.0.0.1:port/x", "http://[::1", "https://127.0.0.1:1/x", "HTTP://127.0.0.1:1/x"):
        with pytest.raises(UserError):
            LabelStore.open(url, cache=tmp_path)


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/labels", "gs://bucket/labels", "abfs://a@b/labels", "nosuch://x/labels", "smb://x", "hdfs://x/y"],
)
def test_a_kind_of_address_without_a_driver_is_told_in_a_sentence(url, tmp_path):
    with pytest.raises(UserError, match=r"://.*: (no driver|cannot be)"):
        LabelStore.open(url, cache=tmp_path)


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), RuntimeError("driver"), ValueError("odd"), OSError()])
@pytest.mark.parametrize("call", ["cat_file", "get_file"])
def test_whatever_a_driver_raises_is_told_in_a_sentence(monkeypatch, tmp_path, made, error, call):
    import fsspec

    system = fsspec.filesystem("memory")
    for path in made.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/raising/{path.relative_to(made)}", path.read_bytes())

    def raises(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(type(system), call, raises)
    with pytest.raises(UserError, match="cannot be read"):
        LabelStore.open("memory://raising", cache=tmp_path)
    system.rm("/raising", recursive=True)


def test_a_range_beyond_the_end_is_empty(made):
    with serving(made, lambda asked: asked.honest()) as url:
        assert HttpFiles().cat_file(f"{url}/index.bin", 10**6, 10**6 + 5) == b""
