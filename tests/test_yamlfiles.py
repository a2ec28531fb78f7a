"""YAML of every odd kind is read as plain values or refused in a sentence with its line, quickly and in few bytes."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from stillroom.sandbox.recall.recall_presets import preset
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError
from stillroom.yamlfiles import parse_yaml, read_yaml

REFUSED = {
    "a key twice": ("a: 1\nb: 2\na: 3\n", "line 3: field 'a' is given twice"),
    "a key twice inside": ("a:\n  b: 1\n  b: 2\n", "line 3: field 'b' is given twice"),
    "a python object": ("a: !!python/object/apply:os.system ['true']\n", "line 1: holds a value of type"),
    "binary": ("a: !!binary aGk=\n", "line 1: holds a value of type !!binary"),
    "a set": ("a: !!set {x, y}\n", "!!set"),
    "a timestamp by name": ("a: !!timestamp 2024-13-45\n", "!!timestamp"),
    "a local tag": ("a: !thing {}\n", "!thing"),
    "a number that is none": ("a: !!int x\n", "line 1: 'x' is no int"),
    "a number of many digits": (f"a: {'9' * 5000}\n", "is no int"),
    "a number of many hexadecimal digits": (f"a: 0x{'f' * 5000}\n", "more than 300 digits"),
    "a number to the base of sixty": (f"a: {'1:' * 3000}1\n", "more than 300 digits"),
    "an empty number": ("a: !!float ''\n", "line 1: '' is no float"),
    "a truth that is none": ("a: !!bool maybe\n", "line 1: 'maybe' is no bool"),
    "several documents": ("a: 1\n---\nb: 2\n", "line 2"),
    "a tab": ("a:\n\tb: 1\n", "line 2"),
    "an open bracket": ("a: [1, 2\n", "not valid YAML"),
    "a list as a key": ("? [a]\n: 1\n", "unhashable"),
    "a zero byte": ("a: \0\n", "not valid YAML"),
    "an escape code": ("a: \x1b[31m\n", "not valid YAML"),
    "an unknown alias": ("a: *b\n", "line 1"),
    "an alias inside itself": ("a: &a [*a]\n", "inside what it stands for"),
    "nesting": ("[" * 100 + "]" * 100, "nested more than 64 levels"),
    "deep nesting": ("[" * 100_000, "nested"),
    "laughs": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in pairwise("abcdefghi")),
        "values, its aliases counted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_yaml_that_is_not_plain_is_refused_at_once(name, tmp_path):
    text, words = REFUSED[name]
    file = tmp_path / "config.yaml"
    file.write_bytes(text.encode())
    begin = time.monotonic()
    for read in (read_yaml, lambda path: resolve_recipe(str(path)), lambda path: preset(str(path))):
        with pytest.raises(UserError) as error:
            read(file)
        message = str(error.value)
        assert message.startswith(f"{file}: ") and words in message and "\n" not in message
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("text", ["", "[1, 2]", "just text", "42", "null", "- kind: study"])
def test_a_document_of_another_shape_is_no_configuration(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml: kind is"):
        resolve_recipe(str(tmp_path / "config.yaml"))
    with pytest.raises(UserError, match="is no recall study"):
        preset(str(tmp_path / "config.yaml"))


@pytest.mark.parametrize("kind", ["[]", "{a: 1}", "null", "1", "runn", "x" * 100_000])
def test_a_kind_that_is_none_is_named(kind, tmp_path):
    (tmp_path / "config.yaml").write_text(f"kind: {kind}\n")
    with pytest.raises(UserError, match=r"kind is .{1,99}, expected one of study, run"):
        resolve_recipe(str(tmp_path / "config.yaml"))


def test_encodings_with_a_mark_are_read_and_others_refused(tmp_path):
    file = tmp_path / "a.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_text("a: ü\n", encoding=encoding)
        assert read_yaml(file) == {"a": "ü"}
    file.write_bytes("a: ü\n".encode("latin-1"))
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(file)


def test_plain_values_are_what_yaml_says_and_dates_stay_texts():
    text = "a: 1\nb: 0.5\nc: yes\nd: null\ne: [x, 'y']\nf: 2024-01-01\ng: =\nh: &h {i: 1}\nj: {<<: *h, k: 2}\n"
    assert parse_yaml(text, "x") == {
        "a": 1, "b": 0.5, "c": True, "d": None, "e": ["x", "y"], "f": "2024-01-01", "g": "=", "h": {"i": 1},
        "j": {"i": 1, "k": 2},
    }  # fmt: skip


def test_every_frozen_configuration_reads_as_the_plain_loader_reads_it():
    files = sorted(Path(__file__).parents[1].glob("experiments/*/config.yaml"))
    assert files
    for file in files[:2]:
        assert read_yaml(file) == yaml.safe_load(file.read_text())


def test_a_file_without_end_or_of_great_size_is_not_read(tmp_path):
    big = tmp_path / "big.yaml"
    with big.open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(UserError, match="is larger than 2 MiB"):
        read_yaml(big)
    with pytest.raises(UserError, match="is a pipe, a socket or a device"):
        read_yaml(Path("/dev/zero"))
