"""Sources of files: which files, which bytes are text, sections without reading a file twice, and mistakes."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import socket
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.config import CorpusConfig, SourceConfig, parse, to_yaml
from stillroom.corpora import build_corpus, corpus_identity, documents, source_identity
from stillroom.corpora.assembly import _codes
from stillroom.corpora.sources import texts as texts_module
from stillroom.corpora.sources.holding_out import content_hash, is_held_out
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.source_kinds import source_parts, source_texts
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.sources.texts import cut, sections
from stillroom.types import UserError

PROSE = "some words, and more of them. " * 40 + "\n"


def files(path, **changes):
    return SourceConfig(kind="files", path=str(path), **changes)


def all_of(source, size=1 << 20):
    """Every text of both splits, in order."""
    return [text for part in source_parts(source, 0, size) for text in source_texts(source, part, RowCount())]


def whole(source):
    """All documents as one text, in the order of the lines' own words."""
    return "".join(sorted("".join(all_of(source)).splitlines(keepends=True)))


def tree(root, contents):
    for name, data in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def small(source, **changes):
    values = {"vocab_size": 300, "sequence_length": 16, "train_tokens": 640, "heldout_tokens": 64}
    return CorpusConfig(sources={"mine": source}, **(values | changes))


# Which files.

CHECKOUT = {
    "README.md": "read me\n" + PROSE,
    "src/a.py": "a = 1\n" + PROSE,
    "src/sub dir/ü.py": "u = 2\n" + PROSE,
    ".git/HEAD": "ref: refs/heads/main\n",
    ".git/index": b"DIRC\0\0\0\2",
    ".git/objects/ab/cdef": b"x\x01\0\xff",
    ".github/workflows/ci.yml": "on: push\n" + PROSE,
    "src/.cache/blob": b"\0\1",
    ".hidden.txt": "hidden\n" + PROSE,
}


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({}, {"read me", "a = 1", "u = 2"}),
        ({"pattern": "**/*.py"}, {"a = 1", "u = 2"}),
        ({"pattern": "*"}, {"read me"}),
        ({"pattern": ".github/**/*"}, {"on: push"}),
        ({"pattern": ".hid*"}, {"hidden"}),
        ({"exclude": ["src/sub dir"]}, {"read me", "a = 1"}),
        ({"exclude": ["**/*.py"]}, {"read me"}),
        ({"exclude": ["src/**/*", "nothing/*.such"]}, {"read me"}),
    ],
)
def test_hidden_files_and_folders_are_left_out_unless_they_are_named(tmp_path, changes, read):
    source = files(tree(tmp_path, CHECKOUT), max_document_chars=100, **changes)
    text = "".join(all_of(source))
    assert {name for name in ("read me", "a = 1", "u = 2", "on: push", "hidden", "ref:") if name in text} == read


def test_a_checkout_becomes_a_corpus_and_git_does_not_change_its_identity(tmp_path):
    folder = tree(tmp_path / "texts", {f"{n}.md": f"{n} {PROSE}" for n in range(200)} | CHECKOUT)
    before = corpus_identity(small(files(folder)))
    assert len(build_corpus(small(files(folder)), tmp_path / "corpus").train) == 40
    (folder / ".git/index").write_bytes(b"another")
    assert corpus_identity(small(files(folder))) == before


def test_what_is_no_file_is_left_out(tmp_path):
    folder = tree(tmp_path / "texts", {"a.txt": "a\n" + PROSE, "empty.txt": "", "sub/b.txt": "b\n" + PROSE})
    os.mkfifo(folder / "pipe.txt")
    (folder / "folder.txt").mkdir()
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "linked.txt").symlink_to(folder / "a.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket.txt"))
        text = "".join(all_of(files(folder, max_document_chars=100)))
    assert text.count("a\n") == 2 and text.count("b\n") == 1  # a.txt and the link to it


