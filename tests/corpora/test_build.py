"""Builds: the same bytes whoever does them, whatever happens on the way; what cannot be is told."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora import Part, Workers, build_corpus, corpus_identity, open_corpus, train_tokenizer
from stillroom.corpora import build as build_module
from stillroom.corpora import ledger as ledger_module
from stillroom.corpora.tasks import task_lists
from stillroom.corpora.tokenizer import save_tokenizer
from stillroom.results_versions import RESULTS_VERSIONS
from stillroom.types import UserError

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["stillroom.corpora.build"])
DONE = "tasks/[!.]*/task.json"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer([f"line {number} of a text, and more\n" for number in range(300)], 400), folder)
    return str(folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """One file of a megabyte of lines, none like another."""
    file = tmp_path_factory.mktemp("text") / "one.txt"
    file.write_text("".join(f"line {n} of a text, and {n * 7919 % 1000} more\n" for n in range(30_000)))
    return file


def config_of(text: Path, tokenizer: str, **changes) -> CorpusConfig:
    source = SourceConfig(kind="files", path=str(text), max_document_chars=400)
    values = {"sequence_length": 32, "train_tokens": 200_000, "heldout_tokens": 4_000, "tokenizer": tokenizer}
    sources = {"one": source, "facts": SourceConfig(kind="facts", share=0.25)}
    return CorpusConfig(sources=sources, **(values | changes))


def bytes_of(folder: Path) -> str:
    """A hash of every byte of a corpus."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What processes of these tests begin with is imported once."""
    process = PROCESSES.Process(target=open_corpus)
    process.start()
    process.join()


@pytest.fixture(scope="module")
def whole(text, tokenizer, tmp_path_factory) -> str:
    """The bytes of the corpus that one process builds at one go."""
    folder = tmp_path_factory.mktemp("whole") / "corpus"
    build_corpus(config_of(text, tokenizer), folder)
    return bytes_of(folder)


def build(config: CorpusConfig, folder: Path, workers: Workers) -> None:
    build_corpus(config, folder, workers=workers)


def started(config: CorpusConfig, folder: Path, **workers) -> BaseProcess:
    process = PROCESSES.Process(target=build, args=(config, folder, Workers(**workers)))
    process.start()
    return process


def ended(*processes: BaseProcess) -> bool:
    """Waits for processes; whether all did what they should."""
    for process in processes:
        process.join()
    return all(process.exitcode == 0 for process in processes)


def left_beside(folder: Path) -> list[str]:
    return [one.name for one in folder.parent.iterdir() if one != folder]


# The same bytes.


def test_two_processes_build_what_one_does_and_leave_nothing_beside(text, tokenizer, whole, tmp_path):
    seen = []
    build_corpus(config_of(text, tokenizer), tmp_path / "corpus", lambda *told: seen.append(told), Workers(jobs=2))
    assert bytes_of(tmp_path / "corpus") == whole and left_beside(tmp_path / "corpus") == []
    assert seen == sorted(seen) and seen[-1] == (204_000, 204_000)


def test_ranks_that_share_a_folder_build_what_one_process_does(text, tokenizer, whole, tmp_path):
    config, folder = config_of(text, tokenizer), tmp_path / "corpus"
    ranks = [started(config, folder, rank=rank, world=3) for rank in range(3)]
    assert ended(*ranks) and bytes_of(folder) == whole and left_beside(folder) == []


