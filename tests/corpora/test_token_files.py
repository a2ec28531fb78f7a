"""Files of token ids that others wrote: documents keep their ends, and every bad file is one sentence."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stillroom.corpora.exchange import token_file
from stillroom.corpora.exchange.datatrove import open_datatrove, write_datatrove
from stillroom.corpora.exchange.id_documents import IdDocuments, check_ids, split_documents
from stillroom.corpora.exchange.id_rows import id_rows
from stillroom.corpora.exchange.megatron import open_megatron, write_megatron
from stillroom.corpora.exchange.raw_ids import check_marked, open_raw
from stillroom.corpora.sources.part import Part
from stillroom.types import UserError

U16, U32 = np.dtype("<u2"), np.dtype("<u4")
DOCUMENTS = [[5, 6, 7], [8], [9, 10, 11, 12], [], [13] * 40, [14, 15]]
BOS, EOS = 0, 1


def batch(documents: list[list[int]]) -> IdDocuments:
    flat = [i for document in documents for i in document]
    return IdDocuments(np.array(flat, np.uint32), np.cumsum([len(one) for one in documents], dtype=np.int64))


def lists(batches) -> list[list[int]]:
    return [part.tolist() for one in batches for part in one]


def marked(documents: list[list[int]]) -> list[list[int]]:
    return [[BOS, *document, EOS] for document in documents]


WANTED = [one for one in DOCUMENTS if one]


@pytest.fixture(params=[1 << 20, 7, 3], ids=lambda size: f"{size} tokens at once")
def _at_once(request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "TOKENS_AT_ONCE", request.param)


def test_marks_end_documents_wherever_they_stand() -> None:
    found = split_documents(np.array([0, 5, 6, 1, 0, 7, 1, 1, 8, 9], np.uint16), np.array([9, 10]), (0, 1))
    assert lists([found]) == [[5, 6], [7], [8], [9]]


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("size", [300, 65_499, 65_500, 65_536, 65_537, 128_256])
def test_what_is_written_for_others_is_read_again(size: int, tmp_path: Path) -> None:
    """Ids of every width; whole, and in parts of any documents."""
    parts = [batch(marked(DOCUMENTS[:2])), batch(marked([*DOCUMENTS[2:], [size - 1]]))]
    wanted = [*WANTED, [size - 1]]
    assert write_megatron(tmp_path / "a.bin", parts, size) == write_datatrove(tmp_path / "a.ds", parts, size, "x")
    for file in (open_megatron(tmp_path / "a.bin"), open_datatrove(tmp_path / "a.ds", U16)):
        assert file.num_documents == len(DOCUMENTS) + 1
        assert lists(file.indexed(0, file.num_documents, (BOS, EOS))) == wanted
        one_by_one = (lists(file.indexed(i, i + 1, (BOS, EOS))) for i in range(file.num_documents))
        assert [document for found in one_by_one for document in found] == wanted
        assert list(file.indexed(2, 2, (BOS, EOS))) == []


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("marks", [(EOS,), (BOS, EOS)], ids=["eos", "bos and eos"])
@pytest.mark.parametrize("step", [1, 5, 64, 1000])
def test_raw_files_give_every_document_once_however_they_are_cut(marks, step: int, tmp_path: Path) -> None:
    flat = [i for document in DOCUMENTS for i in ([BOS] if BOS in marks else []) + document + [EOS]]
    np.array([*flat, 99], U16).tofile(tmp_path / "a.bin")
    file = open_raw(tmp_path / "a.bin", U16)
    check_marked(file, marks, 300)
    size = len(file.ids)
    parts = (file.marked(start, min(start + step, size), marks) for start in range(0, size, step))
    assert [one for part in parts for one in lists(part)] == [*WANTED, [99]]


def test_a_document_too_long_for_memory_is_cut_at_the_same_places_by_every_part(monkeypatch, tmp_path: Path) -> None:
    for name in ("TOKENS_AT_ONCE", "LONGEST"):
        monkeypatch.setattr(token_file, name, 10)
    np.arange(2, 102, dtype=U16).tofile(tmp_path / "a.bin")
    file = open_raw(tmp_path / "a.bin", U16)
    found = [one for start in range(0, 100, 7) for one in lists(file.marked(start, min(100, start + 7), (EOS,)))]
    assert [i for one in found for i in one] == list(range(2, 102)) and max(map(len, found)) <= 20
    write_datatrove(tmp_path / "a.ds", [batch([list(range(2, 102))])], 300, "x")
    assert [len(one) for one in lists(open_datatrove(tmp_path / "a.ds", U16).indexed(0, 1, (EOS,)))] == [10] * 10


@pytest.mark.parametrize("kind", ["<u2", ">u4", "<i8", "u1"])
def test_an_array_of_numpy_says_itself_what_it_holds(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[5, 6, EOS], [7, 8, EOS]], kind))
    assert lists(open_raw(tmp_path / "a.npy", U32).marked(0, 6, (EOS,))) == [[5, 6], [7, 8]]


@pytest.mark.parametrize(("magic", "kind"), [(20240520, "<u2"), (20240801, "<u4")])
def test_the_header_of_llm_c_is_no_text(magic: int, kind: str, tmp_path: Path) -> None:
    ids = np.array([5, 6, EOS, 7], kind).tobytes()
    (tmp_path / "a.bin").write_bytes(struct.pack("<3i", magic, 1, 4).ljust(1024, b"\0") + ids)
    assert lists(open_raw(tmp_path / "a.bin", U16).marked(0, 4, (EOS,))) == [[5, 6], [7]]
    (tmp_path / "a.bin").write_bytes((tmp_path / "a.bin").read_bytes()[:-4])
    with pytest.raises(UserError, match="header tells of 4 ids, it holds"):
        open_raw(tmp_path / "a.bin", U16)


def test_several_sequences_are_one_document_of_megatrons(tmp_path: Path) -> None:
    np.array([5, 6, 7, 8, 9], "<i4").tofile(tmp_path / "a.bin")
    index(tmp_path, lengths=[2, 1, 2], starts=[0, 8, 12], documents=[0, 2, 3])
    assert lists(open_megatron(tmp_path / "a.bin").indexed(0, 2, (EOS,))) == [[5, 6, 7], [8, 9]]
    index(tmp_path, lengths=[2, 1, 2], starts=[0, 8, 12], documents=[0])  # none was ever closed
    assert lists(open_megatron(tmp_path / "a.bin").indexed(0, 3, (EOS,))) == [[5, 6], [7], [8, 9]]


def index(
    folder: Path, *, lengths, starts, documents, code: int = 4, magic: bytes = b"MMIDIDX\0\0", cut: int = 0
) -> None:
    head = struct.pack("<9sQBQQ", magic, 1, code, len(lengths), len(documents))
    columns = ((lengths, "<i4"), (starts, "<i8"), (documents, "<i8"))
    data = head + b"".join(np.array(values, kind).tobytes() for values, kind in columns)
    (folder / "a.idx").write_bytes(data[: len(data) - cut])


BAD_MEGATRON = {
    "cut off": ({"cut": 3}, "tells of 3 sequences and 3 document places and has"),
    "of another kind of ids": ({"code": 6}, "its ids are of dtype 6, expected whole numbers"),
    "no index": ({"magic": b"something"}, "is no index of Megatron's"),
    "an old index": ({"magic": b"TNTIDX\0\0\0"}, "of the format before 2020"),
    "of another file": ({"code": 8}, r"tells of 16 bytes of ids, a\.bin has 20"),
    "too long a sequence": ({"lengths": [2, 1, 3]}, r"tells of 24 bytes of ids, a\.bin has 20"),
    "a gap": ({"starts": [0, 4, 12]}, r"sequences 0 to 3 do not follow one another"),
    "a negative length": (
        {"lengths": [4, -1, 2], "starts": [0, 16, 12]},
        r"sequences 0 to 3 do not follow one another",
    ),
    "documents out of order": ({"documents": [0, 5, 3]}, "sequences that are not there or not in order"),
    "a negative document": ({"documents": [0, -2, 3]}, "sequences that are not there or not in order"),
    "documents that end early": ({"documents": [0, 1, 2]}, "its documents are sequences 0 to 2, expected 0 to 3"),
    "no sequence": ({"lengths": [], "starts": [], "documents": [0]}, "one sequence at least"),
}


@pytest.mark.parametrize("case", BAD_MEGATRON)
def test_an_index_that_lies_is_a_sentence(case: str, tmp_path: Path) -> None:
    np.array([5, 6, 7, 8, 9], "<i4").tofile(tmp_path / "a.bin")
    changed, sentence = BAD_MEGATRON[case]
    index(tmp_path, **({"lengths": [2, 1, 2], "starts": [0, 8, 12], "documents": [0, 2, 3]} | changed))
    with pytest.raises(UserError, match=sentence) as raised:
        file = open_megatron(tmp_path / "a.bin")
        list(file.indexed(0, file.num_documents, (EOS,)))
    assert "a.idx" in str(raised.value)


def _ds(folder: Path, ids: bytes, ends: list[int] | None, metadata: str | None) -> Path:
    (folder / "a.ds").write_bytes(ids)
    if ends is not None:
        (folder / "a.ds.index").write_bytes(np.array(ends, "<u8").tobytes())
    if metadata is not None:
        (folder / "a.ds.metadata").write_text(metadata)
    return folder / "a.ds"


SIX = np.arange(5, 11, dtype=U16).tobytes()
BAD_DATATROVE = {
    "cut off": (SIX[:-2], [2, 6], "gpt2|2\n6\n6 T", "expected 6 ids of 2 bytes"),
    "cut inside an id": (SIX[:-1], None, None, r"11 bytes, which is no whole number of uint16 ids"),
    "cut off without metadata": (SIX[:-1], [2, 6], None, "expected 6 ids of 1 bytes"),
    "of another width": (SIX, [2, 6], "gpt2|4\n6", "expected 6 ids of 4 bytes"),
    "an index of another file": (SIX, [2, 5], "gpt2|2\n6", "its index ends at 5"),
    "an index out of order": (SIX, [4, 2, 6], None, "do not end one after another"),
    "an index cut off": (SIX, [2], None, "expected 2 ids of 6 bytes"),
    "an index past the end": (SIX, [2, 9, 6], None, "do not end one after another within the 6 ids"),
    "metadata that is none": (SIX, [2, 6], "hello", "does not tell the bytes of an id"),
    "empty": (b"", None, None, "is empty"),
    "an empty index": (SIX, [], None, r"a\.ds\.index: is empty"),
}


@pytest.mark.parametrize("case", BAD_DATATROVE)
def test_a_bad_file_of_datatroves_is_a_sentence(case: str, tmp_path: Path) -> None:
    ids, ends, metadata, sentence = BAD_DATATROVE[case]
    path = _ds(tmp_path, ids, ends, metadata)
    with pytest.raises(UserError, match=sentence) as raised:
        file = open_datatrove(path, U16)
        list(file.indexed(0, file.num_documents, (EOS,)))
    assert "a.ds" in str(raised.value)


def test_a_file_of_datatroves_needs_neither_index_nor_metadata(tmp_path: Path) -> None:
    path = _ds(tmp_path, np.array([5, 6, EOS, 70_000], U32).tobytes(), [3, 4], None)
    assert lists(open_datatrove(path, U16).indexed(0, 2, (EOS,))) == [[5, 6], [70_000]]
    (tmp_path / "a.ds.index").unlink()
    assert lists(open_datatrove(path, U32).marked(0, 4, (EOS,))) == [[5, 6], [70_000]]


def _bad_npy(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


BAD_RAW: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "cannot be read"),
    "empty": (lambda path: path.touch(), "is empty"),
    "half an id": (lambda path: path.write_bytes(b"abc"), "3 bytes, which is no whole number of uint16 ids"),
    "of uint32": (lambda path: np.array([5, 6, 7], U32).tofile(path), "of uint32; set options.dtype to uint32"),
    "numbers with a point": (lambda path: _save(path, np.ones(4)), "holds 4 numbers of float64"),
    "objects": (lambda path: _save(path, np.array([None])), "is no array that numpy reads"),
    "an array cut off": (lambda path: _save(path, np.arange(40), 8), "is no array that numpy reads"),
    "a header cut off": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "is no array that numpy reads"),
    "an empty array": (lambda path: _save(path, np.arange(0)), "holds 0 numbers"),
}  # fmt: skip


def _save(path: Path, values: np.ndarray, cut: int = 0) -> None:
    with path.open("wb") as stream:
        np.save(stream, values)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])


@pytest.mark.parametrize("case", BAD_RAW)
def test_a_bad_raw_file_is_a_sentence(case: str, tmp_path: Path) -> None:
    make, sentence = BAD_RAW[case]
    make(tmp_path / "a.bin")
    with pytest.raises(UserError, match=sentence) as raised:
        open_raw(tmp_path / "a.bin", U16)
    assert str(tmp_path / "a.bin") in str(raised.value)


def test_a_raw_file_without_marks_is_refused_and_the_ids_named(tmp_path: Path) -> None:
    np.array([5, 6, 7], U16).tofile(tmp_path / "a.bin")
    with pytest.raises(UserError, match="holds no id 0 or 1 among its first 3"):
        check_marked(open_raw(tmp_path / "a.bin", U16), (0, 1), 300)


@pytest.mark.parametrize(
    ("ids", "place", "value"), [([1, 2, 300], 12, 300), ([-1, 5], 10, -1), ([2**32 - 1], 10, 2**32 - 1)]
)
def test_ids_that_the_tokenizer_does_not_have_are_named(ids: list[int], place: int, value: int) -> None:
    with pytest.raises(UserError, match=rf"a\.bin: token {place} is {value}, expected an id below 300"):
        check_ids(np.array(ids, np.int64), 300, Path("a.bin"), 10)


pa = pytest.importorskip("pyarrow")


def _table(path: Path, columns: dict[str, object], kind: str, rows_at_once: int = 2) -> Path:
    from pyarrow import parquet

    table = pa.table(columns)
    if kind == "parquet":
        parquet.write_table(table, path / "a.parquet", row_group_size=rows_at_once)
        return path / "a.parquet"
    make = pa.ipc.new_file if kind == "arrow file" else pa.ipc.new_stream
    with make(str(path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, rows_at_once)
    return path / "a.arrow"


LISTS = {
    "lists": lambda rows: pa.array(rows, pa.list_(pa.int32())),
    "large lists": lambda rows: pa.array(rows, pa.large_list(pa.uint16())),
    "lists of int64": lambda rows: pa.array(rows, pa.list_(pa.int64())),
}


def rows_of(path: Path, field: str, part: Part | None = None) -> list[list[int]]:
    return lists(id_rows(part or Part(str(path)), field, (EOS,), 300))


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
@pytest.mark.parametrize("of", LISTS)
def test_rows_with_ids_are_documents(kind: str, of: str, tmp_path: Path) -> None:
    rows = LISTS[of]([[5, 6], None, [], [7, EOS, 8], [9]])
    path = _table(tmp_path, {"id": ["a"] * 5, "input_ids": rows}, kind)
    assert rows_of(path, "text") == [[5, 6], [7], [8], [9]]
    assert rows_of(path, "text", Part(str(path), 1, 3, "groups")) == [[7], [8], [9]]


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_rows_of_fixed_length_are_documents(kind: str, tmp_path: Path) -> None:
    path = _table(tmp_path, {"tokens": pa.array([[5, 6], [7, 8]], pa.list_(pa.int32(), 2))}, kind)
    assert rows_of(path, "text") == [[5, 6], [7, 8]]


BAD_ROWS = {
    "text alone": ({"text": ["a"]}, "text", r"no column input_ids or tokens .* its columns are text \(string\)"),
    "another column": ({"input_ids": [[5]]}, "ids", r"no column ids with a list .* input_ids \(list"),
    "lists of fractions": ({"input_ids": [[0.5]]}, "text", r"no column input_ids or tokens"),
    "two that could be": ({"a": [[5]], "b": [[5]]}, "text", r"its columns are a \(.*\), b \("),
    "null in a list": ({"input_ids": [[5, None]]}, "text", "holds null, expected ids alone"),
    "ids of another tokenizer": ({"input_ids": [[5, 300]]}, "text", "token 1 is 300, expected an id below 300"),
    "negative ids": ({"input_ids": [[-100, 5]]}, "text", "token 0 is -100"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize("kind", ["parquet", "arrow file"])
def test_a_bad_table_is_a_sentence(case: str, kind: str, tmp_path: Path) -> None:
    columns, field, sentence = BAD_ROWS[case]
    path = _table(tmp_path, columns, kind)
    with pytest.raises(UserError, match=sentence) as raised:
        rows_of(path, field)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_a_table_cut_off_is_a_sentence(kind: str, cut: float, tmp_path: Path) -> None:
    path = _table(tmp_path, {"input_ids": [[5, 6, 7]] * 5000}, kind, 1000)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(
        UserError, match=rf"a\.{path.suffix[1:]}.*(is damaged|no table|cannot be (read|fetched)|pyarrow)"
    ):
        rows_of(path, "text")


@pytest.mark.slow
def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    """A file of 128 million ids, of which nothing but a few documents is more than marks."""
    import tracemalloc

    with (tmp_path / "a.bin").open("wb") as stream:
        stream.truncate(1 << 28)
        for place in (0, 1 << 27, (1 << 28) - 8):
            stream.seek(place)
            stream.write(np.array([5, 6, 7, EOS], U16).tobytes())
    tracemalloc.start()
    found = lists(open_raw(tmp_path / "a.bin", U16).marked(0, 1 << 27, (BOS, EOS)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [[5, 6, 7]] * 3 and peak < 1 << 27
