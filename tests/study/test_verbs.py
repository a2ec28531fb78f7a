"""The verbs that work on parts of a finished study: label, inspect, evaluate, and Parquet both ways."""

from __future__ import annotations

import json

import pytest
import torch

from stillroom.corpora import open_corpus
from stillroom.labels import LabelStore
from stillroom.study.evaluations import evaluate_models
from stillroom.study.inspect import inspect_path
from stillroom.study.label_stage import LabelRequest, export_labels, import_labels, label_corpus
from stillroom.study.pipeline import run_single
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import available_recipes, resolve_recipe
from stillroom.types import UserError

TOKENS = 1024


@pytest.fixture(scope="module")
def parts(tmp_path_factory, micro_recipe):
    """A corpus and a trained model of the micro study."""
    root = tmp_path_factory.mktemp("verbs")
    model = run_single(resolve_recipe(str(micro_recipe)), "spt", root / "artifacts", StageDisplay())
    return next((root / "artifacts").glob("corpus-*")) / "corpus", model


@pytest.fixture(scope="module")
def labelled(parts, tmp_path_factory):
    corpus, model = parts
    out = tmp_path_factory.mktemp("labels") / "store"
    label_corpus(LabelRequest(str(model), corpus, out, {"num_samples": 20}, TOKENS, dry_run=False), StageDisplay())
    return out


def test_label_keeps_labels_of_the_first_tokens(parts, labelled):
    corpus = open_corpus(parts[0])
    store = LabelStore.open(labelled)
    assert store.manifest.num_tokens == TOKENS and store.manifest.labels["num_samples"] == 20
    sequences = corpus.train.first(TOKENS)
    labels = store.lookup(sequences.batch(range(len(sequences))).tokens_BT)
    torch.testing.assert_close(labels.weights.sum(-1), torch.ones_like(labels.entropy))


def test_a_dry_run_prices_labels_and_writes_nothing(parts, tmp_path, capsys):
    corpus, model = parts
    display = StageDisplay()
    label_corpus(LabelRequest(str(model), corpus, tmp_path / "out", {}, None, dry_run=True), display)
    words = capsys.readouterr().err
    assert "8,192 tokens" in words and "teacher FLOPs" in words and "hours" in words and "Nothing was written" in words
    assert not (tmp_path / "out").exists()


def test_labels_go_to_parquet_and_come_back(parts, labelled, tmp_path):
    count = export_labels(labelled, tmp_path / "labels.parquet", "parquet")
    assert count == TOKENS // 64
    manifest = import_labels(tmp_path / "labels.parquet", "elsewhere", parts[0], tmp_path / "again", None)
    assert manifest.num_tokens == TOKENS and manifest.identity["teacher"] == "elsewhere"
    tokens = open_corpus(parts[0]).train.batch([0]).tokens_BT
    first, second = (LabelStore.open(path).lookup(tokens) for path in (labelled, tmp_path / "again"))
    assert (first.weights.sum(-1) - second.weights.sum(-1)).abs().max() < 0.01
    with pytest.raises(UserError, match=r"give --import-tokens FILE\.npy"):
        sidecar = tmp_path / "x.kd"
        sidecar.write_bytes(b"")
        import_labels(sidecar, "t", parts[0], tmp_path / "kd", None)


def test_inspect_says_what_a_folder_is(parts, labelled, tmp_path, capsys):
    corpus, model = parts
    inspect_path(corpus, verify=False)
    assert "held out" in capsys.readouterr().out
    inspect_path(model / "model", verify=False)
    assert "prefix matching" in capsys.readouterr().out
    inspect_path(labelled, verify=True, tokenizer=corpus / "tokenizer")
    words = capsys.readouterr().out
    assert "bytes per token" in words and "is as it was written" in words
    with pytest.raises(UserError, match="holds none of"):
        inspect_path(tmp_path, verify=False)


def test_models_are_evaluated_side_by_side_and_not_twice(parts, tmp_path, capsys):
    corpus, model = parts
    values = {"heldout_sequences": 8, "copying_sequences": 2, "counterfactual_items": 4}
    evaluate_models([model, model / "model"], corpus, ["lm", "icl"], tmp_path, values, StageDisplay())
    table = capsys.readouterr().out
    assert "bits_per_byte" in table and "log_odds" in table
    files = sorted(tmp_path.glob("*/evaluation.json"))
    assert len(files) == 1  # a run's folder and the model in it are the same model
    before = [(file.read_text(), file.stat().st_mtime_ns) for file in sorted(tmp_path.glob("*/suite-*.json"))]
    found = json.loads(files[0].read_text())
    on = open_corpus(corpus)
    assert found.pop("measured_on") == {"text": on.text_identity, "tokenizer": on.manifest["tokenizer_hash"]}
    assert set(found) == {
        "lm",
        "copying",
        "recall",
        "induction",
        "counterfactual",
        "contamination",
    }
    evaluate_models([model], corpus, ["lm", "icl"], tmp_path, values, StageDisplay())
    assert before == [(file.read_text(), file.stat().st_mtime_ns) for file in sorted(tmp_path.glob("*/suite-*.json"))]
    with pytest.raises(UserError, match="suites"):
        evaluate_models([model], corpus, ["lmm"], tmp_path, {}, StageDisplay())


@pytest.mark.parametrize("name", available_recipes())
def test_every_recipe_parses_and_has_a_plan(name):
    config = resolve_recipe(name)
    assert config.fingerprint() == resolve_recipe(name).fingerprint()
