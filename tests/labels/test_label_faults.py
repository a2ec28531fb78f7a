"""A damaged, foreign or half-made store is noticed, and a killed labelling run goes on to the same bytes."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from stillroom.files import write_bytes
from stillroom.labels import Damaged, LabelStore
from stillroom.labels.format.layout import SCHEMA, checksum
from stillroom.types import SoftLabels, UserError
from tiny_labels import TinySequences, contents, make


def everything(folder: Path, corpus: TinySequences) -> SoftLabels:
    """All labels of a store, every byte checked on the way."""
    store = LabelStore.open(folder)
    for _ in store.verify():
        pass
    return store.lookup(corpus.batch(range(len(corpus))).tokens_BT)


def same(first: SoftLabels, second: SoftLabels) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("ids", "weights", "entropy", "gold_logprob", "gold_rank")
    )


@pytest.fixture(scope="module")
def small(teacher, tmp_path_factory):
    """A store of four short sequences, small enough to try every byte of it."""
    corpus = TinySequences(count=4, sequence_length=8)
    folder = tmp_path_factory.mktemp("small") / "labels"
    make(teacher, corpus, folder, shard_sequences=2, num_samples=8)
    return folder, corpus, everything(folder, corpus)


def noticed(folder: Path, corpus: TinySequences, good: SoftLabels) -> bool:
    """Whether a change raised; where it did not, it changed no label."""
    try:
        found = everything(folder, corpus)
    except UserError:
        return True
    assert same(found, good)
    return False


@pytest.mark.parametrize(
    "file", ["shards/00000000.bin", "shards/00000001.bin", "index.bin", "manifest.json", "codebook.bin"]
)
def test_every_flipped_byte_is_noticed_or_harmless(small, tmp_path, file):
    made, corpus, good = small
    folder = tmp_path / "labels"
    shutil.copytree(made, folder)
    whole = (folder / file).read_bytes()
    missed = []
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << random.Random(place).randrange(8)
        (folder / file).write_bytes(changed)
        if not noticed(folder, corpus, good):
            missed.append(place)
    assert [whole[place : place + 1] for place in missed if file != "manifest.json" or whole[place] not in b" \n"] == []


@pytest.mark.parametrize("file", ["shards/00000000.bin", "index.bin", "manifest.json", "codebook.bin"])
def test_truncation_at_every_length_is_noticed(small, tmp_path, file):
    made, corpus, good = small
    folder = tmp_path / "labels"
    shutil.copytree(made, folder)
    whole = (folder / file).read_bytes().rstrip(b"\n") if file.endswith("json") else (folder / file).read_bytes()
    for length in range(len(whole)):
        (folder / file).write_bytes(whole[:length])
        assert noticed(folder, corpus, good), length


def test_a_lookup_alone_notices_a_flipped_byte_of_its_record(small, tmp_path):
    made, _, _ = small
    folder = tmp_path / "labels"
    shutil.copytree(made, folder)
    store = LabelStore.open(folder)
    store.read([0])
    start = int(store.index.columns["offset"][0])
    path = folder / f"shards/{int(store.index.columns['shard'][0]):08d}.bin"
    data = bytearray(path.read_bytes())
    data[start + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"shards/.*does not match its checksum.*label command again"):
        LabelStore.open(folder).read([0])


def test_a_damaged_shard_is_made_anew_by_the_same_command(teacher, corpus, made, tmp_path):
    folder = tmp_path / "labels"
    shutil.copytree(made, folder)
    (folder / "shards/00000001.bin").write_bytes((folder / "shards/00000001.bin").read_bytes()[:-3])
    make(teacher, corpus, folder)
    assert contents(folder) == contents(made)


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [(SCHEMA + 1, f"schema {SCHEMA + 1}.*reads {SCHEMA}; upgrade"), (1, f"schema 1.*reads {SCHEMA}; run the label")],
)
@pytest.mark.parametrize("file", ["manifest.json", "index.bin", "shards/00000000.bin"])
def test_another_schema_is_refused_in_one_sentence(small, tmp_path, file, schema, sentence):
    made, corpus, _ = small
    folder = tmp_path / "labels"
    shutil.copytree(made, folder)
    path = folder / file
    if file.endswith("json"):
        path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {schema}'))
    else:  # of another version on purpose, not by damage: the checksum holds
        data = bytearray(path.read_bytes())
        data[8:12] = schema.to_bytes(4, "little")
        covered = data[:64] + data[-8 - 2 * 20 : -8] if file.startswith("shards") else data[:-8]
        path.write_bytes(data[:-8] + checksum(bytes(covered)))
    with pytest.raises(UserError, match=sentence) as refused:
        everything(folder, corpus)
    assert str(refused.value).count(". ") == 0


def test_an_identity_that_is_not_expected_is_refused(made):
    with pytest.raises(UserError, match="tokenizer 'k0' but 'k1'"):
        LabelStore.open(made, expect={"tokenizer": "k1"})


def test_a_folder_of_other_files_is_refused(teacher, corpus, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no label store"):
        make(teacher, corpus, tmp_path)


def test_a_missing_shard_is_named(small, tmp_path):
    made, corpus, _ = small
    folder = tmp_path / "labels"
    shutil.copytree(made, folder)
    (folder / "shards/00000001.bin").unlink()
    with pytest.raises(UserError, match=r"no 00000001.bin"):
        everything(folder, corpus)


def test_two_writers_make_one_store(teacher, corpus, made, tmp_path):
    folder = tmp_path / "labels"
    failures: list[BaseException] = []

    def write() -> None:
        try:
            make(teacher, corpus, folder)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert contents(folder) == contents(made)


def test_a_full_disk_ends_in_a_sentence_and_what_was_complete_is_kept(teacher, corpus, made, tmp_path, monkeypatch):
    folder = tmp_path / "labels"
    real, calls = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:  # plan, codebook and the first shard fit
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space is left"):
        make(teacher, corpus, folder)
    monkeypatch.undo()
    assert sorted(path.name for path in (folder / "shards").iterdir()) == ["00000000.bin"]
    make(teacher, corpus, folder)
    assert contents(folder) == contents(made)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_really_is_full(teacher, corpus, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let a test mount a disk")
    try:
        with pytest.raises(UserError, match="no space is left"):
            make(teacher, TinySequences(count=96), disk / "labels")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from tiny_labels import TinySequences, make, tiny_teacher
torch.set_num_threads(1)
teacher = tiny_teacher()
print("ready", flush=True)
sys.stdin.readline()
make(teacher, TinySequences(count={count}), Path({folder!r}), shard_sequences=4)
"""


