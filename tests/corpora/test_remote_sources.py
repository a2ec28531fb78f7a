"""Sources behind addresses: of any fsspec filesystem, of http servers with and without ranges, and of S3."""

from __future__ import annotations

import gzip
import http.server
import socket
import threading
from collections import Counter

import pytest
from row_kinds import KINDS, TEXTS, files, lines, read

from stillroom.config import CorpusConfig
from stillroom.corpora import build_corpus, source_identity
from stillroom.corpora.sources import readers, texts
from stillroom.corpora.sources.source_kinds import source_parts, source_stamps
from stillroom.types import UserError

ROWS = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
PROSE = "".join(f"line {number} of some prose, é☕\n" for number in range(3000))
FORMS = {
    "a.txt": PROSE.encode(),
    "b.txt.gz": gzip.compress(PROSE.encode(), mtime=0),
    "part-0": lines(ROWS),
    **{name: KINDS[name](ROWS) for name in ("a.jsonl", "list.json", "a.jsonl.zst", "a.csv")},
}
TABLES = ("a.parquet", "a.arrow", "file.arrow")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(readers, "_FEWEST_REMOTE", 1)
    monkeypatch.setattr(texts, "_WINDOW", 1 << 12)


@pytest.fixture
def memory():
    """Puts files into fsspec's filesystem in memory, which is emptied again."""
    import fsspec

    system = fsspec.filesystem("memory")

    def put(contents):
        for name, data in contents.items():
            system.pipe_file(f"/data/{name}", data)
        return "memory://data"

    yield put
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def content(name):
    return FORMS[name] if name in FORMS else KINDS[name](ROWS)


def check(source, name, size=4000):
    found = read(source, size)[0]
    assert "".join(found) == PROSE if ".txt" in name else found == TEXTS


@pytest.mark.parametrize("name", [*FORMS, *TABLES])
def test_every_kind_is_read_from_an_address(memory, name):
    root = memory({name: content(name)})
    for source in (files(f"{root}/{name}"), files(root)):
        check(source, name)
        check(source, name, 1 << 30)
    if name in ("a.txt", "a.jsonl", "a.parquet"):
        assert len(source_parts(files(root), 0, 1000)) > 3


@pytest.mark.parametrize(
    ("path", "changes", "kept"),
    [
        ("", {}, {"a.jsonl", "sub dir/b.jsonl", "sub dir/deep/ключ.jsonl"}),
        ("", {"pattern": "*.jsonl"}, {"a.jsonl"}),
        ("", {"pattern": "*/*.jsonl"}, {"sub dir/b.jsonl"}),
        ("", {"pattern": "sub dir/**/*"}, {"sub dir/b.jsonl", "sub dir/deep/ключ.jsonl"}),
        ("", {"exclude": ["**/b.*"]}, {"a.jsonl", "sub dir/deep/ключ.jsonl"}),
        ("", {"exclude": ["sub dir"]}, {"a.jsonl"}),
        ("", {"pattern": ".hidden/*"}, {".hidden/c.jsonl"}),
        ("/*.jsonl", {}, {"a.jsonl"}),
        ("/sub dir/**/*.jsonl", {}, {"sub dir/b.jsonl", "sub dir/deep/ключ.jsonl"}),
        ("/sub dir", {}, {"sub dir/b.jsonl", "sub dir/deep/ключ.jsonl"}),
    ],
)
def test_folders_and_patterns_of_an_address_are_those_of_a_disk(memory, tmp_path, path, changes, kept):
    names = ("a.jsonl", "sub dir/b.jsonl", "sub dir/deep/ключ.jsonl", ".hidden/c.jsonl")
    contents = {name: lines([{"text": name}]) for name in names}
    root = memory(contents)
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert set(read(files(f"{root}{path}", **changes))[0]) == kept
    assert set(read(files(f"{tmp_path}{path}", **changes))[0]) == kept


def test_identity_and_stamps_of_an_address_follow_its_files(memory):
    source = files(memory({"a.jsonl": lines(ROWS)}))
    before, stamps = source_identity(source), source_stamps(source)
    assert source_identity(source) == before and before["path"] is None
    assert [stamp[0] for stamp in stamps] == ["memory:///data/a.jsonl"]
    memory({"a.jsonl": lines(ROWS[1:])})
    assert source_identity(source) != before and source_stamps(source) != stamps


