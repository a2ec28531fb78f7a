"""Files of problems that people have: read as they are, or refused in a sentence that names file, line and field."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.evaluation.measuring import benchmarks
from stillroom.evaluation.measuring.benchmarks import gsm8k, load_benchmark, math500, mbpp
from stillroom.evaluation.measuring.counterfactual import read_counterfactuals
from stillroom.evaluation.measuring.problem_files import read_problem_records
from stillroom.types import UserError

GOOD = {"question": "Wie viele? ½ é 😀\u2028", "answer": "so #### 4"}
LINE = json.dumps(GOOD, ensure_ascii=False) + "\n"
FIELDS = ("question", "answer")


def read(tmp_path: Path, data: bytes, name: str = "x.jsonl") -> list[dict[str, Any]]:
    path = tmp_path / name
    path.write_bytes(data)
    return read_problem_records(str(path), "gsm8k", FIELDS)


ENCODED = {
    "plain": LINE.encode(),
    "byte order mark": LINE.encode("utf-8-sig"),
    "UTF-16": LINE.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + LINE.encode("utf-16-be"),
    "UTF-32": LINE.encode("utf-32"),
    "gzip": gzip.compress(LINE.encode()),
    "gzip with a mark inside": gzip.compress(LINE.encode("utf-8-sig")),
    "bzip2": bz2.compress(LINE.encode()),
    "xz": lzma.compress(LINE.encode()),
    "zstandard": zstandard.compress(LINE.encode()),
    "Windows lines": LINE.replace("\n", "\r\n\r\n").encode(),
    "no last newline": LINE.rstrip("\n").encode(),
    "empty lines": b"\n\n" + LINE.encode() + b"\n",
    "a list": json.dumps([GOOD]).encode(),
    "a list over lines": json.dumps([GOOD], indent=2).encode("utf-8-sig"),
    "one record over lines": json.dumps(GOOD, indent=2).encode(),
    "escaped": json.dumps(GOOD).encode(),
}


@pytest.mark.parametrize("form", ENCODED)
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.jsonl.gz", "x"])
def test_what_a_file_holds_decides_how_it_is_read(tmp_path: Path, form: str, name: str) -> None:
    assert read(tmp_path, ENCODED[form], name) == [GOOD]


def test_a_very_long_line_is_read(tmp_path: Path) -> None:
    long = GOOD | {"question": "q" * 5_000_000}
    assert read(tmp_path, json.dumps(long).encode()) == [long]


def line(**changes: Any) -> bytes:
    return (LINE + json.dumps(GOOD | changes)).encode()


AT = r"record 2 of .*x\.jsonl \(line 2\)"
REFUSED: dict[str, tuple[bytes, str]] = {
    "null": (line(question=None), rf"{AT} has question null, expected a text that is not empty"),
    "true": (line(answer=True), rf"{AT} has answer true, expected a text"),
    "list": (line(answer=[4]), rf"{AT} has answer \[4\], expected a text"),
    "object": (line(question={"a": 1}), rf"{AT} has question \{{.*, expected a text"),
    "empty": (line(question=""), rf'{AT} has question "", expected a text that is not empty'),
    "spaces": (line(question=" \n"), rf"{AT} has question .*, expected a text that is not empty"),
    "no number": (line(answer="many"), rf'{AT} has answer "many", which holds no number'),
    "missing": (LINE.encode() + b'{"question": "q"}', rf"{AT} has no field answer"),
    "half a character": (LINE.encode() + rb'{"question": "\ud800", "answer": "1"}', rf"{AT} has question .*surrogates"),
    "a line after an empty one": (LINE.encode() + b"\n" + b'{"answer": 1}', r"record 2 of .* \(line 3\) has no field"),
    "a number": (LINE.encode() + b"3", rf"{AT} is 3, expected an object with question, answer"),
    "a null line": (LINE.encode() + b"null", rf"{AT} is null, expected an object"),
    "a list line": (LINE.encode() + b'["q", "a"]', rf"{AT} is \[.*, expected an object"),
    "comma": (LINE.encode() + b'{"question": "q", "answer": "1",}', r"x\.jsonl: line 2, column \d+: is not JSON"),
    "commas": (LINE.strip().encode() + b",\n" + LINE.encode(), r"x\.jsonl: line 1, column \d+: is not JSON"),
    "single quotes": (b"{'question': 'q'}", r"line 1, column 2: is not JSON"),
    "cut": (LINE.encode() + LINE.encode()[:20], r"line 2, column \d+: is not JSON"),
    "cut list": (json.dumps([GOOD]).encode()[:-1], r"line 1, column \d+: is not JSON"),
    "NaN": (LINE.encode() + b'{"question": "q", "answer": NaN}', r"line 2: is not JSON \(NaN"),
    "infinity": (LINE.encode() + b'{"question": "q", "answer": -Infinity}', r"line 2: is not JSON \(-Infinity"),
    "too many digits": (LINE.encode() + b'{"question": "q", "answer": ' + b"9" * 5000 + b"}", r"line 2: is not JSON"),
    "too deep": (LINE.encode() + b'{"question": ' + b"[" * 100000, r"line 2: is not JSON \(nested too deeply"),
    "twice the field": (b'{"question": "q", "question": "p"}', r"line 1: .*the field question comes twice"),
    "twice the id": (line(id=7).replace(b'"answer"', b'"id": 7, "answer"', 1), r"has the id of record 1 \(7\)"),
    "Latin-1": (LINE.encode() + '{"question": "é"}'.encode("latin-1"), r"line 2 is not UTF-8 \(byte 0xe9\); save"),
    "UTF-16 without its mark": (LINE.encode("utf-16-le"), r"zero byte, as UTF-16 does|is not UTF-8"),
    "half of UTF-16": (LINE.encode("utf-16")[:-1], r"is not UTF-16"),
    "empty file": (b"", r"holds no records"),
    "only a mark": (b"\xef\xbb\xbf", r"holds no records"),
    "blank": (b"\n \n", r"holds no records"),
    "empty list": (b"[]", r"holds no records"),
    "cut gzip": (gzip.compress(LINE.encode())[:-9], r"cannot be decompressed \(gzip"),
    "damaged gzip": (gzip.compress(LINE.encode())[:-8] + b"12345678", r"cannot be decompressed \(gzip"),
    "cut bzip2": (bz2.compress(LINE.encode())[:-4], r"cannot be decompressed \(bzip2"),
    "cut xz": (lzma.compress(LINE.encode())[:-4], r"cannot be decompressed \(xz"),
    "damaged zstandard": (zstandard.compress(LINE.encode())[:6] + b"123", r"cannot be decompressed|no records"),
    "cut zstandard": (zstandard.compress(LINE.encode())[:-3], r"cannot be decompressed \(zstandard"),
    "not Parquet": (b"PAR1 but no more", r"is no whole Parquet file"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(20), r"is not UTF-8"),
    "a table": (b"question,answer\nq,1\n", r"line 1, column 1: is not JSON"),
    "a web page": (b"<!doctype html>\n<html>", r"line 1, column 1: is not JSON"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"line 1, column 1: is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_by_file_line_and_field(tmp_path: Path, what: str) -> None:
    data, said = REFUSED[what]
    if what == "not Parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=said) as told:
        read(tmp_path, data)
    assert "x.jsonl" in str(told.value) and "elete" not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(("given", "read_as"), [(4, "4"), (-2.5, "-2.5"), ("4", "4"), (0, "0"), (10**20, str(10**20))])
def test_a_number_that_stands_for_a_text_is_read(tmp_path: Path, given: Any, read_as: str) -> None:
    (record,) = read(tmp_path, json.dumps({"question": "q", "answer": given}).encode())
    assert record["answer"] == read_as
    assert gsm8k([record]).problems[0].grade(f"It is {read_as}") is not None


@pytest.mark.parametrize("place", ["folder", "link", "long", "nul", "missing"])
def test_what_is_no_file_is_said(tmp_path: Path, place: str) -> None:
    path = {"folder": str(tmp_path), "link": str(tmp_path / "l"), "long": "x" * 5000, "nul": "a\0b", "missing": "m"}[
        place
    ]
    if place == "link":
        (tmp_path / "l").symlink_to(tmp_path / "l")
    with pytest.raises(UserError):
        read_problem_records(path, "gsm8k", FIELDS)


PROGRAM = {"text": "Add.", "test_list": ["assert f(1) == 2"], "task_id": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_list": []}, r"has test_list \[\], expected a list of texts that is not empty"),
        ({"test_list": None}, r"has test_list null, expected a list"),
        ({"test_list": "assert f(1) == 2"}, r'has test_list "assert.*, expected a list'),
        ({"test_list": [None]}, r"has test_list\.0 null, expected a text"),
        ({"test_list": [""]}, r'has test_list\.0 "", expected a text'),
        ({"text": None}, r"has no field text"),
        ({"text": ""}, r'has text "", expected a text'),
        ({"test_setup_code": 5}, r"has test_setup_code 5, expected a text"),
        ({"test_setup_code": ["x"]}, r"has test_setup_code \[\"x\"\], expected a text"),
        ({"test_imports": "import math"}, r"has test_imports"),
        ({"test_imports": [None]}, r"has test_imports"),
    ],
)
def test_program_tasks_hold_what_they_must(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(PROGRAM | changes))
    with pytest.raises(UserError, match=r"record 1 of .*x\.jsonl \(line 1\) " + said):
        load_benchmark("mbpp", str(path))
    with pytest.raises(UserError, match="mbpp: record 1 " + said):
        mbpp([PROGRAM | changes])


def test_a_program_task_needs_a_task() -> None:
    with pytest.raises(UserError, match="record 1 has no field text"):
        mbpp([{"test_list": ["assert f(1) == 2"]}])


def test_a_competition_problem_holds_what_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "require_math_verify", lambda: None)
    for record, said in (({"answer": "1"}, "no field problem"), ({"problem": None, "answer": "1"}, "problem null")):
        with pytest.raises(UserError, match=f"math500: record 1 has {said}"):
            math500([record])


FACT = {"context": "Oslo is in Peru.", "question": "Where?", "answer": ["Peru"], "memory_answer": "Norway"}


@pytest.mark.parametrize("field", FACT)
@pytest.mark.parametrize("value", [None, [], "", {}, [None], [""], True])
def test_counterfactuals_hold_what_they_must(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(FACT | {field: value}))
    with pytest.raises(UserError, match=rf"counterfactual: record 1 of .*x\.jsonl \(line 1\) has {field}"):
        read_counterfactuals(str(path))


def test_a_year_is_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(FACT | {"answer": [1814, 1815], "memory_answer": 1905}))
    (item,) = read_counterfactuals(str(path))
    assert (item.context_answer, item.memory_answer) == (" 1814", " 1905")


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_records_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    try:
        read_problem_records(str(path), "gsm8k", FIELDS)
    except UserError as told:
        assert "any.jsonl" in str(told)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["question", "answer", "text", "test_list", "test_setup_code"]), json_values))
@settings(max_examples=200, deadline=None)
def test_any_record_is_a_problem_or_a_sentence(record: dict[str, Any]) -> None:
    for load in (gsm8k, mbpp):
        try:
            load([record])
        except UserError as told:
            assert str(told).endswith(".")