def killed_at(config: CorpusConfig, folder: Path, parts: list[float], whole: str, **workers) -> int:
    """Builds, killed after each of these parts of a build's time, and begun again or, where it ended, anew.

    Returns how many times it was in the middle.
    """
    met, begin = 0, time.monotonic()
    assert ended(started(config, folder, **workers))
    seconds = time.monotonic() - begin
    for part in parts:
        if folder.exists():
            assert bytes_of(folder) == whole
            shutil.rmtree(folder)
        process = started(config, folder, **workers)
        time.sleep(part * seconds)
        met += process.is_alive()
        process.kill()
        process.join()
    assert ended(started(config, folder, **workers))
    return met


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_build_that_was_killed_goes_on_to_the_same_bytes(text, tokenizer, whole, tmp_path, jobs, monkeypatch):
    config = config_of(text, tokenizer)
    for attempt in range(8):  # one may have ended before the signal reached it
        folder = tmp_path / str(attempt) / "corpus"
        scratch = folder.parent / ".corpus.unfinished"
        process = started(config, folder, jobs=jobs)
        while len(list(scratch.glob(DONE))) < 3 and process.is_alive():
            time.sleep(0.01)
        process.kill()
        process.join()
        done = {file: file.stat().st_mtime_ns for file in scratch.glob(DONE)}
        if done and not folder.exists():
            break
    assert done and not folder.exists()
    half = scratch / "corpus" / "train" / ".tokens-00000.npy.left" / "tokens-00000.npy"
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"of a process that was killed while it wrote")
    times = {}
    monkeypatch.setattr(build_module, "_remove", lambda place: times.update(
        {file: file.stat().st_mtime_ns for file in place.glob(DONE)}))  # fmt: skip
    build_corpus(config, folder, workers=Workers(jobs=jobs))
    assert done.items() <= times.items()  # what was done is not done again
    assert bytes_of(folder) == whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [{"jobs": 1}, {"jobs": 2}])
def test_twenty_kills_at_random_moments_change_no_byte(text, tokenizer, whole, tmp_path, workers):
    parts = np.random.default_rng(5).uniform(0.0, 1.0, 20).tolist()
    config, folder = config_of(text, tokenizer), tmp_path / "corpus"
    assert killed_at(config, folder, parts, whole, **workers) > 9
    assert bytes_of(folder) == whole and left_beside(folder) == []


def test_a_worker_that_is_lost_changes_nothing(text, tokenizer, whole, tmp_path, caplog):
    lost = []

    def kill_one(done: int, total: int) -> None:
        helpers = [] if lost else children_of(os.getpid(), "stillroom.corpora.workers")
        for process in helpers[:1]:
            os.kill(process, signal.SIGKILL)
            lost.append(process)

    build_corpus(config_of(text, tokenizer), tmp_path / "corpus", kill_one, Workers(jobs=2))
    assert lost and bytes_of(tmp_path / "corpus") == whole
    assert "was lost" in caplog.text


def children_of(parent: int, word: str) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in found if word in Path(f"/proc/{one}/cmdline").read_text()]


def test_when_all_workers_are_lost_it_is_said_and_what_is_done_stays(text, tokenizer, whole, tmp_path):
    def kill_all(done: int, total: int) -> None:
        for process in children_of(os.getpid(), "stillroom.corpora.workers"):
            os.kill(process, signal.SIGKILL)

    config, folder = config_of(text, tokenizer), tmp_path / "corpus"
    with pytest.raises(UserError, match=r"all 2 processes were killed.*fewer jobs, what is done is kept"):
        build_corpus(config, folder, kill_all, Workers(jobs=2))
    assert not folder.exists()
    build_corpus(config, folder)
    assert bytes_of(folder) == whole


def test_two_that_build_at_once_build_one_corpus(text, tokenizer, whole, tmp_path):
    config, folder = config_of(text, tokenizer), tmp_path / "corpus"
    both = [started(config, folder) for _ in range(2)]
    assert ended(*both) and bytes_of(folder) == whole and left_beside(folder) == []


def test_another_corpus_of_that_name_is_not_replaced(text, tokenizer, tmp_path):
    folder = tmp_path / "corpus"
    build_corpus(config_of(text, tokenizer, train_tokens=6_400, heldout_tokens=640), folder)
    before = bytes_of(folder)
    with pytest.raises(UserError, match="is there already and is no corpus of these settings"):
        build_corpus(config_of(text, tokenizer, train_tokens=12_800, heldout_tokens=640), folder)
    assert bytes_of(folder) == before


# What goes wrong.


def stopped(config: CorpusConfig, folder: Path, monkeypatch) -> Path:
    """A build that was stopped after a task of training text; its unfinished folder."""
    real = ledger_module.Ledger._make

    def make(self, task, *arguments):
        if (task.split, task.number) == ("train", 1):
            raise KeyboardInterrupt
        real(self, task, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.Ledger, "_make", make)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(config, folder)
    return folder.with_name(f".{folder.name}.unfinished")


