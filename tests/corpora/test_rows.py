"""Rows of files: the field that holds the text, whatever the kind of file and packing; what is no text is counted."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import sys
from collections import Counter

import pytest
import zstandard
from row_kinds import KINDS, TEXTS, all_of, arrow, files, lines, read

from stillroom.config import CorpusConfig
from stillroom.corpora import build_corpus, documents, source_identity
from stillroom.corpora.sources import source_kinds as kinds_module
from stillroom.corpora.sources.source_kinds import source_parts
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.tasks import Task, task_texts
from stillroom.types import UserError


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("folder", [False, True])
def test_every_kind_of_file_gives_the_texts_of_its_field(tmp_path, name, folder):
    path = tmp_path / name
    path.write_bytes(KINDS[name]([{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]))
    source = files(tmp_path if folder else path)
    assert Counter(all_of(source)) == Counter(TEXTS)
    assert not set(documents(source, 0, "train")) & set(documents(source, 0, "heldout"))
    assert list(documents(source, 0, "train")) == list(documents(source, 0, "train"))
    assert all_of(files(path, field="id")) != all_of(source)


@pytest.mark.parametrize("name", [name for name in KINDS if "csv" not in name and "tsv" not in name])
def test_a_nested_field_is_named_with_a_dot(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name]([{"id": "x", "a": {"b": {"c": text}, "d": None}} for text in TEXTS]))
    assert Counter(all_of(files(path, field="a.b.c"))) == Counter(TEXTS)


def test_a_name_with_a_dot_is_taken_as_it_stands(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"a.b": text, "a": {"b": "no"}} for text in TEXTS]))
    assert Counter(all_of(files(path, field="a.b"))) == Counter(TEXTS)


@pytest.mark.parametrize("name", ["a.jsonl", "list.json", "a.csv", "a.parquet"])
def test_a_field_that_stands_alone_needs_no_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name]([{"body": text} for text in TEXTS]))
    assert Counter(all_of(files(path))) == Counter(TEXTS)
    with pytest.raises(UserError, match="no field 'other', only body"):
        all_of(files(path, field="other"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "list.json", "a.csv", "a.tsv", "a.parquet", "a.arrow"])
def test_a_field_that_is_missing_ends_in_the_list_of_those_there(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name]([{"id": "x", "body": text} for text in TEXTS]))
    with pytest.raises(UserError, match=r"have no field 'text', only id, body; set field") as error:
        all_of(files(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl", "list.json", "a.jsonl.gz", "a.parquet", "a.arrow"])
def test_rows_without_text_are_left_out_and_counted(tmp_path, name):
    path = tmp_path / name
    rows = [{"id": "x", "text": text} for text in TEXTS] + [{"id": "x", "text": None}] * 3 + [{"id": "y", "text": ""}]
    path.write_bytes(KINDS[name](rows))
    assert read(files(path)) == (TEXTS, RowCount(rows=64, without_text=4))


def test_a_row_that_lacks_the_field_is_one_without_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"id": 1}, *({"text": text} for text in TEXTS), {"id": 2, "text": None}]))
    assert read(files(path)) == (TEXTS, RowCount(rows=62, without_text=2))


def test_a_corpus_tells_how_many_rows_had_no_text(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"text": text * 9} for text in TEXTS] + [{"text": None}] * 7))
    config = CorpusConfig(
        sources={"web": files(path)}, vocab_size=300, sequence_length=16, train_tokens=64, heldout_tokens=16
    )
    with caplog.at_level(logging.WARNING):
        corpus = build_corpus(config, tmp_path / "corpus")
    assert {name: corpus.manifest["rows"]["web"][name] for name in ("rows", "without_text")} == {
        "rows": 67,
        "without_text": 7,
    }
    assert "corpus.sources.web: 7 of the 67 rows read have no text" in caplog.text
    tokens = corpus.train.tokens(range(len(corpus.train)))
    assert "None" not in corpus.tokenizer.decode(tokens.reshape(-1)) and "{" not in corpus.tokenizer.decode(tokens[0])


def wrong(*rows, head=3):
    return lines([{"text": "a"}] * head) + b"".join(row if isinstance(row, bytes) else lines([row]) for row in rows)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", wrong({"text": 4}), r"line 4: field 'text' holds int 4, expected text"),
        ("a.jsonl", wrong({"text": ["a"]}), r"line 4: field 'text' holds list"),
        ("a.jsonl", wrong({"text": {"b": "c"}}), r"line 4: field 'text' holds dict"),
        ("a.jsonl", wrong({"text": True}), r"line 4: field 'text' holds bool True"),
        ("a.jsonl", wrong({"text": 1.5}, head=1500), r"line 1501: field 'text' holds float 1.5"),
        ("a.jsonl", wrong(b'{"text": "\\ud800"}\n'), r"line 4: .* surrogate pair \(U\+D800\)"),
        ("a.jsonl", wrong(b'{"text": "cut'), r"line 4 is not valid JSON"),
        ("a.jsonl", wrong(b"\n\nplain text\n"), r"line 6 is not valid JSON"),
        ("a.jsonl", wrong(b'"a string"\n'), r"line 4 holds str 'a string', expected an object"),
        ("a.jsonl", wrong(b"null\n"), r"line 4 holds NoneType None, expected an object"),
        ("a.jsonl", wrong(b"[" * 100_000 + b"\n"), r"line 4 is not valid JSON"),
        ("a.jsonl", wrong(b'{"a":' * 100_000 + b"\n"), r"line 4 is not valid JSON \(nested too deeply\)"),
        ("a.jsonl", wrong('{"text": "naïve"}\n'.encode("latin-1")), r"line 4 is not UTF-8 \(byte 12 of it\)"),
        ("a.jsonl", lines([{"text": "a"}]).decode().encode("utf-16"), r"line 1 is not UTF-8"),
        ("a.json", b'{\n  "text": "a",\n}\n', r"item 1 is not valid JSON .* one object a line, or one list"),
        ("a.json", b'{\n  "text": "a"\n}\n{"text"', r"item 2 is not valid JSON"),
        ("a.json", b'{"data": [{"text": "a"}]}\n', r"field 'data' holds list"),
        ("a.json", b'[{"text": "a"}] {', r"item 2 is not valid JSON \(something follows the list\)"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', r"item 2 is not valid JSON \(no comma"),
        ("a.json", b'[{"text": "na\xefve"}]', r"is not UTF-8"),
        ("a.json", b'[{"text": "a"}, 5]', r"item 2 holds int 5, expected an object"),
        ("a.json", b'[{"text": "a"}, {"text": 5}]', r"item 2: field 'text' holds int 5"),
        ("a.json", b'[{"text": "a"},', r"item 2 is not valid JSON"),
        ("a.csv", b"id,text\n1,a\n2,b, c\n", r"line 3 has 3 cells, expected the 2"),
        ("a.csv", b"id,text\n1,a\n2\n", r"line 3 has 1 cells, expected the 2"),
        ("a.csv", b'id,text\n1,"a\n2,b\n', r"is not valid CSV"),
        ("a.csv", "id,text\n1,naïve\n".encode("latin-1"), r"is not UTF-8"),
        ("a.csv", b"id;text\n1;a\n", r"no field 'text', only id;text; if ';' parts its columns, save it"),
        ("a.csv", b"text,text\n1,a\n", r"has 2 columns 'text', expected one"),
        ("a.csv", b"id\ttext\n1\ta\n", r"no field 'text', only id\\ttext"),
        ("a.jsonl.gz", gzip.compress(wrong({}), mtime=0)[:-10], r"is damaged or no packed file"),
        ("a.jsonl.gz", wrong({}), r"is damaged or no packed file"),
        ("a.jsonl.xz", lzma.compress(wrong({}))[:-10], r"is damaged or no packed file"),
        ("a.jsonl.xz", wrong({}), r"is damaged or no packed file"),
        ("a.jsonl.bz2", bz2.compress(wrong({}))[:-10], r"is damaged or no packed file"),
        ("a.jsonl.bz2", wrong({}), r"is damaged or no packed file"),
        ("a.jsonl.zst", zstandard.compress(wrong({}, head=999))[:-3], r"is damaged or no packed file .*inside a frame"),
        ("a.jsonl.zst", wrong({}), r"is damaged or no packed file"),
        ("a.parquet", b"PAR1 no", r"pyarrow"),
        ("a.parquet", b"", r"pyarrow"),
        ("a.arrow", b"ARROW1 no", r"pyarrow"),
        ("a.arrow", b"no", r"pyarrow"),
    ],
)
def test_rows_that_are_none_end_in_one_sentence(tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    for place in (path, tmp_path):
        with pytest.raises(UserError, match=words) as error:
            all_of(files(place))
        assert str(path) in str(error.value) or str(place) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", b"", r"holds no text for the train split;"),
        ("a.csv", b"", r"holds no text for the train split;"),
        ("a.csv", b"text\n", r"holds no text for the train split;"),
        ("a.json", b"[]", r"holds no text for the train split;"),
        ("a.jsonl", lines([{"text": None}, {"text": ""}]), r"in 2 rows, of which 2 have no text"),
        ("a.parquet", lambda: arrow("parquet", [{"text": None}]), r"in 1 rows, of which 1 have no text"),
    ],
)
def test_files_without_any_text_are_refused(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data() if callable(data) else data)
    with pytest.raises(UserError, match=words):
        list(documents(files(tmp_path / name), 0, "train"))


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "file.arrow", "a.jsonl.gz", "a.jsonl.zst", "a.jsonl.xz"])
def test_a_file_that_is_cut_off_is_never_taken_for_a_short_one(tmp_path, name, cut):
    data = KINDS[name]([{"text": text * 50} for text in TEXTS])
    (tmp_path / name).write_bytes(data[: int(cut * len(data))])
    with pytest.raises(UserError, match=name):
        all_of(files(tmp_path / name))


@pytest.mark.parametrize("value", [4, ["a"], b"bytes", {"b": "c"}])
def test_a_table_of_other_than_text_is_refused(tmp_path, value):
    (tmp_path / "a.parquet").write_bytes(arrow("parquet", [{"text": value}]))
    with pytest.raises(UserError, match=r"row 1: field 'text' holds"):
        all_of(files(tmp_path / "a.parquet"))


def test_tables_without_pyarrow_name_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'stillroom\[parquet\]'"):
        all_of(files(tmp_path / "a.parquet"))


def test_texts_and_rows_together_are_refused_with_three_ways_out(tmp_path):
    for n in range(30):
        (tmp_path / f"{n}.md").write_text(f"prose {n}")
    (tmp_path / "data.jsonl").write_bytes(lines([{"text": text} for text in TEXTS]))
    with pytest.raises(UserError, match=r"data\.jsonl: holds rows .*expected one or the other"):
        source_identity(files(tmp_path))
    assert Counter(all_of(files(tmp_path, pattern="**/*.jsonl"))) == Counter(TEXTS)
    assert len(all_of(files(tmp_path, exclude=["**/*.jsonl"]))) == 30
    as_text = "".join(all_of(files(tmp_path, format="text")))
    assert '{"text": ' in as_text and "prose 3" in as_text


def test_a_name_that_says_nothing_is_read_as_rows_where_it_is_asked_for(tmp_path):
    (tmp_path / "log").write_bytes(lines([{"text": text} for text in TEXTS]))
    (tmp_path / "log.gz").write_bytes(gzip.compress(lines([{"text": "in the packed one"}]), mtime=0))
    assert Counter(all_of(files(tmp_path, format="rows"))) == Counter([*TEXTS, "in the packed one"])


def test_rows_of_files_are_mixed_and_long_texts_cut(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": f"{n:04d}"} for n in range(2000)]))
    monkeypatch.setattr(kinds_module, "_PART_BYTES", 400)
    order = [int(text) for text in documents(files(tmp_path), 0, "train")]
    assert order != sorted(order) and len(set(order)) == len(order)
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": "é" * 950 + str(n)} for n in range(40)]))
    found = documents(files(tmp_path, max_document_chars=400), 0, "train")
    assert {len(text) for text in found} <= {400, 151, 152}


def test_a_csv_cell_may_be_as_long_as_a_book(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,text\n1," + b"x" * 1_000_000 + b"\n")
    assert sum(map(len, documents(files(tmp_path), 0, "train"))) == 1_000_000


@pytest.mark.parametrize("stretch", [300, 5_000, 10**9])
def test_rows_of_a_packed_file_are_counted_once_over_its_stretches(tmp_path, stretch):
    rows = [{"text": "" if number % 10 == 3 else f"row {number} " * 20} for number in range(500)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(rows), mtime=0))
    source = files(tmp_path / "a.jsonl.gz")
    (part,) = source_parts(source, 0, 1 << 20)
    found, told = [], RowCount()
    starts = range(0, 500 * 200, stretch)
    for number, start in enumerate(starts):
        end = None if number == len(starts) - 1 else start + stretch
        task = Task("a", "train", number, (part,), (start, end))
        count = RowCount()
        found += [text for text, _ in task_texts(task, source, 0, count)]
        told += count
    assert (told.rows, told.without_text) == (500, 50)
    whole = Task("a", "train", 0, (part,))
    assert found == [text for text, _ in task_texts(whole, source, 0, RowCount())]
