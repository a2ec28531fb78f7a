"""What a file holds is known by its content where its name says nothing or something else; never JSON lines as text."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
from collections import Counter

import pytest
import zstandard
from row_kinds import KINDS, TEXTS, all_of, files, lines

from stillroom.corpora import source_identity
from stillroom.corpora.sources.file_formats import format_of
from stillroom.types import UserError

PACKED = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
ROWS = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
FORMS = ("a.jsonl", "list.json", "a.csv", "a.tsv", "a.parquet", "a.arrow", "file.arrow")


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", FORMS)
def test_every_kind_is_read_with_every_packing(tmp_path, name, packing):
    path = tmp_path / f"{name}{packing}"
    path.write_bytes(PACKED[packing](KINDS[name](ROWS)))
    assert all_of(files(path)) == TEXTS


@pytest.mark.parametrize("packing", PACKED)
def test_text_is_read_with_every_packing(tmp_path, packing):
    text = "".join(f"line {number}, é☕\r\n" for number in range(9000))
    path = tmp_path / f"a.txt{packing}"
    path.write_bytes(PACKED[packing](codecs.BOM_UTF8 + text.encode()))
    found = all_of(files(path))
    assert "".join(found) == text and max(map(len, found)) <= 4000 and len(found) > 30
    assert all_of(files(tmp_path)) == found


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "file.arrow", "a.arrow"])
@pytest.mark.parametrize("called", ["part-00000", "data.txt", "a.b.md", "ключ данные"])
def test_a_name_that_says_nothing_or_lies_is_seen_through(tmp_path, name, packing, called):
    path = tmp_path / called
    path.write_bytes(PACKED[packing](KINDS[name](ROWS)))
    assert all_of(files(path)) == TEXTS == all_of(files(tmp_path))


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("a.parquet", "a.jsonl"),
        ("a.csv", "a.jsonl"),
        ("a.json", "a.parquet"),
        ("a.jsonl", "a.parquet"),
        ("a.arrow", "a.parquet"),
        ("a.parquet", "file.arrow"),
        ("a.jsonl", "list.json"),
        ("a.json", "a.jsonl"),
    ],
)
def test_a_name_of_another_kind_of_rows_is_seen_through(tmp_path, called, name):
    (tmp_path / called).write_bytes(KINDS[name](ROWS))
    assert all_of(files(tmp_path)) == TEXTS


@pytest.mark.parametrize(
    ("called", "data", "kind"),
    [
        ("a.txt", b"prose\nand more\n", "text"),
        ("a.txt", b'{"the only line": "is an object"}\n', "text"),
        ("a.txt", b'{"a": 1}\nand prose after it\n', "text"),
        ("a.txt", b"{ not json }\n{ at all }\n", "text"),
        ("a.txt", b"PAR1 is how such files begin\n", "text"),
        ("a.txt", b"[1, 2]\n[3, 4]\n", "text"),
        ("a.txt", codecs.BOM_UTF8 + b'{"a": "b"}\n\n{"a": "c"}\n', "jsonl"),
        ("a.txt", b'{"a": "b"}\r\n{"a": "' + b"c" * 100_000 + b'"}\r\n', "jsonl"),
        ("a.txt", b'{"a": "' + b"c" * 100_000 + b'"}\n{"a": "b"}\n', "jsonl"),
        ("a.txt", b'{"a": "' + b"c" * 100_000 + b'", "b"}', "text"),
        ("a.txt", b"{ " + b"c" * 100_000, "text"),
        ("a.txt", b"", "empty"),
        ("a.jsonl", b"", "jsonl"),
        ("a.jsonl", b"plain text\n", "jsonl"),
        ("a.jsonl", b'{"a": "' + b"c" * 100_000, "jsonl"),
        ("A.JSONL", b'{"a": "b"}\n', "jsonl"),
        ("a.json", b'{"a": "b"}\n', "jsonl"),
        ("a.json", b'{\n"a": "b"\n}\n', "json"),
        ("a.json", b'[{"a": "b"}]', "json"),
        ("a.csv", b"a,b\n", "csv"),
    ],
)
def test_what_a_file_holds(tmp_path, called, data, kind):
    path = tmp_path / called
    path.write_bytes(data)
    assert format_of(str(path), "auto").kind == kind


def test_a_file_that_is_written_anew_is_looked_at_anew(tmp_path):
    path = tmp_path / "a"
    path.write_text("prose")
    assert format_of(str(path), "auto").kind == "text"
    path.write_bytes(lines(ROWS))
    assert format_of(str(path), "auto").kind == "jsonl"


def test_empty_files_go_with_rows_and_with_text(tmp_path):
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.parquet").write_bytes(KINDS["a.parquet"](ROWS))
    assert Counter(all_of(files(tmp_path))) == Counter(TEXTS * 2)


def test_rows_among_text_are_told_by_content_too(tmp_path):
    (tmp_path / "a.md").write_text("prose")
    (tmp_path / "b").write_bytes(lines(ROWS))
    with pytest.raises(UserError, match=r"b: holds rows .*expected one or the other"):
        source_identity(files(tmp_path))


@pytest.mark.parametrize("name", ["data [v2]/*.jsonl", "data [v2]/a b\nc.jsonl", "data [v2]", "*/*.jsonl", "d*"])
def test_patterns_in_a_path_and_names_with_signs_are_understood(tmp_path, name):
    folder = tmp_path / "data [v2]"
    folder.mkdir()
    (folder / "a b\nc.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "e").mkdir()
    if name == "d*":
        name = "d*/*"
    assert all_of(files(tmp_path / name)) == TEXTS


def test_a_pattern_in_a_path_leaves_no_place_for_another(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    with pytest.raises(UserError, match="is a pattern by itself, beside which pattern has no effect"):
        source_identity(files(tmp_path / "*.jsonl", pattern="**/*.txt"))
    with pytest.raises(UserError, match=r"holds no file that matches '\*\.csv'"):
        source_identity(files(tmp_path / "*.csv"))
    (tmp_path / "b.jsonl").write_bytes(lines([{"text": "b"}]))
    assert all_of(files(tmp_path / "*.jsonl", exclude=["a.*"])) == ["b"]