def changed_input(text: Path, tokenizer: str, config: CorpusConfig) -> CorpusConfig:
    text.write_text(text.read_text() + "one line more\n")
    return config


def other_tokenizer(text: Path, tokenizer: str, config: CorpusConfig) -> CorpusConfig:
    save_tokenizer(train_tokenizer(["quite another text"] * 50, 300), Path(tokenizer))
    return config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_input, r"own\.txt: changed since the unfinished corpus in .* was begun; undo that, or remove"),
        (other_tokenizer, r"corpus\.tokenizer: .* is another tokenizer than the one that the unfinished corpus"),
        (lambda text, tokenizer, config: config.model_copy(update={"seed": 7}), r"corpus\.seed: is another one"),
    ],
)
def test_going_on_with_other_input_is_refused_by_name(text, tokenizer, tmp_path, monkeypatch, change, words):
    own, words_of = tmp_path / "own.txt", tmp_path / "words"
    own.write_text(text.read_text()[:300_000])
    save_tokenizer(train_tokenizer(["line of a text, and more"] * 50, 300), words_of)
    config = config_of(own, str(words_of), train_tokens=60_000, heldout_tokens=640)
    folder = tmp_path / "out" / "corpus"
    scratch = stopped(config, folder, monkeypatch)
    config = change(own, str(words_of), config)
    with pytest.raises(UserError, match=words) as error:
        build_corpus(config, folder)
    assert str(scratch) in str(error.value) and not folder.exists()
    shutil.rmtree(scratch)  # what the sentence says
    build_corpus(config, folder)


