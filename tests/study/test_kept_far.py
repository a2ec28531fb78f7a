"""Studies, corpora and labels that are kept at an address: a machine that is gone loses nothing, another goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty import Faulty, count, fault, faulty_store
from small_study import small_study
from stillroom import stores
from stillroom.cli import main
from stillroom.config import StudyConfig
from stillroom.corpora import open_corpus
from stillroom.labels import LabelStore
from stillroom.stores import home_of
from stillroom.study import interrupts
from stillroom.study.elsewhere import check_elsewhere
from stillroom.study.explain import explain_study
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError

ADDRESS = "faulty://bucket/runs/artifacts"


@pytest.fixture(autouse=True)
def _store(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(stores, "POLL_SECONDS", 0.01)
    with faulty_store():
        yield


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this process one on another machine, whose disk is empty: its folder."""

    def begin(name: str) -> Path:
        monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / name / "cache"))
        return tmp_path / name

    return begin


def quick() -> StudyConfig:
    """The small study on worlds alone."""
    config = small_study()
    sources = {name: source for name, source in config.corpus.sources.items() if name != "python"}
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"sources": sources})})


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def stillroom(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        main.run(list(arguments))
    return caught.value.code


def test_a_training_that_was_stopped_goes_on_elsewhere_bit_for_bit(machine, monkeypatch):
    config = quick()
    alone = weights(run_single(config, "spt", machine("alone") / "artifacts", StageDisplay()))
    here, steps = machine("a"), []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(interrupts.Stopper, "asked", lambda self: steps.append(1) or len(steps) == 4)
        run_single(config, "spt", home_of(ADDRESS), StageDisplay())
    shutil.rmtree(here)
    machine("b")
    Faulty.calls.clear()
    model = run_single(config, "spt", home_of(ADDRESS), StageDisplay())
    assert weights(model) == alone
    assert any(name.startswith("corpus-") for name in map(_artifact, Faulty.store))
    assert count("get") and not [path for path in Faulty.store if "unfinished" in path or path.endswith(".claim")]
    lines = [line for line in (model / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
    assert len(lines) == 8
    (model / "model" / "model.safetensors").write_bytes(b"damaged")  # fetched again and not made again
    Faulty.calls.clear()
    assert weights(run_single(config, "spt", home_of(ADDRESS), StageDisplay())) == alone
    assert count("get") == {"model.safetensors": 1}


def _artifact(path: str) -> str:
    return path.removeprefix("/bucket/runs/artifacts/").partition("/")[0]


@pytest.mark.slow
def test_a_finished_study_is_made_of_what_is_kept_and_needs_nothing_else(machine):
    config = quick()
    first = run_study(config, machine("a") / "run", home_of(ADDRESS), StageDisplay())
    puts = len(Faulty.store)
    there = machine("b")
    explained = explain_study(config, there / "run", home_of(ADDRESS))
    assert all(one.is_there for one in explained) and not (there / "cache" / "stores").exists()
    run = run_study(config, there / "run", home_of(ADDRESS), StageDisplay())
    assert len(Faulty.store) == puts
    for name in ("teacher", "spt", "dpt90"):
        assert weights(run / "models" / name) == weights(first / "models" / name)
    fault("cat", "checksums.json", "forbidden", times=1000)
    with pytest.raises(UserError, match="the keys and what they give a right to"):
        run_study(config, machine("c") / "run", home_of(ADDRESS), StageDisplay())


def test_a_corpus_and_its_labels_are_written_to_an_address_and_read_from_there(machine, tmp_path, capsys):
    far = "faulty://bucket/corpora/small"
    build = ["corpus", "build", "facts", "--out", far, "--train-tokenizer", "300", "--tokens", "2k", "--length", "32",
             "--heldout-tokens", "64", "--jobs", "1"]  # fmt: skip
    machine("a")
    assert stillroom(*build) == 0, capsys.readouterr().err
    assert far in " ".join(capsys.readouterr().out.split())
    machine("b")
    assert len(open_corpus(far).train) > 30
    label = ["label", "world:bigram", "--tokens", "2048", "--length", "64", "--out", "faulty://bucket/labels/small"]
    assert stillroom(*label) == 0
    store = LabelStore.open("faulty://bucket/labels/small", cache=tmp_path / "cache")
    assert list(store.verify()) == [1]
    machine("c")
    assert stillroom(*label) == 0 and stillroom(*build) == 0
    assert stillroom(*label[:-3], "32", *label[-2:]) == 2  # other labels are there


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study", "tiny", "--out", "s3://bucket/run"], "is an address; expected a folder of this machine"),
        (["study", "tiny", "--artifacts", "s3://bucket"], "names no folder of a store"),
        (["study", "tiny", "--artifacts", "https://host/x/y"], "can be read and not written"),
        (["label", "world:bigram", "--tokens", "64", "--out", "ftp://me:pw@host/x"], "holds a name, password"),
        (
            [
                "corpus",
                "build",
                "facts",
                "--out",
                "s3://bucket/c",
                "--world",
                "2",
                "--tokens",
                "2k",
                "--length",
                "64",
                "--train-tokenizer",
                "300",
            ],
            "a folder that all see",
        ),
        (["study", "tiny", "--artifacts", "nosuch://bucket/x", "--explain"], "cannot be opened"),
    ],
)
def test_what_cannot_be_kept_at_an_address_is_a_sentence(machine, arguments, said, capsys, monkeypatch):
    here = machine("a")
    here.mkdir()
    monkeypatch.chdir(here)
    assert stillroom(*arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error and "pw" not in error
    assert not list(here.rglob("*"))


def test_an_address_of_this_machine_is_its_folder(machine, tmp_path):
    here = machine("a")
    assert stillroom("label", "world:bigram", "--tokens", "512", "--length", "64", "--out", f"file://{here}/out") == 0
    assert (here / "out" / "manifest.json").is_file() and not (here / "cache" / "stores").exists()


def test_jobs_of_a_scheduler_share_a_folder(machine):
    machine("a")
    with pytest.raises(UserError, match=r"--artifacts faulty://bucket/runs/artifacts: jobs of slurm need a folder"):
        check_elsewhere("bf16", small_study().resources, "slurm", 1, home_of(ADDRESS))


def test_ranks_of_torchrun_share_a_folder(machine, monkeypatch, capsys):
    machine("a")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert stillroom("label", "world:bigram", "--tokens", "64", "--out", "faulty://bucket/labels/x") == 2
    assert "ranks of torchrun" in " ".join(capsys.readouterr().err.split())
