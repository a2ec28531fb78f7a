"""What is damaged is named by what is at fault and mended by the same command; an export is whole or absent."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
import xxhash
from rich.console import Console

from stillroom.console import Terminal
from stillroom.labels import Damaged, LabelStore, export_parquet, inspect_store
from stillroom.labels.format import manifest as manifests
from stillroom.labels.format.manifest import Manifest
from stillroom.labels.terminal import inspection_tables
from stillroom.study.labelprogress import bytes_per_token, label_stage
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError
from tiny_labels import TinySequences, contents, make


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A store that may be written to."""
    shutil.copytree(made, tmp_path / "labels")
    return tmp_path / "labels"


def verified(folder: Path) -> int:
    return sum(1 for _ in LabelStore.open(folder).verify())


@pytest.fixture(scope="module")
def others(teacher, corpus, tmp_path_factory) -> dict[str, Path]:
    """Stores of as many sequences: of the same ones with another codec or seed, and of others."""
    root = tmp_path_factory.mktemp("others")
    make(teacher, corpus, root / "codec", codec="top-k", k=20)
    make(teacher, corpus, root / "seed", seed=5)
    make(teacher, TinySequences(seed=7), root / "corpus")
    make(teacher, corpus, root / "shards", shard_sequences=12)
    return {path.name: path for path in root.iterdir()}


@pytest.mark.parametrize("other", ["codec", "seed", "corpus", "shards"])
def test_an_index_of_another_store_is_noticed(folder, others, corpus, other):
    shutil.copy(others[other] / "index.bin", folder / "index.bin")
    with pytest.raises(Damaged, match=r"index\.bin: is damaged"):
        verified(folder)
    with pytest.raises(UserError, match=r"index\.bin: is damaged"):  # and blames neither the corpus nor a shard
        LabelStore.open(folder).lookup(corpus.batch(range(24)).tokens_BT)


@pytest.mark.parametrize("file", ["index.bin", "shards/00000001.bin", "codebook.bin", "manifest.json"])
@pytest.mark.parametrize("other", ["codec", "seed", "corpus"])
def test_a_file_of_another_store_is_noticed(folder, others, file, other):
    shutil.copy(others[other] / file, folder / file)
    with pytest.raises(UserError):
        verified(folder)


def test_a_repeated_sequence_leads_to_its_first_record(teacher, tmp_path):
    class Twice(TinySequences):
        def _one(self, index: int) -> torch.Tensor:
            return super()._one(index % 7)

    make(teacher, Twice(24), tmp_path / "labels")
    assert verified(tmp_path / "labels") == 3


@pytest.mark.parametrize(
    "file", ["index.bin", "shards/00000000.bin", "shards/00000002.bin", "manifest.json", "plan.json", "fidelity.json"]
)
@pytest.mark.parametrize("damage", ["empty", "half", "a bit", "gone", "other"])
def test_the_command_that_made_a_store_mends_it(teacher, corpus, made, folder, file, damage):
    path = folder / file
    data = path.read_bytes()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    new = {"empty": b"", "half": data[: len(data) // 2], "a bit": bytes(changed), "other": b"hello", "gone": None}[
        damage
    ]
    if file == "fidelity.json" and damage == "a bit":
        new = data.replace(b"{", b"[")  # numbers have no checksum; the manifest repeats them, with one
    path.unlink() if new is None else path.write_bytes(new)
    if file == "plan.json" and damage == "gone":
        with pytest.raises(UserError, match="no label store"):
            make(teacher, corpus, folder)
        return
    make(teacher, corpus, folder)
    assert contents(folder) == contents(made)


def test_a_damaged_plan_of_an_unfinished_store_asks_for_a_new_folder(teacher, corpus, folder):
    (folder / "manifest.json").unlink()
    (folder / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"plan\.json: is damaged.*use a new folder"):
        make(teacher, corpus, folder)
    assert (folder / "shards/00000000.bin").exists()


def test_a_codebook_that_is_gone_is_fitted_again(teacher, corpus, made, folder):
    (folder / "codebook.bin").unlink()
    make(teacher, corpus, folder)
    assert contents(folder) == contents(made)


@pytest.mark.parametrize("token", [-1, 300, 2**31, 2**32 + 5])
def test_ids_of_another_tokenizer_are_named(corpus, made, token):
    tokens = corpus.batch([0]).tokens_BT.clone()
    tokens[0, 4] = token
    with pytest.raises(UserError, match=rf"tokenizer of 300 tokens but token id {token} was looked up.*another tok"):
        LabelStore.open(made).lookup(tokens)


def test_a_missing_sequence_names_a_command_that_exists(made):
    with pytest.raises(UserError, match="stillroom label TEACHER --corpus CORPUS --out LABELS"):
        LabelStore.open(made).lookup(TinySequences(seed=5).batch([0]).tokens_BT)


def forged(folder: Path, **changes: Any) -> None:
    """A manifest of other values whose checksum holds."""
    body = json.loads((folder / "manifest.json").read_text())
    body.pop("check")
    for name, value in changes.items():
        inside, _, key = name.rpartition("__")
        (body[inside] if inside else body)[key] = value
    body["check"] = xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True, ensure_ascii=False).encode())
    (folder / "manifest.json").write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_sequences": "many"}, "num_sequences is 'many'"),
        ({"num_sequences": 0}, "num_sequences is 0, expected at least 1"),
        ({"sequence_length": -5}, "sequence_length is -5"),
        ({"num_tokens": 1.5}, "num_tokens is 1.5"),
        ({"num_bytes": None}, "num_bytes is None"),
        ({"identity": []}, "identity is"),
        ({"identity": {"teacher": "x"}}, "identity: has no tokenizer"),
        ({"identity__vocab_size": "three"}, "identity.vocab_size is 'three'"),
        ({"identity__vocab_size": 0}, "identity.vocab_size is 0"),
        ({"labels__codec": "magic"}, "labels: codec"),
        ({"labels__num_samples": -1}, "labels: num_samples"),
        ({"labels__shard_sequences": 0}, "labels: shard_sequences"),
        ({"labels": 7}, "labels is 7"),
        ({"fidelity": "good"}, "fidelity is 'good'"),
        ({"teacher_ce_nats": "low"}, "teacher_ce_nats is 'low'"),
        ({"teacher_ce_nats": float("nan")}, "damaged"),
        ({"fidelity__mean_kl_nats": float("inf")}, "damaged"),
        ({"isolate_documents": "yes"}, "isolate_documents is 'yes'"),
        ({"more": 1}, "is not a manifest"),
    ],
)
def test_a_manifest_of_values_that_no_store_has_is_refused(folder, changes, sentence):
    forged(folder, **changes)
    with pytest.raises(UserError, match=sentence) as refused:
        LabelStore.open(folder)
    assert "\n" not in str(refused.value)