def flip(place: Path) -> None:
    data = bytearray((place / "data.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (place / "data.bin").write_bytes(bytes(data))


def shorten(place: Path) -> None:
    (place / "data.bin").write_bytes((place / "data.bin").read_bytes()[:-8])


def tell_other_tokens(place: Path) -> None:
    record = json.loads((place / "task.json").read_text())
    (place / "task.json").write_text(json.dumps(record | {"tokens": record["tokens"] + 1}))


def be_another(place: Path) -> None:
    other = next(one for one in sorted(place.parent.glob("heldout-*")) if one != place)
    for name in ("data.bin", "task.json"):
        (place / name).write_bytes((other / name).read_bytes())


@pytest.mark.parametrize(
    "lie",
    [
        flip,
        shorten,
        tell_other_tokens,
        be_another,
        lambda place: (place / "data.bin").unlink(),
        lambda place: (place / "task.json").unlink(),
        lambda place: (place / "task.json").write_text("{"),
        lambda place: (place / "task.json").write_text("[]"),
    ],
    ids=["flip", "shorten", "tokens", "another", "no-data", "no-record", "no-json", "list"],
)
def test_a_ledger_that_lies_is_named_and_heals_as_the_sentence_says(text, tokenizer, whole, tmp_path, monkeypatch, lie):
    config, folder = config_of(text, tokenizer), tmp_path / "corpus"
    scratch = stopped(config, folder, monkeypatch)
    place = sorted(scratch.glob("tasks/train-*"))[0]
    lie(place)
    with pytest.raises(UserError) as error:
        build_corpus(config, folder)
    assert str(place) in str(error.value) and "remove" in str(error.value) and not folder.exists()
    shutil.rmtree(place)
    build_corpus(config, folder)
    assert bytes_of(folder) == whole


def test_a_full_disk_is_told_and_what_is_done_stays(text, tokenizer, whole, tmp_path, monkeypatch):
    config, folder = config_of(text, tokenizer), tmp_path / "corpus"
    real, written = ledger_module._Writer.add, Counter()

    def add(self, name, array):
        written["bytes"] += array.nbytes
        if written["bytes"] > 100_000:
            raise OSError(28, "No space left on device")
        real(self, name, array)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module._Writer, "add", add)
        with pytest.raises(UserError, match=r"no space is left on this disk.*what was complete is kept"):
            build_corpus(config, folder)
    assert list((tmp_path / ".corpus.unfinished").glob(DONE)) and not folder.exists()
    build_corpus(config, folder)
    assert bytes_of(folder) == whole


def test_a_mistake_that_a_helper_meets_is_told_once_and_leaves_nothing(tokenizer, tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(b"line of a text\n" * 40_000 + b"\0" + b"line of a text\n" * 40_000)
    with pytest.raises(UserError, match=r"text\.txt.*binary"):
        build_corpus(config_of(text, tokenizer), tmp_path / "out" / "corpus", workers=Workers(jobs=2))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_tokens": 10**7}, r"sources\.one: holds \d+ train tokens, but its share asks for about 80000\d\d; add"),
        ({"heldout_tokens": 10**6}, r"sources\.one: holds \d+ heldout tokens, but its share asks for about 8000\d\d;"),
        (
            {"sequence_length": 2**20, "heldout_tokens": 2**20},
            r"sources\.one \(.*\): holds no text for the heldout split",
        ),
    ],
)
def test_shares_that_cannot_be_met_are_told_and_nothing_stays(text, tokenizer, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        build_corpus(config_of(text, tokenizer, **changes), tmp_path / "out" / "corpus")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("values", [{"rank": 2, "world": 2}, {"on": "slurm"}, {"on": "ray"}])
def test_workers_that_cannot_be_are_refused(text, tokenizer, tmp_path, values, monkeypatch):
    for package in ("submitit", "ray"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"rank: is 2|pip install 'stillroom\[(slurm|ray)\]'"):
        build_corpus(config_of(text, tokenizer), tmp_path / "corpus", workers=Workers(**values))
    assert list(tmp_path.iterdir()) == []


# Growing.


def test_a_corpus_is_read_while_it_grows_and_is_the_finished_one(text, tokenizer, tmp_path):
    config = config_of(text, tokenizer, shuffle_tokens=32_000)
    finished = build_corpus(config, tmp_path / "finished")
    process = started(config, tmp_path / "corpus")
    growing = open_corpus(tmp_path / "corpus", wait_for=32_000)
    assert len(growing.train) == len(finished.train) and growing.train.shuffle_sequences == 1000
    for split in ("train", "heldout"):
        ours, theirs = getattr(growing, split), getattr(finished, split)
        assert (ours.tokens(range(len(ours))) == theirs.tokens(range(len(theirs)))).all()
    assert ended(process)
    assert growing.tokenizer.get_vocab() == finished.tokenizer.get_vocab()


def test_what_nobody_builds_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("stillroom.corpora.corpus_files._PATIENCE", 0.2)
    with pytest.raises(UserError, match="no process is building it"):
        open_corpus(tmp_path / "corpus", wait_for=100)


def test_training_on_a_growing_corpus_needs_windows(text, tokenizer, tmp_path):
    process = started(config_of(text, tokenizer), tmp_path / "corpus")
    try:
        with pytest.raises(UserError, match=r"shuffled among all tokens.*shuffle_tokens of at most 32000"):
            open_corpus(tmp_path / "corpus", wait_for=32_000)
    finally:
        process.join()


# Far away, and of an earlier schema.


def test_a_corpus_behind_an_address_is_read_through_the_cache(text, tokenizer, tmp_path, monkeypatch):
    import fsspec

    corpus = build_corpus(config_of(text, tokenizer, train_tokens=6_400, heldout_tokens=640), tmp_path / "corpus")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "corpus"), "/far/corpus", recursive=True)
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    far = open_corpus("memory://far/corpus")
    assert not list((tmp_path / "cache").rglob("*.npy"))
    for split in ("train", "heldout"):
        ours, theirs = getattr(far, split), getattr(corpus, split)
        assert (ours.tokens(range(len(ours))) == theirs.tokens(range(len(theirs)))).all()
    assert far.tokenizer.get_vocab() == corpus.tokenizer.get_vocab()
    cached = next((tmp_path / "cache").rglob("train/tokens-00000.npy"))
    cached.write_bytes(b"damaged")
    again = open_corpus("memory://far/corpus")
    assert (again.train.tokens([0]) == corpus.train.tokens([0])).all()
    memory.rm("/far/corpus", recursive=True)
    with pytest.raises(UserError, match=r"has no checksums\.json, expected a finished corpus"):
        open_corpus("memory://far/corpus")


