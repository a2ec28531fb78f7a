"""Files of rows of every kind, and the texts of a source as they are read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma

import pytest
import zstandard

from stillroom.config import SourceConfig
from stillroom.corpora.sources.source_kinds import source_parts, source_texts
from stillroom.corpora.sources.table_rows import RowCount

TEXTS = [f'text {n}: é ☕, "quoted"\nand a second line' for n in range(60)]


def files(path, **changes):
    return SourceConfig(kind="files", path=str(path), **changes)


def all_of(source):
    """Every text of both splits, in order."""
    return read(source)[0]


def read(source, size=1 << 20):
    """The texts of all parts in order, and what was counted."""
    count = RowCount()
    return [text for part in source_parts(source, 0, size) for text in source_texts(source, part, count)], count


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def arrow(kind, rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    table = pyarrow.Table.from_pylist(rows)
    stream = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, stream, row_group_size=7)
    elif kind == "feather":
        feather.write_feather(table, stream)
    else:
        with (pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream)(stream, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    return stream.getvalue()


def separated(rows, mark):
    import csv

    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mark)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue().encode()


def _long(data):
    """Packed so that unpacking needs more memory than the library takes by itself (``zstd --long=31``)."""
    settings = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    return packer.compress(data) + packer.flush()


KINDS = {
    "a.jsonl": lines,
    "a.JSONL": lines,
    "a.ndjson": lines,
    "a.json": lines,
    "list.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "mark.jsonl": lambda rows: b"\xef\xbb\xbf" + lines(rows),
    "crlf.jsonl": lambda rows: b"\n" + lines(rows).replace(b"\n", b"\r\n") + b"\r\n",
    "open.jsonl": lambda rows: lines(rows).rstrip(),
    "a.jsonl.gz": lambda rows: gzip.compress(lines(rows), mtime=0),
    "a.json.gz": lambda rows: gzip.compress(lines(rows), mtime=0),
    "two.jsonl.gz": lambda rows: gzip.compress(lines(rows[:9]), mtime=0) + gzip.compress(lines(rows[9:])),
    "a.jsonl.xz": lambda rows: lzma.compress(lines(rows)),
    "a.jsonl.bz2": lambda rows: bz2.compress(lines(rows)),
    "a.jsonl.zst": lambda rows: zstandard.compress(lines(rows)),
    "two.jsonl.zst": lambda rows: zstandard.compress(lines(rows[:9])) + zstandard.compress(lines(rows[9:])),
    "long.jsonl.zst": lambda rows: _long(lines(rows)),
    "a.csv": lambda rows: separated(rows, ","),
    "mark.csv": lambda rows: b"\xef\xbb\xbf" + separated(rows, ","),
    "a.tsv": lambda rows: separated(rows, "\t"),
    "a.csv.zst": lambda rows: zstandard.compress(separated(rows, ",")),
    "a.parquet": lambda rows: arrow("parquet", rows),
    "a.arrow": lambda rows: arrow("stream", rows),
    "file.arrow": lambda rows: arrow("file", rows),
    "a.feather": lambda rows: arrow("feather", rows),
}