def test_a_number_too_large_to_be_finite_is_refused(folder):
    forged(folder, teacher_ce_nats=1.25)
    text = (folder / "manifest.json").read_text().replace("1.25", "1e999")
    body = json.loads(text)
    body.pop("check")
    check = xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True, ensure_ascii=False).encode())
    (folder / "manifest.json").write_text(text.replace(json.loads(text)["check"], check))
    with pytest.raises(UserError, match="finite"):
        LabelStore.open(folder)


def test_a_deep_manifest_is_damaged(folder):
    (folder / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(Damaged):
        LabelStore.open(folder)


def test_what_a_manifest_says_neither_marks_up_nor_acts_on_a_terminal(folder):
    hostile = "\x1b[2J\x1b]0;owned\x07[/i][bold]\u202e[link=http://x]"
    forged(folder, identity__teacher=hostile, precision=hostile, fidelity__kl=hostile, **{"fidelity__[/i]": hostile})
    console = Console(record=True, width=200, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(inspection_tables(inspect_store(LabelStore.open(folder))))
    text = console.export_text()
    console.file.close()
    assert "\x1b]" not in text and "\x07" not in text and "\u202e" not in text
    assert r"\x1b[2J\x1b]0;owned\x07[/i][bold]\u202e[link=http://x]" in text.replace("\n", "")


def test_an_old_manifest_is_written_again_to_the_same_bytes(made):
    text = (made / "manifest.json").read_text()
    assert manifests.to_text(manifests.from_text(text, Manifest, "x")) == text


class Full:
    """A disk on which no more than so many calls of a writer fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fits: int, code: int = errno.ENOSPC):
        real = pyarrow.parquet.ParquetWriter.write_table
        left = iter(range(fits))

        def write_table(writer: Any, table: Any, *more: Any, **options: Any) -> None:
            if next(left, None) is None:
                raise OSError(code, os.strerror(code))
            real(writer, table, *more, **options)

        monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_table", write_table)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("fits", [0, 1, 2])
@pytest.mark.parametrize("is_there", [False, True])
def test_an_export_is_whole_or_absent(made, tmp_path, monkeypatch, fits, code, is_there):
    monkeypatch.setattr("stillroom.labels.exchange.parquet.EXPORT_RECORDS", 8)
    target = tmp_path / "out" / "labels.parquet"
    if is_there:
        target.parent.mkdir()
        target.write_bytes(b"an older export")
    store = LabelStore.open(made)
    with monkeypatch.context() as patch:
        Full(patch, fits, code)
        with pytest.raises(UserError, match=r"no space is left|cannot be written"):
            export_parquet(store, target)
    assert sorted(path.name for path in target.parent.rglob("*")) == (["labels.parquet"] if is_there else [])
    if is_there:
        assert target.read_bytes() == b"an older export"
    assert export_parquet(store, target) == 24
    assert pyarrow.parquet.read_table(target).num_rows == 24
    assert [path.name for path in target.parent.rglob("*")] == ["labels.parquet"]


def test_an_export_of_a_damaged_store_leaves_nothing(folder, tmp_path):
    data = bytearray((folder / "shards/00000002.bin").read_bytes())
    data[200] ^= 1
    (folder / "shards/00000002.bin").write_bytes(data)
    with pytest.raises(Damaged):
        export_parquet(LabelStore.open(folder), tmp_path / "out.parquet")
    assert not [path for path in tmp_path.iterdir() if "parquet" in path.name]


def test_an_export_onto_a_folder_is_told(made, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    with pytest.raises(UserError, match="there"):
        export_parquet(LabelStore.open(made), tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_progress_counts_whatever_lies_among_the_shards(folder):
    for name, content in (("00000003.bin", b""), ("00000004.bin", b"short"), ("1x.bin", b"x" * 30)):
        (folder / "shards" / name).write_bytes(content)
    with label_stage(StageDisplay(Terminal(quiet=True)), folder) as progress:
        progress(10, 100)
    assert bytes_per_token(folder)
    for path in (folder / "shards").glob("0*"):
        path.write_bytes(b"")
    assert bytes_per_token(folder) is None
