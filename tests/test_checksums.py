"""A finished folder notices whatever happens to a file of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom import checksums
from stillroom.checksums import DamagedError, check, require, seal, sealed_names

FILES = {"a.json": b'{"a": 1}\n', "model/weights.bin": bytes(range(256)) * 20, "model/deep/er/x.npy": b"", "b": b"\0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "folder"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / ".hidden").write_text("left by somebody")
    seal(folder)
    return folder


def test_every_file_but_hidden_ones_is_named_and_whole(folder):
    assert set(sealed_names(folder)) == set(FILES) and check(folder) == []
    for path in (folder, folder / "model", folder / "a.json", folder / "model/deep/er/x.npy"):
        require(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_any_file_is_noticed(folder, data):
    name = data.draw(st.sampled_from([*(name for name in FILES if FILES[name]), checksums.NAME]))
    file = folder / name
    before = file.read_bytes()
    place = data.draw(st.integers(0, len(before) * 8 - 1))
    changed = bytearray(before)
    changed[place // 8] ^= 1 << place % 8
    file.write_bytes(changed)
    try:
        assert [damage.name for damage in check(folder)] == [name]
        with pytest.raises(DamagedError, match="is damaged"):
            require(folder / "a.json" if name == checksums.NAME else file)
    finally:
        file.write_bytes(before)
    assert check(folder) == []


@pytest.mark.parametrize("name", [*FILES])
@pytest.mark.parametrize("how", ["cut", "longer", "gone", "folder", "swapped"])
def test_files_that_are_cut_gone_or_swapped_are_noticed(folder, name, how):
    file, other = folder / name, folder / ("b" if name != "b" else "a.json")
    before, before_other = file.read_bytes(), other.read_bytes()
    if how == "cut" and not before:
        return
    file.unlink()
    if how == "cut":
        file.write_bytes(before[:-1])
    elif how == "longer":
        file.write_bytes(before + b"\0")
    elif how == "folder":
        file.mkdir()
    elif how == "swapped":
        file.write_bytes(before_other)
        other.write_bytes(before)
    try:
        found = {damage.name for damage in check(folder)}
        assert found == ({name, other.name} if how == "swapped" else {name})
        with pytest.raises(DamagedError) as error:
            require(file if how != "gone" else folder)
        assert name in str(error.value) or other.name in str(error.value)
    finally:
        if file.is_dir():
            file.rmdir()
        file.write_bytes(before)
        other.write_bytes(before_other)


@pytest.mark.parametrize("data", [b"", bytes(4096), b'{"format": "stillroom-checksums"'])
def test_checksums_that_are_empty_or_cut_are_damage(tmp_path, data):
    (tmp_path / "a.json").write_bytes(b"{}")
    (tmp_path / checksums.NAME).write_bytes(data)
    assert [damage.name for damage in check(tmp_path)] == [checksums.NAME]
    with pytest.raises(DamagedError, match=r"checksums\.json: is damaged"):
        require(tmp_path / "a.json")


def test_a_change_that_keeps_size_and_times_is_noticed(folder, monkeypatch):
    monkeypatch.setattr(checksums, "_SETTLED_SECONDS", 0.0)  # as if the file were old: its hash is kept in memory
    file = folder / "model/weights.bin"
    assert check(folder) == []
    stat, before = file.stat(), file.read_bytes()
    file.write_bytes(before[::-1])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [damage.name for damage in check(folder)] == ["model/weights.bin"]
    file.write_bytes(before)
    assert check(folder) == []


def test_a_folder_without_checksums_and_one_of_somebody_elses_are_taken_as_they_are(tmp_path):
    (tmp_path / "a").write_text("1")
    require(tmp_path / "a")
    (tmp_path / "checksums.json").write_text('{"a": "sha256:0000"}')
    require(tmp_path / "a")
    assert sealed_names(tmp_path) == []


def test_the_nearest_checksums_that_tell_of_a_file_count(tmp_path):
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "x").write_text("1")
    seal(tmp_path / "outer")
    seal(inner)
    (inner / "y").write_text("of nobody")
    require(inner / "y")
    (inner / "x").write_text("2")
    with pytest.raises(DamagedError, match="x: is damaged"):
        require(inner / "x")
    with pytest.raises(DamagedError):
        require(tmp_path / "outer")


def test_a_link_to_itself_belongs_to_no_folder(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    require(tmp_path / "loop" / "a")
