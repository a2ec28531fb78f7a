"""Artifacts outlive a release: named by what determines them; another version is named, kept and made again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom import results_versions
from stillroom.config import override
from stillroom.corpora import corpus_identity
from stillroom.files import write_json
from stillroom.models import precision_name
from stillroom.study import artifacts as artifacts_module
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.explain import explain_study
from stillroom.study.identities import MADE_BY, mismatches
from stillroom.study.own_precision import _processor_flags, own_precision
from stillroom.study.recipe_files import resolve_recipe
from stillroom.training.distributed import own_device


def micro(*assignments: str):
    return override(resolve_recipe(str(Path(__file__).parents[1] / "micro.py")), list(assignments))


def made(store: ArtifactStore, kind: str, identity) -> Path:
    return store.build(kind, identity, lambda work: write_json(work / "result.json", {})).path


def test_another_source_names_the_same_artifact(tmp_path, monkeypatch):
    store, identity = ArtifactStore(tmp_path), {"tokens": 5}
    folder = made(store, "corpus", identity)
    written = json.loads((folder / "identity.json").read_text())
    assert written.pop(MADE_BY)["source"] and written == identity
    monkeypatch.setattr(artifacts_module, "source_hash", lambda: "another")
    again = store.build("corpus", identity, lambda work: pytest.fail("made again"))
    assert again.reused and again.path == folder


@pytest.mark.parametrize(
    ("extra", "words"),
    [({}, "made by results version 1, this is 2"), ({"code": "abc"}, "made before results had versions")],
)
def test_an_older_version_is_named_and_kept(tmp_path, extra, words):
    store = ArtifactStore(tmp_path)
    old = made(store, "corpus", {"tokens": 5} | extra)
    wanted = {"tokens": 5, "results_version": 2}
    assert store.older("corpus", wanted) == store.older("corpus", dict(wanted))
    said = store.older("corpus", wanted)
    assert said is not None and said.startswith(f"{old.name}: {words}") and "kept; made again under a new name" in said
    assert made(store, "corpus", wanted) != old and old.is_dir()
    assert store.older("corpus", wanted) is None  # this version's is there now
    assert store.older("corpus", {"tokens": 6, "results_version": 2}) is None  # asks for something else


def test_an_older_input_makes_an_older_artifact(tmp_path):
    store = ArtifactStore(tmp_path)
    keys = [made(store, "labels", {"k": 5} | more).name.rpartition("-")[2] for more in ({}, {"results_version": 2})]
    old = made(store, "model", {"labels": keys[0], "width": 3})
    said = store.older("model", {"labels": keys[1], "width": 3})
    assert said == f"{old.name}: made of inputs of another version; kept; made again under a new name"
    assert store.older("model", {"labels": keys[1], "width": 4}) is None


def test_a_raised_version_is_a_part_of_the_identity_and_version_one_is_not(monkeypatch):
    monkeypatch.setitem(results_versions.RESULTS_VERSIONS, "corpus", 1)
    before = corpus_identity(micro().corpus)
    assert "results_version" not in before
    monkeypatch.setitem(results_versions.RESULTS_VERSIONS, "corpus", 2)
    assert corpus_identity(micro().corpus) == before | {"results_version": 2}


def test_mismatches_name_the_innermost_field():
    found, wanted = {"a": {"b": 1, "c": [1, 2]}, "old": 1}, {"a": {"b": 2, "c": [1, 2]}, "new": 3}
    assert {one.field for one in mismatches(found, wanted)} == {"a.b", "old", "new"}


def test_where_nothing_is_there_everything_is_made_and_nothing_written(tmp_path):
    stages = explain_study(micro(), tmp_path / "run", tmp_path / "artifacts")
    assert [one.stage for one in stages][:4] == ["corpus and tokenizer", "teacher", "labels", "evaluate teacher"]
    assert not any(one.is_there for one in stages) and not list(tmp_path.iterdir())
    why = {one.stage: one.why for one in stages}
    assert why["labels"] == "its corpus is made first" and why["dpt90"] == "its labels are made first"


def test_the_field_that_differs_from_the_nearest_artifact_is_named(tmp_path):
    store, config = ArtifactStore(tmp_path / "artifacts"), micro()
    made(store, "corpus", corpus_identity(config.corpus))
    first, *_ = explain_study(config, tmp_path / "run", store.root)
    assert first.is_there
    first, *_ = explain_study(micro("corpus.train_tokens=8000"), tmp_path / "run", store.root)
    assert not first.is_there and "corpus.train_tokens" not in first.why
    assert first.why.endswith("train_tokens is 8192, here 8000")


def test_nobody_waits_for_torch_to_hear_what_would_be_made(tmp_path):
    store, config = ArtifactStore(tmp_path / "artifacts"), micro()
    corpus = made(store, "corpus", corpus_identity(config.corpus))
    manifest = {"identity": corpus.name.removeprefix("corpus-"), "tokenizer_hash": "t", "vocab_size": 300}
    (corpus / "corpus").mkdir()
    write_json(corpus / "corpus" / "corpus.json", manifest)
    recipe, out = str(Path(__file__).parents[1] / "micro.py"), str(tmp_path / "run")
    asked = ["study", recipe, "--explain", "--out", out, "--artifacts", str(store.root)]
    program = (
        "import sys\nfrom stillroom.cli.main import run\ntry:\n    run(sys.argv[1:])\nexcept SystemExit as left:\n"
        "    print(left.code, [name for name in ('torch', 'transformers', 'scipy') if name in sys.modules])\n"
    )
    shown = subprocess.run([sys.executable, "-c", program, *asked], capture_output=True, text=True, timeout=60)
    assert shown.stdout.splitlines()[-1] == "0 []", shown
    assert f"{corpus.name} is used again" in shown.stdout and "+ dpt90: model-" in shown.stdout
    assert "?" not in shown.stdout  # every name is known


@pytest.mark.parametrize("name", ["auto", "fp32", "bf16"])
def test_what_the_system_says_of_the_processor_is_what_torch_says(name):
    assert own_precision(name) == precision_name(name, own_device())


@pytest.mark.parametrize(
    ("text", "flags"),
    [("processor : 0\nflags\t\t: fpu amx_bf16\n", {"fpu", "amx_bf16"}), ("Features : fp asimd bf16\n", None)],
    ids=["x86", "ARM"],
)
def test_torch_is_asked_where_the_system_does_not_say(text, flags, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert _processor_flags() == flags
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia0")]))
    assert _processor_flags() is None
