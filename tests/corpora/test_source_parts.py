"""Parts of files: together they are the file, whatever their size, and each is read without the rest."""

from __future__ import annotations

import dataclasses
import gzip
import json
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_kinds import KINDS, TEXTS, arrow, files, lines, read

from stillroom.corpora import documents, source_identity
from stillroom.corpora.sources.csv_rows import csv_cuts
from stillroom.corpora.sources.holding_out import content_hash, is_held_out
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.source_kinds import source_parts, source_stamps, source_texts
from stillroom.corpora.sources.table_rows import RowCount

ROWS = [{"id": str(n), "text": f"{n} {text}" + 'a, "b"\r\nc' * (n % 9)} for n, text in enumerate(TEXTS * 5)]
WANTED = [row["text"] for row in ROWS]


@pytest.mark.parametrize("size", [200, 20_000, 1 << 30])
@pytest.mark.parametrize("name", KINDS)
def test_parts_of_any_size_give_every_row_once_and_in_order(tmp_path, name, size):
    (tmp_path / name).write_bytes(KINDS[name](ROWS))
    assert read(files(tmp_path), size) == (WANTED, RowCount(rows=len(ROWS)))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.arrow", "file.arrow"])
def test_files_that_can_be_cut_are(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name](ROWS))
    source = files(tmp_path)
    parts = source_parts(source, 0, 4000)
    assert len(parts) >= 5 and parts == source_parts(source, 7, 4000)
    assert all(part == Part(**json.loads(json.dumps(dataclasses.asdict(part)))) for part in parts)
    texts = [list(source_texts(source, part, RowCount())) for part in parts]
    for number in (3, 1):  # a part is read by itself and again
        assert list(source_texts(source, parts[number], RowCount())) == texts[number]
    assert all(texts) or name in ("a.jsonl",)


@settings(max_examples=150, deadline=None)  # opens files
@given(
    st.lists(st.text('ab"",\n\r x', max_size=9), min_size=1, max_size=30),
    st.integers(1, 60),
    st.integers(1, 40),
    st.booleans(),
)
def test_csv_is_cut_only_where_rows_end(tmp_path_factory, texts, size, chunk, all_quoted):
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL)
        writer.writerows([["id", "text"], *([str(n), text] for n, text in enumerate(texts))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stillroom.corpora.sources.csv_rows._CHUNK", chunk)
        cuts = csv_cuts(str(path), ",", size)
    data = path.read_bytes()
    rows = list(csv.reader(data.decode().splitlines(keepends=True))) if "\r" not in "".join(texts) else None
    whole = [text for text in texts if text and not text.isspace()]
    assert read(files(path), size)[0] == whole
    assert cuts == sorted(set(cuts)) and all(data[cut - 1 : cut] == b"\n" for cut in cuts)
    assert rows is None or len(rows) == len(texts) + 1


@pytest.mark.parametrize("text", ['5" tall', 'a ""b"" c', 'x"'])
def test_csv_whose_quotes_tell_nothing_is_read_whole(tmp_path, text):
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{n},{text} {n}\n" for n in range(200)))
    source = files(tmp_path)
    assert len(source_parts(source, 0, 100)) == 1
    assert read(source, 100)[0] == [f"{text} {n}" for n in range(200)]


def test_texts_are_held_out_by_content_so_that_copies_stand_on_one_side(tmp_path):
    texts = [f"text {n % 150}" for n in range(600)]
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": text} for text in texts[:300]]))
    (tmp_path / "b.parquet").write_bytes(arrow("parquet", [{"text": text} for text in texts[300:]]))
    for seed in (0, 1):
        train, heldout = (list(documents(files(tmp_path), seed, split)) for split in ("train", "heldout"))
        assert sorted(train + heldout) == sorted(texts) and not set(train) & set(heldout)
        assert set(heldout) == {text for text in texts if is_held_out(content_hash(text), seed)}
    assert 850 < sum(is_held_out(content_hash(str(n)), 0) for n in range(20_000)) < 1150


def test_stamps_and_identity_follow_the_files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": "a"}]))
    source = files(tmp_path)
    before, stamps = source_identity(source), source_stamps(source)
    assert source_stamps(source) == stamps and len(stamps) == 1
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": "b"}]) + b"\n")
    assert source_identity(source) != before and source_stamps(source) != stamps


def test_a_file_is_hashed_once(tmp_path, monkeypatch):
    from stillroom.corpora.sources import source_kinds

    (tmp_path / "a.jsonl").write_bytes(lines([{"text": "a"}]))
    first = source_identity(files(tmp_path))
    monkeypatch.setattr(source_kinds, "file_hash", None)
    assert source_identity(files(tmp_path)) == first


# A part costs its own bytes and little memory, whatever the file.


def test_a_part_reads_little_more_than_its_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("a line of text that is not very long\n" * 500_000)
    (tmp_path / "b.jsonl").write_bytes(lines([{"text": "word " * 40}]) * 80_000)

    def bytes_read():
        with open("/proc/self/io") as counters:
            return int(counters.read().split("rchar: ")[1].split()[0])

    for name in ("a.txt", "b.jsonl"):
        source = files(tmp_path / name)
        before = bytes_read()
        parts = source_parts(source, 0, 1 << 20)
        assert bytes_read() - before < 1 << 20 and len(parts) > 15
        before = bytes_read()
        assert sum(1 for part in parts[3:6] for _ in source_texts(source, part, RowCount()))
        assert bytes_read() - before < 4.5 * (1 << 20)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "list.json", "a.csv", "a.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    def peak(count):
        folder = tmp_path / str(count)
        folder.mkdir()
        rows = [{"id": str(n), "text": f"{n} " + "word " * 200} for n in range(count)]
        if "txt" in name:
            data = "".join(row["text"] + "\n" for row in rows).encode()
            data = gzip.compress(data, 1) if name.endswith("gz") else data
        else:
            data = KINDS[name](rows)
        (folder / name).write_bytes(data)
        del rows, data
        source = files(folder)
        parts = source_parts(source, 0, 1 << 20)
        tracemalloc.start()
        for part in parts:
            for _ in source_texts(source, part, RowCount()):
                pass
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    assert peak(12_000) < peak(4_000) + 3_000_000  # 12 MB and 4 MB of text


PEAK = """
import re, sys
from stillroom.config import SourceConfig
from stillroom.corpora.sources.source_kinds import source_parts, source_texts
from stillroom.corpora.sources.table_rows import RowCount
source = SourceConfig(kind="files", path=sys.argv[1])
sizes = [len(text) for part in source_parts(source, 0, 1 << 20) for text in source_texts(source, part, RowCount())]
print(*sizes, int(re.search("VmHWM: *(.*) kB", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_rows_of_fifty_megabytes_are_read_one_at_a_time(tmp_path, name):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = ["short", "a long text. " * 4_000_000, "short", "a longer text. " * 4_000_000]
    if name == "a.parquet":
        table = pyarrow.table({"text": texts})
        parquet.write_table(table, tmp_path / name, use_dictionary=False, write_batch_size=1)
    else:
        (tmp_path / name).write_bytes(lines([{"text": text} for text in texts]))
    found = subprocess.run([sys.executable, "-c", PEAK, tmp_path / name], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    *sizes, mebibytes = map(int, found.stdout.split())
    assert sizes == list(map(len, texts)) and mebibytes <= 600