def test_names_that_are_not_utf8_and_hold_newlines_are_read_and_hashed(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(25):
        with open(os.fsencode(folder) + b"/caf\xe9\n%d.txt" % number, "w") as handle:
            handle.write(f"file {number}\n{PROSE}")
    source = files(folder)
    train, heldout = set(documents(source, 0, "train")), set(documents(source, 0, "heldout"))
    assert len(train) + len(heldout) == 25 and not train & heldout
    assert source_identity(source) == source_identity(source)
    corpus = build_corpus(small(source, heldout_tokens=16), tmp_path / "corpus")
    assert corpus.identity == build_corpus(small(source, heldout_tokens=16), tmp_path / "again").identity


def test_a_folder_whose_name_is_not_utf8_comes_back_from_a_written_configuration(tmp_path):
    folder = tree(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")), {"a.txt": PROSE})
    source = files(folder)
    written = yaml.safe_load(to_yaml(source, "source").encode())
    written.pop("kind")
    assert source_identity(parse(SourceConfig, written | {"kind": "files"}, "it")) == source_identity(source)


# Which bytes are text, and that sections are those of the whole text.


@settings(max_examples=80, deadline=None)  # opens files
@given(
    st.lists(st.sampled_from(["a", "é", "☕", "𝔸", "\n", "\r\n", "\ufeff", "word "]), max_size=700).map("".join),
    st.integers(100, 400),
    st.integers(1, 300),
)
def test_sections_found_chunk_by_chunk_are_those_of_the_whole_text(tmp_path_factory, text, limit, chunk):
    path = tmp_path_factory.mktemp("one") / "one.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts_module, "_CHUNK", chunk)
        found = list(sections(Part(str(path)), "", limit))
    assert found == list(cut(text.removeprefix("\ufeff"), limit))
    assert all(0 < len(section) <= limit for section in found)


LETTERS = st.sampled_from(["a", "é", "☕", "𝔸", "\n", "\r\n", "word ", "x" * 30])


@settings(max_examples=80, deadline=None)  # opens files
@given(st.lists(LETTERS, max_size=200).map("".join), st.integers(1, 600), st.integers(4, 60))
def test_parts_of_any_size_hold_the_whole_text_and_meet_between_characters(tmp_path_factory, text, size, window):
    path = tmp_path_factory.mktemp("one") / "one.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts_module, "_WINDOW", window)
        source = files(path, format="text")
        read = [list(source_texts(source, part, RowCount())) for part in source_parts(source, 0, size)]
    assert "".join("".join(part) for part in read) == text
    assert len(read) == -(-len(text.encode()) // size)


def test_parts_of_a_long_file_are_even_and_end_at_line_ends(tmp_path):
    path = tree(tmp_path, {"a.txt": "".join(f"line {n} {'x' * (n % 200)}\n" for n in range(20_000))}) / "a.txt"
    source = files(path)
    parts = source_parts(source, 0, 100_000)
    texts = ["".join(source_texts(source, part, RowCount())) for part in parts]
    assert len(parts) > 20 and all(text.endswith("\n") for text in texts)
    assert all(abs(len(text) - part.size) < 400 for text, part in zip(texts, parts, strict=True))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"one\r\ntwo\r\nthree", "one\r\ntwo\r\nthree"),
        (codecs.BOM_UTF8 + "ö one".encode(), "ö one"),
        ("☕ \u2028 tab\t\x0c\x1b[0m end".encode(), "☕ \u2028 tab\t\x0c\x1b[0m end"),
        (b"{ not json }\n{ at all }\n", "{ not json }\n{ at all }\n"),
        (b'{"a": 1}\nand prose after it\n', '{"a": 1}\nand prose after it\n'),
        (b"spells <|eos|> and <|bos|>", "spells <|eos|> and <|bos|>"),
        (b'{"the only line": "is an object"}\n', '{"the only line": "is an object"}\n'),
    ],
)
def test_bytes_become_the_text_that_they_spell(tmp_path, data, text):
    path = tree(tmp_path, {"one.txt": data}) / "one.txt"
    assert all_of(files(path)) == [text]


