"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom import files
from stillroom.files import (
    disk_errors,
    fingerprint,
    folder_aside,
    read_json,
    read_json_lines,
    read_json_object,
    read_text,
    reading,
    write_bytes,
    write_json,
)
from stillroom.types import UserError, printable


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.json: no space is left"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_appears_only_when_its_block_ends(tmp_path):
    target = tmp_path / "x"
    with pytest.raises(RuntimeError), folder_aside(target) as scratch:
        (scratch / "part").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with folder_aside(target) as scratch:
        (scratch / "whole").write_text("1")
        assert not target.exists()
    assert [file.name for file in target.iterdir()] == ["whole"]
    with folder_aside(target) as scratch:  # somebody else was first: theirs stays
        (scratch / "late").write_text("2")
    assert [file.name for file in target.iterdir()] == ["whole"]
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_and_a_closed_folder_are_named(tmp_path):
    for code, words in ((errno.ENOSPC, "no space is left"), (errno.EROFS, "cannot be written")):
        with pytest.raises(UserError, match=words) as error, disk_errors(tmp_path):
            raise OSError(code, "x")
        assert str(tmp_path) in str(error.value)
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "x")


def test_damaged_json_is_named(tmp_path):
    write_bytes(tmp_path / "a.json", b"{")
    with pytest.raises(UserError, match=r"a\.json: is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json: no such file"):
        read_json(tmp_path / "b.json")


def test_an_unfinished_last_line_is_left_out_and_a_damaged_middle_is_not(tmp_path):
    log = tmp_path / "m.jsonl"
    log.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_json_lines(log) == [{"a": 1}, {"a": 2}]
    log.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        read_json_lines(log)


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint(1)) == 16 and files.fingerprint(1, 8) == fingerprint(1)[:8]


@pytest.mark.parametrize(
    "code", [errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE]
)
def test_whatever_a_file_system_answers_is_a_sentence(tmp_path, code):
    with pytest.raises(UserError, match="cannot be written") as error, disk_errors(tmp_path / "a"):
        raise OSError(code, os.strerror(code), str(tmp_path))
    assert str(tmp_path) in str(error.value) and os.strerror(code) in str(error.value)
    assert ("move away what is there" in str(error.value)) == (code == errno.EISDIR)
    with pytest.raises(UserError, match="cannot be read"), reading(tmp_path / "a"):
        raise OSError(code, os.strerror(code))


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "latin").write_bytes("ü".encode("latin-1"))
    found = {
        "": "Is a directory",
        "none": "no such file",
        "dangling": "is a link to nowhere",
        "loop": "Too many levels",
        "latin": "not UTF-8 at byte 0",
        "latin/a": "Not a directory",
        "x" * 300: "File name too long",
        "a\0b": "zero byte",
    }
    for name, words in found.items():
        with pytest.raises(UserError, match=words):
            read_text(tmp_path / name)


@pytest.mark.parametrize("text", ["[" * 100_000, "", "{", "1" * 5000])
def test_what_is_no_json_is_refused_and_never_written(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json: is not valid JSON"):
        read_json(path)
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == text and os.listdir(tmp_path) == ["a.json"]


def test_numbers_that_are_not_finite_read_as_null(tmp_path):
    (tmp_path / "a.json").write_text('{"a": NaN, "b": [Infinity, -Infinity, 1.5]}')
    assert read_json(tmp_path / "a.json") == {"a": None, "b": [None, None, 1.5]}


def test_json_of_another_shape_and_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json_object(tmp_path / "a.json") == {"a": 1}
    for text in ("null", "[]", "3"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UserError, match="expected a JSON object"):
            read_json_object(tmp_path / "a.json")
        (tmp_path / "a.jsonl").write_text(text + "\n{}\n")
        with pytest.raises(UserError, match="line 1"):
            read_json_lines(tmp_path / "a.jsonl")


@given(st.text())
def test_a_message_is_one_line_that_a_terminal_shows_and_does_not_obey(text):
    shown = str(UserError(text))
    assert shown == printable(shown) and len(shown.splitlines()) <= 1
    shown.encode("utf-8")  # raises on a lone surrogate
    assert "\x1b" not in shown and "\u202e" not in shown