def test_a_corpus_is_built_from_an_address(memory, tmp_path):
    root = memory({"a.jsonl": lines([{"text": text * 9} for text in TEXTS * 3])})
    config = CorpusConfig(
        sources={"web": files(root)}, vocab_size=300, sequence_length=16, train_tokens=640, heldout_tokens=32
    )
    assert len(build_corpus(config, tmp_path / "corpus").train) == 40


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("memory://nowhere", "memory://nowhere: (holds no file|no such file)"),
        ("memory://nowhere/*.jsonl", r"holds no file that matches '\*\.jsonl'"),
        ("nosuch://bucket/x", "nosuch://bucket/x: .*(installed|cannot be opened)"),
        ("http://127.0.0.1:9/x.jsonl", r"http://127\.0\.0\.1:9/x\.jsonl: cannot be read"),
        ("http://me:secret@127.0.0.1:9/x.jsonl?key=secret", r"http://127\.0\.0\.1:9/x\.jsonl: cannot be read"),
    ],
)
def test_addresses_that_lead_nowhere_end_in_a_sentence_without_their_secrets(path, words, monkeypatch):
    monkeypatch.setattr("stillroom.http.PAUSES", ())
    for use in (source_identity, read):
        with pytest.raises(UserError, match=words) as error:
            use(files(path))
        assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_damage_behind_an_address_is_named(memory):
    root = memory({"a.jsonl": lines(ROWS) + b"{\n"})
    with pytest.raises(UserError, match=r"memory:///data/a\.jsonl: line 61 is not valid JSON"):
        read(files(root))
    memory({"a.jsonl": b"", "b.jsonl.gz": gzip.compress(lines(ROWS))[:-9]})
    with pytest.raises(UserError, match=r"memory:///data/b\.jsonl\.gz: is damaged or no packed file"):
        read(files(root))


# Http.


class _Server(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}
    ranges = True
    asked: list[str] = []

    def do_GET(self) -> None:
        data = self.files.get(self.path.partition("?")[0])
        self.asked.append(self.headers.get("Range", ""))
        if data is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        if wanted and self.ranges:
            start, stop = wanted.removeprefix("bytes=").split("-")
            part = data[int(start) : int(stop) + 1]
            self.send_response(206 if part else 416)
            if part:
                self.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}")
        else:
            part = data
            self.send_response(200)
        self.send_header("ETag", f'"{hash(data)}"')
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(params=[True, False], ids=["ranges", "whole files"])
def served(request, monkeypatch):
    """Serves files on this machine, by range or whole; gives the address and the handler."""
    monkeypatch.setattr(_Server, "ranges", request.param)
    monkeypatch.setattr(_Server, "files", {})
    monkeypatch.setattr(_Server, "asked", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", _Server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", [*FORMS, *TABLES])
def test_every_kind_is_read_from_a_server(served, name):
    address, server = served
    server.files[f"/a/{name}"] = content(name)
    source = files(f"{address}/a/{name}?signed=yes")
    check(source, name)
    assert len(source_parts(source, 0, 1000)) == 1 or server.ranges


def test_a_part_of_a_served_file_asks_for_little_more_than_its_bytes(served):
    address, server = served
    server.files["/a.txt"] = PROSE.encode() * 40
    source = files(f"{address}/a.txt")
    parts = source_parts(source, 0, 100_000)
    if not server.ranges:
        assert [part.unit for part in parts] == ["whole"]
        return
    server.asked.clear()
    from stillroom.corpora.sources.source_kinds import source_texts
    from stillroom.corpora.sources.table_rows import RowCount

    assert sum(map(len, source_texts(source, parts[7], RowCount()))) > 80_000
    spans = [span.removeprefix("bytes=").split("-") for span in server.asked]
    assert sum(int(stop) - int(start) + 1 for start, stop in spans) < 250_000


def test_a_served_folder_cannot_be_listed(served):
    address, server = served
    server.files["/a.txt"] = b"text"
    with pytest.raises(UserError, match="a server that lists no folders, so that pattern and exclude have no effect"):
        read(files(address, pattern="*.txt"))
    with pytest.raises(UserError, match="no such file or folder"):
        read(files(f"{address}/b.txt"))


def test_a_server_that_breaks_off_is_told(monkeypatch):
    monkeypatch.setattr("stillroom.http.PAUSES", (0.0,))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer():
            for _ in range(6):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-0/99\r\nContent-Length: 99\r\n\r\nshort")
                connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(UserError, match=r"a\.jsonl: "):
            read(files(f"http://127.0.0.1:{listener.getsockname()[1]}/a.jsonl"))


# S3, by a stand-in for it on this machine.


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bucket_is_read(monkeypatch):
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        _, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        system = s3fs.S3FileSystem()
        system.mkdir("bucket")
        for name in (*FORMS, *TABLES):
            system.pipe_file(f"bucket/{name}/sub dir/{name}", content(name))
            source = files(f"s3://bucket/{name}")
            check(source, name)
            check(files(f"s3://bucket/{name}/**/*"), name)
            assert source_identity(source) == source_identity(source)
        texts_found, _ = read(files("s3://bucket", pattern="**/*.parquet"))
        assert Counter(texts_found) == Counter(TEXTS)
        with pytest.raises(UserError, match="s3://nobucket"):
            read(files("s3://nobucket/x"))
    finally:
        server.stop()