def test_one_line_of_a_megabyte_is_cut_at_the_limit(tmp_path):
    path = tree(tmp_path, {"one.txt": "é" * 1_000_000}) / "one.txt"
    found = all_of(files(path, max_document_chars=4000))
    assert len(found) == 250 and set(map(len, found)) == {4000}


def _tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return stream.getvalue()


TAR = _tar()
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", b"ab\0cd", "is binary .* zero byte at 2"),
        ("a.txt", b"x" * 200_000 + b"\0", "is binary .* zero byte at 200000"),
        ("a.txt", "text".encode("utf-16"), "is UTF-16"),
        ("a.txt", codecs.BOM_UTF16_BE + "text".encode("utf-16-be"), "is UTF-16"),
        ("a.txt", "text".encode("utf-32"), "is UTF-32"),
        ("a.txt", "naïve".encode("latin-1"), "is not UTF-8 at byte 2"),
        ("a.txt", b"x" * 3_000_000 + b"\xff", "is not UTF-8 at byte 3000000"),
        ("a.txt", b"x" * ((1 << 20) - 1) + b"\xc3x", "is not UTF-8 at byte 1048575"),
        ("a.txt", b"cut off \xe2\x98", "is not UTF-8 at byte 8"),
        ("a.txt", b"half \xed\xa0\x80 pair", "is not UTF-8 at byte 5"),
        ("a.txt", LFS, "Git LFS pointer"),
        ("a.txt.gz", b"\x1f\x8b", "is damaged or no packed file"),
        ("a.tar.ZST", b"\x28\xb5", "is damaged or no packed file"),
        ("a.tar", TAR, "is a tar archive"),
        ("a.tar.gz", gzip.compress(TAR, mtime=0), "is a tar archive"),
        ("a.zip", b"PK\x03\x04", "is a zip archive"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, name, data, words):
    path = tree(tmp_path, {name: data}) / name
    for place in (path, tmp_path):
        with pytest.raises(UserError, match=words) as error:
            all_of(files(place))
        assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"logo.png": b"\x89PNG\0", "sub/icon.ICO": b"\0\0\1"},
        {"a.txt": "ï".encode("latin-1"), "no suffix": b"\0", "odd[1].txt": b"\0", "new\nline": b"\0"},
        {"data.jsonl": '{"text": "a"}\n', "sub/x.csv": "a,b\n", "p.parquet": b"PAR1"},
        {"x.zip": b"PK\x03\x04", "y.tar": TAR},
    ],
)
def test_the_exclusion_that_a_sentence_names_works(tmp_path, bad):
    tree(tmp_path, {f"{n}.txt": f"good {n}\n{PROSE}" for n in range(30)} | bad)
    with pytest.raises(UserError) as error:
        all_of(files(tmp_path))
    named = str(error.value).split("set exclude of this source to ")[1]
    patterns = yaml.safe_load(named[: named.index("]") + 1] if "[[]" not in named else named[: named.rindex("]") + 1])
    assert sum(text.startswith("good") for text in all_of(files(tmp_path, exclude=patterns))) == 30


def test_a_file_that_is_no_text_is_told_before_any_text_is_read(tmp_path):
    tree(tmp_path, {f"{n}.txt": PROSE for n in range(60)} | {"33.txt": b"\0"})
    for split in ("train", "heldout"):
        with pytest.raises(UserError, match=r"33\.txt: is binary"):
            next(documents(files(tmp_path), 0, split))


# Paths.


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda root: root / "missing", "no such file or folder"),
        (lambda root: root / ("x" * 300), "cannot be read .*File name too long"),
        (lambda root: _link(root / "gone", root / "nowhere"), "is a link to .*nowhere, which is not there"),
        (lambda root: _link(root / "loop", root / "loop"), "cannot be read .*symbolic links"),
        (lambda root: _fifo(root / "pipe"), "neither a file nor a folder"),
        (lambda root: tree(root, {"a.txt": "x"}) / "a.txt" / "b", "Not a directory"),
        (lambda root: "~nobody-of-this-name/x", "home folder"),
        (lambda root: "a\0b", "zero byte in its name"),
    ],
)
def test_paths_that_lead_nowhere_end_in_a_sentence(tmp_path, place, words):
    source = files(place(tmp_path))
    for use in (source_identity, all_of):
        with pytest.raises(UserError, match=words):
            use(source)


