"""Labels of the same teacher, tokens and fidelity are used wherever they were made; others are refused by name."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from stillroom.config import StudyConfig, override, parse
from stillroom.study.label_stage import LabelRequest, label_corpus
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError

CHEAP = {"shard_sequences": 16, "num_samples": 8}


def study(micro_recipe: Path, *assignments: str) -> StudyConfig:
    values = resolve_recipe(str(micro_recipe)).model_dump()
    values["arms"] = {"dpt90": {"alpha": 0.9}}
    values["labels"] |= CHEAP
    values["evaluation"] |= {"suites": ["lm"], "contamination_ngram": 0}
    return override(parse(StudyConfig, values, "small"), list(assignments))


def heard() -> tuple[StageDisplay, io.StringIO]:
    words = io.StringIO()
    return StageDisplay(Console(file=words, width=500)), words


def label_all(run: Path, out: Path, tokens: int | None = None, **labels: object) -> Path:
    """As ``stillroom label RUN --corpus RUN --out OUT`` does."""
    request = LabelRequest(str(run), run, out, {**CHEAP, **labels}, tokens, dry_run=False)
    label_corpus(request, StageDisplay())
    return out


@pytest.fixture(scope="module")
def before(tmp_path_factory, micro_recipe):
    """A finished run, and a store of its teacher's labels of the whole corpus that ``label`` made; its own is gone."""
    root = tmp_path_factory.mktemp("found")
    run = run_study(study(micro_recipe), root / "run", None, StageDisplay())
    store = label_all(run, root / "elsewhere")
    for one in (root / "artifacts").glob("labels-*"):
        shutil.rmtree(one)
    return root, store


def test_a_store_made_by_label_is_found_and_said_aloud(before, micro_recipe):
    root, store = before
    display, words = heard()
    run = run_study(study(micro_recipe), root / "again", root / "artifacts", display)
    assert f"used from {store}" in words.getvalue()
    assert not list((root / "artifacts").glob("labels-*")) and (run / "labels").resolve() == store.resolve()
    assert "✓ dpt90 already there" in words.getvalue()  # what it learnt from is the same


def test_a_store_that_was_named_is_used_by_study_and_train(before, micro_recipe, tmp_path):
    root, store = before
    copy = shutil.copytree(store, tmp_path / "my labels [v2]")
    display, words = heard()
    run_study(study(micro_recipe), root / "named", root / "artifacts", display, labels=str(copy))
    run_single(study(micro_recipe), "dpt90", root / "artifacts", display, labels=str(root / "named"))
    assert words.getvalue().count(f"used from {copy}") == 1
    assert f"used from {root / 'named/labels'}" in words.getvalue()


def test_labels_of_another_study_of_fewer_arms_serve_one_of_fewer_tokens(micro_recipe, before):
    root, _ = before
    display, words = heard()
    shorter = study(micro_recipe, "training.tokens=2048")
    run_study(shorter, root / "shorter", root / "artifacts", display)
    assert "labels: of the same teacher, tokens and fidelity" in words.getvalue()


@pytest.mark.parametrize(
    ("assignments", "made", "words"),
    [
        (["labels.num_samples=9"], {}, "labels.num_samples is 8, expected 9 as configured; set labels.num_samples"),
        (["labels.temperature=2.0"], {}, "labels.temperature is 1.0, expected 2.0"),
        (["labels.codec=top-k"], {}, "labels.codec is sampled, expected top-k"),
        (["teacher.training.seed=5"], {}, "are of another teacher"),
        ([], {"tokens": 1024}, "lack 48 of the sequences 0 to 63 of the 64 that are trained on"),
    ],
    ids=["fewer samples", "temperature", "codec", "teacher", "tokens"],
)
def test_labels_that_do_not_fit_are_refused_by_what_differs(before, micro_recipe, tmp_path, assignments, made, words):
    root, store = before
    named = label_all(root / "run", tmp_path / "short", **made) if made else store
    changed = study(micro_recipe, *assignments)
    with pytest.raises(UserError, match=words) as caught:
        run_study(changed, tmp_path / "out", root / "artifacts", StageDisplay(), labels=str(named))
    assert str(named) in str(caught.value) and not (tmp_path / "out").exists()


def test_a_damaged_store_is_refused_where_it_is_named_and_passed_over_where_it_is_not(before, micro_recipe, tmp_path):
    root, store = before
    copy = shutil.copytree(store, tmp_path / "damaged")
    shard = next((copy / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        run_study(study(micro_recipe), tmp_path / "out", root / "artifacts", StageDisplay(), labels=str(copy))


def test_labels_that_nothing_would_learn_from_are_refused(before, micro_recipe, tmp_path):
    root, store = before
    with pytest.raises(UserError, match="no arm of micro learns from stored labels"):
        config = study(micro_recipe, "arms.dpt90.alpha=0")
        run_study(config, tmp_path / "out", root / "artifacts", StageDisplay(), labels=str(store))
    with pytest.raises(UserError, match="learns from hard labels alone"):
        run_single(study(micro_recipe), "teacher", root / "artifacts", StageDisplay(), labels=str(store))