def test_a_folder_of_schema_1_still_opens(text, tokenizer, tmp_path):
    corpus = build_corpus(config_of(text, tokenizer, train_tokens=6_400, heldout_tokens=640), tmp_path / "corpus")
    before = corpus.train.tokens(range(200))
    manifest = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    kept = ("identity", "sources", "source_configs", "isolate_documents", "sequence_length", "vocab_size",
            "tokenizer_hash", "bos", "eos", "bytes_counted")  # fmt: skip
    (tmp_path / "corpus" / "checksums.json").unlink()
    (tmp_path / "corpus" / "corpus.json").write_text(
        json.dumps({"schema": 1} | {name: manifest[name] for name in kept})
    )
    old = open_corpus(tmp_path / "corpus")
    assert (old.train.tokens(range(200)) == before).all() and old.train.shuffle_sequences == 0


def test_no_text_stands_on_both_sides_and_duplicates_are_counted(tokenizer, tmp_path):
    lines = [f"text {number % 500}, and words that are its own: {number % 500 * 7919}\n" for number in range(2_000)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    source = SourceConfig(kind="files", path=str(tmp_path / "rows.jsonl"))
    values = {"sequence_length": 16, "tokenizer": tokenizer, "train_tokens": 9_600, "heldout_tokens": 320}
    for number, (packing, deduplicate) in enumerate((("concat", False), ("best-fit", True))):
        config = CorpusConfig(sources={"rows": source}, packing=packing, deduplicate=deduplicate, **values)
        corpus = build_corpus(config, tmp_path / f"corpus-{number}")
        said = []
        for part in (corpus.train, corpus.heldout):
            text = corpus.tokenizer.decode(part.tokens(range(len(part))).reshape(-1))
            said.append(re.findall(r"text (\d+), and", text))
        assert all(said) and not set(said[0]) & set(said[1])
        if deduplicate:
            assert corpus.manifest["duplicates"]["rows"] > 100
            assert all(len(found) == len(set(found)) for found in said)
            assert 0 <= corpus.manifest["packing"]["rows"]["padded"] < 0.2


LARGE_PARTS = {"one": [Part("large.txt", start, start + 1, "bytes", 1 << 17) for start in range(1 << 11)]}


@pytest.mark.parametrize(("tokens", "stage"), [(14_000_000, "corpus"), (60_000_000, "large-corpus")])
def test_tasks_stay_small_and_a_large_corpus_has_a_version_of_its_own(text, tokenizer, tokens, stage):
    config = CorpusConfig(
        sources={"one": SourceConfig(kind="files", path=str(text))}, train_tokens=tokens, heldout_tokens=4_000,
        tokenizer=tokenizer,
    )  # fmt: skip
    assert corpus_identity(config)["results_version"] == RESULTS_VERSIONS[stage]
    sizes = [task.size for task in task_lists(config, LARGE_PARTS)["train", "one"].tasks]
    assert max(sizes) <= (1 << 21) + (1 << 17) and sum(sizes) == 1 << 28


def test_text_is_used_again_as_often_as_its_epochs_allow(tokenizer, tmp_path):
    (tmp_path / "one.txt").write_text("".join(f"line {number} of {number * 77}\n" for number in range(2_000)))
    values = {"sequence_length": 16, "tokenizer": tokenizer, "heldout_tokens": 64}
    once = SourceConfig(kind="files", path=str(tmp_path / "one.txt"), max_document_chars=200)
    with pytest.raises(UserError, match=r"holds (\d+) train tokens.*raise epochs") as error:
        build_corpus(CorpusConfig(sources={"one": once}, train_tokens=10**6, **values), tmp_path / "no")
    held = int(re.findall(r"holds (\d+)", str(error.value))[0])
    more = once.model_copy(update={"epochs": 2.5})
    corpus = build_corpus(CorpusConfig(sources={"one": more}, train_tokens=2 * held, **values), tmp_path / "corpus")
    assert corpus.manifest["epochs"]["one"] == pytest.approx(2, abs=0.1)
    with pytest.raises(UserError, match=r"used 2\.5 times, as epochs of the source allows"):
        build_corpus(CorpusConfig(sources={"one": more}, train_tokens=3 * held, **values), tmp_path / "no")