def _link(path, target):
    path.symlink_to(target)
    return path


def _fifo(path):
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*", "**x", "sub/../../*"])
def test_patterns_that_are_none_end_in_a_sentence(tmp_path, pattern):
    tree(tmp_path, {"a.txt": PROSE})
    for changes in ({"pattern": pattern}, {"exclude": [pattern]}):
        with pytest.raises(UserError, match="no pattern"):
            all_of(files(tmp_path, **changes))


def test_a_folder_that_may_not_be_read_is_named_instead_of_passed_over(tmp_path, monkeypatch):
    tree(tmp_path, {"a.txt": PROSE, "locked/b.txt": PROSE})
    real = os.scandir

    def scandir(path="."):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"locked: cannot be read \(Permission denied\)"):
        all_of(files(tmp_path))
    for changes in ({"exclude": ["locked"]}, {"pattern": "*.txt"}):
        assert len("".join(all_of(files(tmp_path, max_document_chars=100, **changes)))) == len(PROSE)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    tree(tmp_path, {"a.txt": PROSE})

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    for use in (all_of, source_identity):
        with pytest.raises(UserError, match=r"a\.txt: cannot be read \(Permission denied\)"):
            use(files(tmp_path))


# Files that change under the reader.


def test_a_file_that_vanishes_after_it_was_listed_is_named(tmp_path, monkeypatch):
    from stillroom.corpora.sources import listing

    tree(tmp_path, {"a.txt": PROSE, "b.txt": PROSE})
    real = listing._matching

    def matching(*arguments):
        found = real(*arguments)
        Path(found[-1]).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(listing, "_matching", matching)
    with pytest.raises(UserError, match=r"b\.txt: no such file"):
        source_identity(files(tmp_path))


def test_a_corpus_of_files_that_change_meanwhile_is_not_kept(tmp_path):
    folder = tree(tmp_path / "texts", {f"{n}.txt": f"{n} {PROSE}" for n in range(200)})

    def progress(done, total):
        (folder / "3.txt").write_text("changed")

    config = small(files(folder), train_tokens=6400, heldout_tokens=64)
    with pytest.raises(UserError, match=r"3\.txt: changed while"):
        build_corpus(config, tmp_path / "out/corpus", progress)
    assert not list((tmp_path / "out").iterdir())


# Cost.


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts the bytes that the system says were read")
def test_one_large_file_is_read_twice_not_once_for_every_section(tmp_path):
    path = tree(tmp_path, {"one.txt": "a line of a long text\n" * 200_000}) / "one.txt"

    def read():
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    before = read()
    count = sum(1 for _ in documents(files(path), 0, "train"))
    assert count > 1000 and read() - before < 2.5 * path.stat().st_size


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(size):
        path = tree(tmp_path, {"one.txt": "a line of a long text ☕\n" * (size // 26)}) / "one.txt"
        tracemalloc.start()
        for _ in zip(documents(files(path), 0, "train"), range(100), strict=False):
            pass
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    assert peak(24_000_000) < peak(6_000_000) + 3_000_000  # a chunk more or less is in hand


# Fields without effect, and shares.

LIBRARY = {"kind": "python-library"}
FILES = {"kind": "files", "path": "x"}
HUB = {"kind": "hub", "path": "x"}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (LIBRARY | {"path": "x"}, "path"),
        (LIBRARY | {"pattern": "*.py"}, "pattern"),
        (LIBRARY | {"field": "body"}, "field"),
        (LIBRARY | {"options": {"entities": 3}}, "options"),
        (FILES | {"name": "a"}, "name"),
        (FILES | {"split": "train"}, "split"),
        (FILES | {"options": {"a": 1}}, "options"),
        (HUB | {"pattern": "*.txt"}, "pattern"),
        (HUB | {"exclude": ["*.txt"]}, "exclude"),
        (HUB | {"format": "rows"}, "format"),
        *[({"kind": kind, "path": "x"}, "path") for kind in ("facts", "problems", "copying")],
        ({"kind": "facts", "max_document_chars": 500}, "max_document_chars"),
        ({"kind": "facts", "split": "train"}, "split"),
    ],
)
def test_a_field_without_effect_is_refused(values, field):
    with pytest.raises(UserError, match=rf"{field} has no effect on kind {values['kind']}"):
        parse(SourceConfig, values, "it")


@pytest.mark.parametrize("kind", ["files", "hub"])
@pytest.mark.parametrize("path", [{}, {"path": None}, {"path": ""}])
def test_a_source_without_a_path_is_refused(kind, path):
    with pytest.raises(UserError, match=f"kind {kind} has no path; set it"):
        parse(SourceConfig, {"kind": kind} | path, "it")


@pytest.mark.parametrize(
    "changes", [{"pattern": "*.txt"}, {"exclude": ["*.md"]}, {"field": "body"}, {"field": "body", "format": "text"}]
)
def test_a_field_without_effect_on_one_text_file_is_refused(tmp_path, changes):
    path = tree(tmp_path, {"a.txt": PROSE}) / "a.txt"
    with pytest.raises(UserError, match=r"no effect|has no field"):
        source_identity(files(path, **changes))


WRITTEN = {
    "share": 1.0,
    "path": None,
    "pattern": "**/*",
    "field": "text",
    "max_document_chars": 4000,
    "options": {},
}