def killed_runs(folder: Path, count: int, delays: list[float]) -> None:
    """Starts a writer for every delay and kills it so many seconds after it began to label."""
    for delay in delays:
        code = WRITER.format(tests=str(Path(__file__).parents[1]), count=count, folder=str(folder))
        writer = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdin and writer.stdout
        assert writer.stdout.readline() == "ready\n"
        writer.stdin.write("go\n")
        writer.stdin.flush()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_bytes(teacher, tmp_path, kills):
    count = 48 * max(1, kills // 2)
    make(teacher, TinySequences(count=count), tmp_path / "whole", shard_sequences=4)
    chance = random.Random(kills)
    killed_runs(tmp_path / "killed", count, [chance.uniform(0.0, 0.12) for _ in range(kills)])
    make(teacher, TinySequences(count=count), tmp_path / "killed", shard_sequences=4)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_leftovers_of_a_killed_writer_are_tidied_away(teacher, corpus, made, tmp_path):
    folder = tmp_path / "labels"
    (folder / "shards").mkdir(parents=True)
    write_bytes(folder / "plan.json", (made / "plan.json").read_bytes())
    (folder / "shards/.00000000.bin.abc").write_bytes(b"half")
    make(teacher, corpus, folder)
    assert contents(folder) == contents(made)
