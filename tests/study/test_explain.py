"""Artifacts outlive a release: named by what determines them; another version is named, kept and made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillroom import results_versions
from stillroom.config import override
from stillroom.corpora import corpus_identity
from stillroom.files import write_json
from stillroom.study import artifacts as artifacts_module
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.explain import explain_study
from stillroom.study.identities import MADE_BY, mismatches
from stillroom.study.recipe_files import resolve_recipe


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