@pytest.mark.parametrize("kind", ["python-library", "files", "hub", "facts", "problems", "copying"])
def test_defaults_that_an_older_version_wrote_are_read_and_hash_as_they_did(kind):
    written = {"kind": kind} | WRITTEN | ({"path": "x"} if kind in ("files", "hub") else {})
    assert parse(SourceConfig, written, "it").canonical() == written


def test_fields_that_came_later_are_kept_where_they_are_set():
    source = SourceConfig(kind="hub", path="x", name="a", split="validation")
    assert parse(SourceConfig, source.canonical(), "it") == source
    source = SourceConfig(kind="files", path="x", exclude=["*.png"], format="text")
    assert parse(SourceConfig, source.canonical(), "it") == source


def test_more_sources_than_a_byte_counts_keep_their_numbers(tmp_path):
    for count, kind in ((1, np.uint8), (256, np.uint8), (257, np.uint16), (300, np.uint16)):
        shares = {f"s{number}": 1 / count for number in range(count)}
        found = _codes(tmp_path / f"{count}.npy", shares, count, "train")
        assert found.dtype == kind and sorted(found.tolist()) == list(range(count))


def test_a_share_that_comes_to_nothing_is_named():
    sources = {"big": SourceConfig(kind="facts"), "tiny": SourceConfig(kind="facts", share=1e-9)}
    config = CorpusConfig(sources=sources, vocab_size=300, sequence_length=16, train_tokens=640, heldout_tokens=64)
    with pytest.raises(UserError, match=r"sources\.tiny: its share is 1e-09 of 40 training sequences"):
        build_corpus(config, Path("unused-corpus"))
    assert not Path("unused-corpus").exists()


def test_text_too_short_to_hold_any_out_is_refused(tmp_path):
    held = next(word for word in map(str, range(999)) if is_held_out(content_hash(word), 0))
    (tmp_path / "a.txt").write_text("kept" if not is_held_out(content_hash("kept"), 0) else "kept too")
    with pytest.raises(UserError, match="holds no text for the heldout split; expected more of it"):
        list(documents(files(tmp_path), 0, "heldout"))
    (tmp_path / "b.txt").write_text(held)
    assert list(documents(files(tmp_path), 0, "heldout")) == [held]
