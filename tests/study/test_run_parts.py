"""A run folder names its parts: links when it is complete, a record under way, and marks beside the artifacts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stillroom.config import StudyConfig, parse
from stillroom.corpora import open_corpus
from stillroom.labels import LabelStore
from stillroom.places import find_part, find_parts
from stillroom.results.runs import load
from stillroom.study.export import export_models
from stillroom.study.needs import NEEDED, USER
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError


def small(micro_recipe: Path, **changes: object) -> StudyConfig:
    """The micro study with two arms and the shortest evaluation."""
    values = resolve_recipe(str(micro_recipe)).model_dump()
    values["arms"] = {"spt": {}, "dpt90": {"alpha": 0.9}}
    values["evaluation"] |= {"suites": ["lm"], "contamination_ngram": 0}
    return parse(StudyConfig, values | changes, "small")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, micro_recipe):
    """A finished run in a folder with a space, a colon and brackets in its name."""
    root = tmp_path_factory.mktemp("parts") / "my runs: [v2]"
    return run_study(small(micro_recipe), root / "run", None, StageDisplay())


def test_links_lead_to_the_parts_from_wherever_the_folder_is_seen(finished, tmp_path):
    for name in ("corpus", "labels", "models/teacher/model", "models/spt/model", "models/dpt90/model"):
        link = finished / name
        assert link.is_symlink() and not os.path.isabs(os.readlink(link)) and any(link.iterdir())
    assert open_corpus(finished).identity == open_corpus(finished / "corpus").identity
    assert LabelStore.open(finished / "labels").manifest.num_tokens == 4096
    assert find_part("model", f"{finished}:dpt90").path == str(finished / "models/dpt90/model")
    assert load(finished).profile is not None and not (finished / "places.json").exists()
    moved = finished.parent.rename(finished.parent.with_name("moved"))
    try:
        assert [part.name for part in find_parts("model", moved / "run")] == ["teacher", "spt", "dpt90"]
        assert open_corpus(moved / "run").train.num_tokens == 8192
    finally:
        moved.rename(finished.parent)


def test_where_links_are_refused_the_places_are_written_and_found(finished, micro_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "symlink", _refuse)
    run = run_study(small(micro_recipe), tmp_path / "run", finished.parent / "artifacts", StageDisplay())
    assert (run / (run / "corpus.path").read_text().strip()).resolve() == (finished / "corpus").resolve()
    assert not (run / "corpus").exists()
    assert Path(find_part("model", f"{run}:spt").path).samefile(finished / "models/spt/model")


def _refuse(target: object, path: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_an_earlier_run_run_again_gets_its_links(finished, micro_recipe, tmp_path):
    run = run_study(small(micro_recipe), tmp_path / "run", finished.parent / "artifacts", StageDisplay())
    (run / "labels").unlink()
    (run / "labels").mkdir()
    (run / "profile.json").rename(run / "labels/profile.json")  # as earlier versions left it
    (run / "checksums.json").unlink()
    assert load(run).profile is not None
    run_study(small(micro_recipe), run, finished.parent / "artifacts", StageDisplay())
    assert (run / "labels").is_symlink() and (run / "profile.json").is_file()


def test_a_run_under_way_names_what_it_has(finished, micro_recipe, tmp_path, monkeypatch):
    """Stopped inside its second student, a study knows its corpus, labels, teacher and first student."""
    import stillroom.study.pipeline as pipeline

    def stopped(work: Path, **asked: object) -> None:
        if asked["run"].name == "dpt90":  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        train(work, **asked)

    train = pipeline.train_into
    monkeypatch.setattr(pipeline, "train_into", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_study(small(micro_recipe), tmp_path / "run", None, StageDisplay())
    run = tmp_path / "run"
    assert open_corpus(run).identity and LabelStore.open(find_part("labels", run).path)
    assert Path(find_part("model", f"{run}:spt").path, "config.json").is_file()
    assert find_part("training", f"{run}:dpt90").path.endswith(".unfinished")
    with pytest.raises(UserError, match="which is not there"):
        find_part("model", f"{run}:dpt90")
    kinds = {one.rpartition("-")[0] for one in marked(tmp_path / "artifacts", "../run")}
    assert kinds == {"corpus", "model", "labels", "evaluation"}


def test_a_mistake_leaves_neither_record_nor_marks(micro_recipe, tmp_path):
    config = small(micro_recipe, teacher={"model": {"path": str(tmp_path / "nowhere")}, "training": None})
    with pytest.raises(UserError, match="nowhere"):
        run_study(config, tmp_path / "runs/run", None, StageDisplay())
    assert not (tmp_path / "runs/run").exists()


def marked(artifacts: Path, user: str) -> set[str]:
    """The artifacts that the marks of the run folder ``user``, seen from the artifacts, name."""
    folders = [one for one in (artifacts / NEEDED).iterdir() if json.loads((one / USER).read_text())["folder"] == user]
    return {one.name for one in folders[0].iterdir()} - {USER}


def test_every_artifact_is_marked_by_the_run_that_needs_it(finished):
    artifacts = finished.parent / "artifacts"
    places = json.loads((finished / "study.json").read_text())["places"]
    named = [places["corpus"], places["labels"], *places["models"].values(), *places["evaluations"].values()]
    assert marked(artifacts, "../run") == {one.removeprefix("../artifacts/").partition("/")[0] for one in named}


@pytest.mark.slow
def test_processes_of_their_own_mark_what_they_make(micro_recipe, tmp_path):
    run_study(small(micro_recipe), tmp_path / "run", None, StageDisplay(), jobs=2)
    made = {one.name for one in (tmp_path / "artifacts").iterdir() if not one.name.startswith(".")}
    assert marked(tmp_path / "artifacts", "../run") == made


def test_one_training_marks_what_it_is_made_of_and_itself(finished, micro_recipe):
    artifacts = finished.parent / "artifacts"
    folder = run_single(small(micro_recipe), "dpt90", artifacts, StageDisplay())
    (marks,) = (artifacts / NEEDED).glob("dpt90-*")
    assert json.loads((marks / USER).read_text())["folder"] == folder.name
    assert len(list(marks.iterdir())) == 5  # user, corpus, teacher, labels, model
    assert Path(find_part("labels", folder).path).samefile(finished / "labels")


def test_export_takes_a_run_and_its_models(finished, tmp_path):
    whole = export_models(finished, tmp_path / "all")
    assert [one.folder for one in whole] == [tmp_path / "all" / name for name in ("teacher", "spt", "dpt90")]
    (one,) = export_models(f"{finished}:dpt90", tmp_path / "one")
    assert (one.folder, one.step) == (tmp_path / "one", None)
    assert (
        (tmp_path / "one/model.safetensors").read_bytes()
        == (tmp_path / "all/dpt90/model.safetensors").read_bytes()
        != (tmp_path / "all/spt/model.safetensors").read_bytes()
    )
    with pytest.raises(UserError, match="has several models; name one as RUN:NAME"):
        export_models(finished, tmp_path / "none", step=3)
    assert not (tmp_path / "none").exists()
